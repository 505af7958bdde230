/** Plain `ws` clients of WebSocket /v1/responses. */
import { afterEach, expect } from "vitest";
import WebSocket from "ws";
import {
  ScriptedEngine,
  serve,
  TOOL_TEMPLATE,
  type Json,
  type Script,
} from "../support.js";

const model = "tiny";

const sockets: WebSocket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.terminate();
});

/** A server that listens. */
export async function listen(script: Script, options: object = {}) {
  const engine = new ScriptedEngine(script);
  const server = await serve(engine, {
    template: TOOL_TEMPLATE,
    info: { maxModelLen: 4096 },
    ...options,
  });
  const url = await server.app.listen({ port: 0, host: "127.0.0.1" });
  return { ...server, engine, url };
}

/** A plain client that remembers what it was told. */
export async function open(url: string, options: object = {}) {
  const socket = new WebSocket(
    `${url.replace("http", "ws")}/v1/responses`,
    options,
  );
  sockets.push(socket);
  const events: Json[] = [];
  socket.on("message", (data) =>
    events.push(JSON.parse((data as Buffer).toString())),
  );
  const closed = new Promise<number>((resolve) => socket.on("close", resolve));
  await new Promise((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  const send = (message: unknown): void =>
    socket.send(
      typeof message === "string" ? message : JSON.stringify(message),
    );
  const create = (body: object): void =>
    send({ type: "response.create", model, ...body });
  const until = (test: (event: Json) => boolean): Promise<Json> =>
    expect
      .poll(() => events.find(test), { timeout: 10_000, interval: 5 })
      .toBeDefined()
      .then(() => events.find(test));
  return { socket, events, closed, send, create, until };
}

export const isEnd = ({ type }: Json): boolean =>
  /^response\.(completed|incomplete|failed)$/.test(type);
