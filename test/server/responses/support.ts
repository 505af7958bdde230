import { expect } from "vitest";
import {
  bytes,
  END,
  ScriptedEngine,
  serve,
  sseEvents,
  TOOL_TEMPLATE,
  type Json,
  type Script,
} from "../support.js";

export const URL = "/v1/responses";
export const base = { model: "tiny", input: "Weather?" };
const weather = {
  type: "function",
  name: "get_weather",
  description: "Weather now",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: false,
};
export const tools = [weather];
export const PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
/** Thinks, speaks, calls. */
export const thinks: Script = () => [
  ...bytes("<think>\nHm.\n</think>\n\nLet me see.\n"),
  258,
  ...bytes(`\n${PARIS}\n`),
  259,
  END,
];
const template = `${TOOL_TEMPLATE}{# <think></think> #}`;

export async function start(script: Script, options: object = {}) {
  const engine = new ScriptedEngine(script);
  const info = { maxModelLen: 4096 };
  const server = await serve(engine, { template, info, ...options });
  const prompt = (i = 0): string =>
    [...(engine.requests[i]?.promptTokenIds ?? [])]
      .map((id) => (id < 256 ? String.fromCharCode(id) : `#${id}`))
      .join("");
  const create = async (body: object): Promise<Json> => {
    const response = await server.post(URL, { ...base, ...body });
    expect(response.statusCode, response.body).toBe(200);
    return response.json();
  };
  return { ...server, engine, prompt, create };
}

/** Server-sent events whose names are their types. */
export function eventsOf(body: string): Json[] {
  const lines = body.split("\n").filter((line) => line.startsWith("event: "));
  const events = sseEvents(body.replace(/^event: .*\n/gm, ""));
  expect(events.map(({ type }) => `event: ${type}`)).toEqual(lines);
  return events;
}

export const text = (response: Json): string =>
  response.output
    .flatMap((item: Json) => (item.type === "message" ? item.content : []))
    .map((part: Json) => part.text)
    .join("");
