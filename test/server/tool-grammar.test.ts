import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import {
  callsGrammar,
  callsOrText,
  constrainedFormat,
} from "../../src/server/tool-grammar.js";
import type { Tool } from "../../src/server/tools.js";
import { TOOL_CALL_FORMATS } from "../../src/text/turn/tool-call-format.js";
import { randomFrom, useChecker } from "../grammar/support.js";
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

/** With a character replaced, taken out or put in, or none. */
function damaged(text: string, random: () => number): string {
  const SIGNS = ' {}[]":,;\\\naeRu0';
  const at = Math.floor(random() * (text.length + 1));
  const sign = SIGNS.charAt(Math.floor(random() * SIGNS.length));
  const [keep, put] = [
    [0, ""],
    [1, ""],
    [0, sign],
    [1, sign],
  ][Math.floor(random() * 4)] as [number, string];
  return text.slice(0, at) + put + text.slice(at + keep);
}

describe("calls without a marker, beside text", () => {
  const checker = useChecker();
  const { llama3_json: format, pythonic, hermes } = TOOL_CALL_FORMATS;
  const city = { type: "object", properties: { city: { enum: ["Rome"] } } };
  const strict = {
    ...toolNamed("get_weather"),
    parameters: { ...city, required: ["city"], additionalProperties: false },
    strict: true,
  };
  const grammarOf = (several = true): GrammarSpec => {
    const spec =
      format && callsOrText(format, [strict, toolNamed("math.add")], several);
    if (!spec) throw new Error("no grammar");
    return spec;
  };
  const call = (name: string, parameters: string): string =>
    `{"name": "${name}", "parameters": ${parameters}}`;
  const ROME = call("get_weather", '{"city": "Rome"}');
  const SUM = call("math.add", '{"a": [1]}');

  it("lets through text that is none, and calls that match", async () => {
    const texts = ["", " \n", "é", "  Hi {}\n{", `Call: ${ROME}`];
    const right = [ROME, SUM, `${ROME}; ${SUM}`, `<|python_tag|>${ROME}`];
    const wrong = [
      call("get_weather", '{"city": "Oslo"}'),
      call("get_weather", "{}"),
      call("other", "{}"),
      `${ROME} and more`,
      ' {"parameters": {}, "name": "get_weather"}',
      '{"answer": 1}',
    ];
    const all = [...texts, ...right, ...wrong];
    const expected = [...texts, ...right];
    expect(await checker().accepted(grammarOf(), all)).toEqual(expected);
    const one = await checker().accepted(grammarOf(false), right);
    expect(one).toEqual([ROME, SUM, `<|python_tag|>${ROME}`]);
  });

  it("lets no call through that the reader would find and the schema not", async () => {
    if (!format) throw new Error("no format");
    const validate = new Ajv2020().compile(strict.parameters);
    const random = randomFrom(11);
    // A hint is a special token, which no text spells, as letters here do.
    const begins = [ROME, `${SUM}; ${ROME}`];
    const texts = Array.from({ length: 2000 }, (_, i) =>
      damaged(begins[i % begins.length] ?? "", random),
    );
    const accepted = await checker().accepted(grammarOf(), texts);
    const calls = accepted
      .flatMap((text) => parse(format, [text]).calls)
      .filter(({ name }) => name === strict.name);
    expect(accepted.length).toBeGreaterThan(calls.length);
    expect(calls.length).toBeGreaterThan(20);
    for (const { arguments: json } of calls)
      expect(validate(JSON.parse(json)), json).toBe(true);
  });

  it("has no grammar where a marker announces calls, or where they are not JSON", () => {
    for (const other of [hermes, pythonic])
      expect(other && callsOrText(other, [strict], true)).toBeNull();
  });
});
