/** Calls that must come: a grammar of them, in the model's own format where a schema can be held inside of it. */
import type { GrammarSpec } from "../grammar/spec.js";
import { PYTHON_NAME } from "../text/turn/python-payload.js";
import {
  isList,
  JSON_LIST,
  markersOf,
  type ToolCallFormat,
} from "../text/turn/tool-call-format.js";
import type { Tool } from "./tools.js";

/** What calls that must come are written in: arguments that are not JSON cannot follow a JSON Schema. */
export function constrainedFormat(format: ToolCallFormat): ToolCallFormat {
  const { kind } = format.payload;
  return kind === "json" || kind === "named"
    ? format
    : { ...JSON_LIST, shortIds: format.shortIds };
}

/**
 * At least one call of one of `tools`, and nothing else; a single one where the format or the request wants no more.
 * @param format of `constrainedFormat`
 */
export function callsGrammar(
  format: ToolCallFormat,
  tools: readonly Tool[],
  several: boolean,
): GrammarSpec {
  const { sectionBegin, sectionEnd, separator, single } = format;
  return sequence([
    text(sectionBegin),
    {
      kind: "repeat",
      part: choice(tools.map((tool) => callGrammar(format, tool, true))),
      separator,
      min: 1,
      max: several && !single ? null : 1,
    },
    text(sectionEnd),
  ]);
}

/** Calls that may come: the marker that announces them, and what follows it then. */
export interface AnnouncedCalls {
  readonly marker: string;
  readonly grammar: GrammarSpec;
}

/**
 * What follows the marker with which calls begin: the arguments of a strict tool match its schema, those of others are
 * any object, and after the calls the output ends. Null where no marker announces calls, or their arguments are not JSON.
 */
export function announcedCalls(
  format: ToolCallFormat,
  tools: readonly Tool[],
  several: boolean,
): AnnouncedCalls | null {
  const { sectionBegin, sectionEnd, callBegin, separator, single } = format;
  const [marker] = markersOf(format).all;
  const begin = sectionBegin === "" ? callBegin : sectionBegin;
  const { kind } = format.payload;
  if (kind !== "json" && kind !== "named") return null;
  if (marker === undefined || !begin.trimStart().startsWith(marker))
    return null;
  const rest = begin.trimStart().slice(marker.length);
  const first = sectionBegin === "" ? { ...format, callBegin: rest } : format;
  const next: GrammarSpec = {
    kind: "repeat",
    part: sequence([text(separator), oneCall(format, tools)]),
    separator: "",
    min: 0,
    max: several && !single ? null : 0,
  };
  const parts = [oneCall(first, tools), next, text(sectionEnd)];
  if (sectionBegin !== "") parts.unshift(text(rest));
  return { marker, grammar: sequence(parts) };
}

/**
 * For calls that no marker announces, and which stand at the beginning of an answer: calls, of which those of strict tools
 * match their schemas, or a text that does not begin as a call does. A hint, which has to be a special token, stands before
 * calls or nowhere. Null where a marker announces calls, where their arguments can be held to no schema, and where the
 * format cannot write a call of a strict tool.
 */
export function callsOrText(
  format: ToolCallFormat,
  tools: readonly Tool[],
  several: boolean,
): GrammarSpec | null {
  const { sectionBegin, sectionEnd, separator, single, hints } = format;
  const other = textBeside(format);
  if (!markersOf(format).bare || other === null) return null;
  const named = tools.filter((tool) => canName(format, tool));
  if (tools.some((tool) => tool.strict && !named.includes(tool))) return null;
  const calls = sequence([
    text(sectionBegin),
    {
      kind: "repeat",
      part: oneCall(format, named),
      separator,
      min: 1,
      max: several && !single ? null : 1,
    },
    text(sectionEnd),
  ]);
  const hinted = hints.map((hint) => sequence([text(hint), calls]));
  return choice([
    calls,
    ...hinted,
    { kind: "regex", pattern: other, param: "" },
  ]);
}

/** An expression for text in which the reader of a format without markers finds no call; null: calls are not of this kind. */
function textBeside(format: ToolCallFormat): string | null {
  const list = isList(format);
  switch (format.payload.kind) {
    case "json": {
      const plain = `[^\\s{${list ? "\\[" : ""}][\\s\\S]*`;
      const inList = "\\[[\\s,\\[]*([^\\s,\\[{][\\s\\S]*)?";
      return `\\s*(${list ? `${plain}|${inList}` : plain})?`;
    }
    case "python": {
      // A bracket begins a call if a name and a parenthesis follow.
      const noName = "[^\\s,\\[A-Za-z_][\\s\\S]*";
      const noCall = "[A-Za-z_][\\w.-]*([^\\w.(-][\\s\\S]*)?";
      return list
        ? `\\s*([^\\s\\[][\\s\\S]*|\\[[\\s,\\[]*(${noName}|${noCall})?)?`
        : null;
    }
    case "named":
    case "elements":
      return null;
  }
}

/** The reader takes the tool's name for one. */
function canName({ payload }: ToolCallFormat, { name }: Tool): boolean {
  return payload.kind !== "python" || PYTHON_NAME.test(name);
}

/** A call of one of the tools. */
function oneCall(format: ToolCallFormat, tools: readonly Tool[]): GrammarSpec {
  return choice(tools.map((tool) => callGrammar(format, tool, tool.strict)));
}

/** @param strict the arguments match the tool's schema, rather than being any object */
function callGrammar(
  format: ToolCallFormat,
  tool: Tool,
  strict: boolean,
): GrammarSpec {
  const { parameters: schema, param } = tool;
  if (format.payload.kind === "python")
    return sequence([
      text(format.callBegin + tool.name),
      { kind: "python_arguments", schema: strict ? schema : true, param },
      text(format.callEnd),
    ]);
  const [before, after] = aroundArguments(format, tool.name);
  return sequence([
    text(format.callBegin + before),
    strict ? { kind: "json_schema", schema, param } : { kind: "json_object" },
    text(after + format.callEnd),
  ]);
}

/** Names are letters, digits and a few signs: they stand for themselves in JSON. */
function aroundArguments(
  { payload }: ToolCallFormat,
  name: string,
): readonly [before: string, after: string] {
  switch (payload.kind) {
    case "json":
      return [
        `{"${payload.nameKey}": "${name}", "${payload.argumentsKey}": `,
        "}",
      ];
    case "named":
      return [name + payload.between, ""];
    case "elements":
    case "python":
      throw new Error(`${payload.kind}: no arguments in JSON`);
  }
}

function text(value: string): GrammarSpec {
  return { kind: "text", text: value };
}

function sequence(parts: GrammarSpec[]): GrammarSpec {
  return { kind: "sequence", parts };
}

function choice(parts: GrammarSpec[]): GrammarSpec {
  return { kind: "choice", parts };
}
