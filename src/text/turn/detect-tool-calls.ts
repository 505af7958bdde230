/**
 * Reads off a chat template how its model writes tool calls: a conversation with calls of made-up names is rendered,
 * and what stands around them is taken apart. A format counts only if the parser finds those very calls with it in the
 * text that the template wrote.
 */
import { TurnEvents, collectTurn, type ToolCall } from "./events.js";
import { REASONING_FORMATS } from "./reasoning.js";
import {
  TOOL_CALL_FORMATS,
  type Payload,
  type ToolCallFormat,
} from "./tool-call-format.js";
import { ToolCallParser } from "./tool-call-parser.js";

/** Renders messages with tools, or throws where the template refuses them. */
export type Render = (
  messages: readonly ProbeMessage[],
  tools: readonly unknown[] | null,
  addGenerationPrompt: boolean,
) => string;

type ProbeMessage = {
  readonly role: string;
  readonly [field: string]: unknown;
};

const QUESTION = "probe question";
const ANSWER = "probe answer";
const CALLS = [
  { name: "probe_first", arguments: { alpha: "one", beta: [2, true] } },
  { name: "probe_second", arguments: { gamma: "three" } },
] as const;
type Probe = (typeof CALLS)[number];

const TOOLS = CALLS.map(({ name, arguments: values }) => ({
  type: "function",
  function: {
    name,
    description: "A probe.",
    parameters: {
      type: "object",
      properties: Object.fromEntries(
        Object.keys(values).map((key) => [key, { type: "string" }]),
      ),
    },
  },
}));

/** Ids that every template takes come last: they show what the others did not. */
const IDS = [
  ["call_probe0first0id", "call_probe0second0id"],
  ["probeid01", "probeid02"],
] as const;

/** The template prints the tools of a request. */
export function printsTools(render: Render): boolean {
  const question = { role: "user", content: QUESTION };
  return (
    attempt(() => render([question], TOOLS, true))?.includes("probe_first") ??
    false
  );
}

/** The format of the template's tool calls, or null where it has none that is understood. */
export function detectToolCalls(render: Render): ToolCallFormat | null {
  for (const ids of IDS) {
    const bodies = renderCalls(render, ids);
    if (bodies === null) continue;
    const shortIds = ids === IDS[1];
    const known = Object.values(TOOL_CALL_FORMATS);
    // A template that writes a single call well and two of them badly has its model write them as others do.
    const alone = { one: bodies.one, two: null };
    const format =
      [takeApart(bodies), ...known].find((f) => understands(f, bodies)) ??
      [...known, takeApart(alone)].find((f) => understands(f, alone));
    if (format != null)
      return {
        ...format,
        shortIds,
        // An end without a beginning is the turn's.
        sectionEnd: format.sectionBegin === "" ? "" : format.sectionEnd,
      };
  }
  return null;
}

/** What the assistant says when it makes one call, and two (null: refused). */
interface Bodies {
  readonly one: string;
  readonly two: string | null;
}

function attempt<T>(action: () => T): T | null {
  try {
    return action();
  } catch {
    return null;
  }
}

function renderCalls(render: Render, ids: readonly string[]): Bodies | null {
  const question = { role: "user", content: QUESTION };
  const prompt = attempt(() => render([question], TOOLS, true));
  if (prompt === null) return null;
  const turn = (fields: object): string | null =>
    attempt(() =>
      render([question, { role: "assistant", ...fields }], TOOLS, false),
    );
  const answer = turn({ content: ANSWER }) ?? "";
  const body = (calls: readonly Probe[]): string | null => {
    const tool_calls = calls.map(({ name, arguments: values }, i) => ({
      id: ids[i],
      type: "function",
      function: { name, arguments: JSON.stringify(values) },
    }));
    const text =
      turn({ content: null, tool_calls }) ?? turn({ content: "", tool_calls });
    return text === null ? null : spoken(text, prompt, answer);
  };
  const one = body(CALLS.slice(0, 1));
  return one === null ? null : { one, two: body(CALLS) };
}

/** What the model would say: after the prompt, without a prompt's reasoning and the end of the turn. */
function spoken(text: string, prompt: string, answer: string): string | null {
  const starts = Object.values(REASONING_FORMATS).map(({ start }) => start);
  const heads = [
    prompt,
    ...starts.map((start) => {
      const trimmed = prompt.trimEnd();
      return trimmed.endsWith(start) ? trimmed.slice(0, -start.length) : prompt;
    }),
  ];
  const head = heads.find((candidate) => text.startsWith(candidate));
  if (head === undefined) return null;
  let body = text.slice(head.length);
  for (const { end } of Object.values(REASONING_FORMATS)) {
    const place = body.lastIndexOf(end);
    if (place >= 0) body = body.slice(place + end.length);
  }
  return body.slice(0, body.length - commonEnd(body, answer).length).trim();
}

/** The strings around name and arguments. */
interface Pieces {
  readonly before: string;
  readonly after: string;
  readonly payload: Payload;
}

