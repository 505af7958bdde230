/** Calls that must come: a grammar of them, in the model's own format where a schema can be held inside of it. */
import type { GrammarSpec } from "../grammar/spec.js";
import {
  JSON_LIST,
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
      part: choice(tools.map((tool) => callGrammar(format, tool))),
      separator,
      min: 1,
      max: several && !single ? null : 1,
    },
    text(sectionEnd),
  ]);
}

function callGrammar(format: ToolCallFormat, tool: Tool): GrammarSpec {
  const [before, after] = aroundArguments(format, tool.name);
  const { parameters: schema, param } = tool;
  return sequence([
    text(format.callBegin + before),
    { kind: "json_schema", schema, param },
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
