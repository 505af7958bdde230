import { describe, expect, it } from "vitest";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import {
  callsGrammar,
  constrainedFormat,
} from "../../src/server/tool-grammar.js";
import type { Tool } from "../../src/server/tools.js";
import { TOOL_CALL_FORMATS } from "../../src/text/turn/tool-call-format.js";
import { parse } from "../text/turn/support.js";

const toolNamed = (name: string): Tool => ({
  name,
  parameters: { type: "object" },
  strict: false,
  param: `${name}.parameters`,
});
const tools = ["get_weather", "math.add"].map(toolNamed);
const ARGUMENTS = '{"city": "Paris", "deep": {"a": ["}]"]}}';

/** A text of the grammar: `names` are called one after the other, all with the same arguments. */
function spell(spec: GrammarSpec, names: string[]): string {
  switch (spec.kind) {
    case "text":
      return spec.text;
    case "json_schema":
      return ARGUMENTS;
    case "sequence":
      return spec.parts.map((part) => spell(part, names)).join("");
    case "choice": {
      const [name] = names;
      const part = spec.parts.find((one) => spell(one, []).includes(`${name}`));
      return spell(part ?? spec, names);
    }
    case "repeat":
      expect(names.length).toBeGreaterThanOrEqual(spec.min);
      expect(names.length).toBeLessThanOrEqual(spec.max ?? Infinity);
      return names.map((name) => spell(spec.part, [name])).join(spec.separator);
    default:
      throw new Error(spec.kind);
  }
}

describe.each(Object.entries(TOOL_CALL_FORMATS))("%s", (_, own) => {
  it("reads the calls that its grammar writes", () => {
    const format = constrainedFormat(own);
    const several = callsGrammar(format, tools, true);
    for (const names of [["math.add"], ["get_weather", "math.add"]]) {
      const output = spell(several, names);
      const calls = names.map((name) => ({ name, arguments: ARGUMENTS }));
      expect(parse(format, [output])).toEqual({
        reasoning: "",
        text: "",
        calls,
      });
    }
    const one = callsGrammar(format, tools, false);
    expect(() => spell(one, ["math.add", "math.add"])).toThrow();
  });
});