function takeApart({ one, two }: Bodies): ToolCallFormat | null {
  const first = pieces(one, CALLS[0]);
  if (first === null) return null;
  const { payload } = first;
  const rest = { payload, shortIds: false, hints: hintsOf(first.before) };
  const alone = {
    ...rest,
    sectionBegin: "",
    sectionEnd: "",
    callBegin: first.before,
    callEnd: first.after,
    separator: "",
    single: true,
  };
  const left = two === null ? null : pieces(two, CALLS[0]);
  const right = two === null ? null : pieces(two, CALLS[1]);
  if (two === null || left === null || right === null) return alone;
  const middleFrom = two.length - left.after.length;
  const middle = two.slice(middleFrom, right.before.length);
  const callBegin = commonEnd(first.before, middle);
  const callEnd = commonStart(first.after, middle);
  return {
    ...rest,
    sectionBegin: first.before.slice(0, first.before.length - callBegin.length),
    sectionEnd: first.after.slice(callEnd.length),
    callBegin,
    callEnd,
    separator: middle.slice(callEnd.length, middle.length - callBegin.length),
    single: false,
  };
}

/** Llama's models announce calls with a token that their templates do not print. */
function hintsOf(before: string): readonly string[] {
  const { llama3_json: llama } = TOOL_CALL_FORMATS;
  return before === "" ? (llama?.hints ?? []) : [];
}

function pieces(body: string, call: Probe): Pieces | null {
  return jsonPieces(body, call) ?? namedPieces(body, call);
}

/** {"name": "probe_first", "arguments": {...}} */
function jsonPieces(body: string, call: Probe): Pieces | null {
  const place = body.indexOf(JSON.stringify(call.name));
  // The object may begin with other keys than the name, with objects as values too.
  for (let from = place; from >= 0; from = body.lastIndexOf("{", from - 1)) {
    const object = body[from] === "{" ? parseAt(body, from) : null;
    if (object !== null && place < object.end) {
      const entries = Object.entries(object.value);
      const nameKey = entries.find(([, value]) => value === call.name)?.[0];
      const argumentsKey = entries.find(([, value]) => same(value, call))?.[0];
      if (nameKey === undefined || argumentsKey === undefined) return null;
      return {
        before: body.slice(0, from),
        after: body.slice(object.end),
        payload: { kind: "json", nameKey, argumentsKey },
      };
    }
    if (from === 0) break;
  }
  return null;
}

/** probe_first, a marker, {...} */
function namedPieces(body: string, call: Probe): Pieces | null {
  const place = body.indexOf(call.name);
  const brace = place < 0 ? -1 : body.indexOf("{", place);
  const object = brace < 0 ? null : parseAt(body, brace);
  if (object === null || !same(object.value, call)) return null;
  return {
    before: body.slice(0, place),
    after: body.slice(object.end),
    payload: {
      kind: "named",
      between: body.slice(place + call.name.length, brace),
    },
  };
}

/** The arguments, as an object or as its JSON. */
function same(value: unknown, call: Probe): boolean {
  const parsed: unknown =
    typeof value === "string"
      ? attempt(() => JSON.parse(value) as unknown)
      : value;
  return JSON.stringify(parsed) === JSON.stringify(call.arguments);
}

/** The JSON object that begins at `from`, and where it ends. */
function parseAt(
  text: string,
  from: number,
): { value: Record<string, unknown>; end: number } | null {
  for (
    let end = text.indexOf("}", from);
    end >= 0;
    end = text.indexOf("}", end + 1)
  ) {
    const value = attempt(
      () => JSON.parse(text.slice(from, end + 1)) as Record<string, unknown>,
    );
    if (value !== null) return { value, end: end + 1 };
  }
  return null;
}

/** Markers are compared whole: `</tool_call>` and `</s>` begin alike and have nothing in common. */
function units(text: string): string[] {
  return text.match(/<[^<>]*>|\[\/?[A-Z_]+\]|\s+|[^]/g) ?? [];
}

function commonStart(a: string, b: string): string {
  const [left, right] = [units(a), units(b)];
  let count = 0;
  while (count < left.length && left[count] === right[count]) count++;
  return left.slice(0, count).join("");
}

function commonEnd(a: string, b: string): string {
  const [left, right] = [units(a).reverse(), units(b).reverse()];
  let count = 0;
  while (count < left.length && left[count] === right[count]) count++;
  return left.slice(0, count).reverse().join("");
}

/** The parser finds the very calls that the template wrote, and nothing else. */
function understands(
  format: ToolCallFormat | null,
  { one, two }: Bodies,
): boolean {
  if (format === null) return false;
  const reads = (body: string, calls: readonly Probe[]): boolean => {
    const turn = parseWhole(format, body);
    return (
      turn.text === "" &&
      JSON.stringify(turn.calls.map(plain)) === JSON.stringify(calls)
    );
  };
  if (format.payload.kind === "named" && format.callBegin.trim() === "")
    return false;
  return reads(one, CALLS.slice(0, 1)) && (two === null || reads(two, CALLS));
}

function plain({ name, arguments: json }: ToolCall): unknown {
  return { name, arguments: attempt(() => JSON.parse(json) as unknown) };
}

function parseWhole(format: ToolCallFormat, text: string) {
  const events = new TurnEvents();
  const tools = {
    names: new Set(CALLS.map(({ name }) => name)),
    isString: () => false,
  };
  const parser = new ToolCallParser(format, tools, events);
  parser.push(text);
  parser.end();
  return collectTurn(events.take());
}
