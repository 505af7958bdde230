import { collectTurn, type Turn } from "../../../src/text/turn/events.js";
import type { ReasoningFormat } from "../../../src/text/turn/reasoning.js";
import {
  TOOL_CALL_FORMATS,
  type ToolCallFormat,
} from "../../../src/text/turn/tool-call-format.js";
import { TurnParser } from "../../../src/text/turn/turn-parser.js";
import { Utf8Decoder } from "../../../src/text/utf8-decoder.js";

/** Tools that the requests of these tests have. */
export const NAMES = ["get_weather", "math.add", "ping"];

export function formatOf(name: string): ToolCallFormat {
  const format = TOOL_CALL_FORMATS[name];
  if (format === undefined) throw new Error(`no format ${name}`);
  return format;
}

export interface ParseOptions {
  reasoning?: { format: ReasoningFormat; begun: boolean } | null;
  maxCalls?: number;
}

/** The turn that a format's parser finds in a text that comes in these pieces. */
export function parse(
  format: ToolCallFormat | null,
  pieces: readonly string[],
  { reasoning = null, maxCalls = Infinity }: ParseOptions = {},
): Turn {
  const tools = {
    names: new Set(NAMES),
    isString: (_: string, argument: string) => argument === "city",
  };
  const parser = new TurnParser({
    reasoning,
    calls: format === null ? null : { format, tools, maxCalls },
  });
  const events = [
    ...pieces.flatMap((piece) => parser.push(piece)),
    ...parser.end(),
  ];
  // Calls are told in order, each begun once and ended once.
  let open: number | null = null;
  let next = 0;
  for (const event of events) {
    if (event.type === "call-start") {
      if (open !== null || event.call !== next++)
        throw new Error(`call ${event.call} begins out of order`);
      open = event.call;
    } else if (event.type !== "text" && event.type !== "reasoning") {
      if (event.call !== open) throw new Error(`${event.type} out of a call`);
      if (event.type === "call-end") open = null;
    } else if (open !== null) throw new Error("text inside of a call");
  }
  if (open !== null) throw new Error(`call ${open} has no end`);
  return collectTurn(events);
}

/** Every way to cut the text's bytes in two, as a detokenizer would hand them on, and unit by unit. */
export function allSplits(text: string): string[][] {
  const bytes = Buffer.from(text);
  const splits = [text.split("")];
  for (let at = 1; at < bytes.length; at++) {
    const utf8 = new Utf8Decoder();
    splits.push([
      utf8.write(bytes.subarray(0, at)),
      utf8.write(bytes.subarray(at)) + utf8.end(),
    ]);
  }
  return splits;
}
