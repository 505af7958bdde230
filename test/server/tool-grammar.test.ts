import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { buildEbnf, type GrammarSpec } from "../../src/grammar/spec.js";
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

  it("has no grammar where a marker announces calls, or names no such tool", () => {
    expect(hermes && callsOrText(hermes, [strict], true)).toBeNull();
    const colon = { ...strict, name: "net:ping" };
    expect(pythonic && callsOrText(pythonic, [colon], true)).toBeNull();
  });
});

describe("calls as Python writes them, beside text", () => {
  const checker = useChecker();
  const { pythonic } = TOOL_CALL_FORMATS;
  const parameters = {
    type: "object",
    properties: {
      city: { enum: ["Rome", 'L"A'] },
      days: { type: "integer", minimum: 0, maximum: 9 },
      deep: {
        type: ["object", "null"],
        properties: { on: { type: "boolean" }, tags: { type: "array" } },
        required: ["on"],
      },
      why: { type: "string" },
    },
    required: ["city", "deep"],
    additionalProperties: false,
  };
  const strict = { ...toolNamed("get_weather"), parameters, strict: true };
  const grammarOf = (several = true, tool: Tool = strict): GrammarSpec => {
    const tools = [tool, toolNamed("math.add"), toolNamed("net:ping")];
    const spec = pythonic && callsOrText(pythonic, tools, several);
    if (!spec) throw new Error("no grammar");
    return spec;
  };
  const ROME = '[get_weather(city="Rome", deep=None)]';
  const BOTH =
    '[get_weather(city="L\\"A", days=3, deep={"on": True, "tags": [None, 1.5]}), math.add(a=[1], _b="x")]';

  it("lets through text that is none, and calls that match", async () => {
    const texts = [
      "",
      " \n",
      "é [get_weather(",
      "[",
      "[]",
      "[1, 2]",
      "[see](https://a.b)",
      " [get_weather",
      "[get_weather] (x)",
      "get_weather(city=1)",
    ];
    const right = [ROME, BOTH, "[math.add()]"];
    const wrong = [
      '[get_weather(city="Oslo", deep=None)]',
      '[get_weather(city="Rome")]',
      '[get_weather(deep=None, city="Rome")]',
      '[get_weather(city="Rome", deep=null)]',
      '[get_weather(city="Rome", deep={"on": true})]',
      '[get_weather(city="Rome", deep=None, more=1)]',
      "[math.add(1)]",
      "[math.add(a=1, )]",
      "[other(a=1)]",
      '[ [,get_weather(city="Oslo")]',
      `${ROME} and more`,
      "[get_weather(",
    ];
    const all = [...texts, ...right, ...wrong];
    const expected = [...texts, ...right];
    expect(await checker().accepted(grammarOf(), all)).toEqual(expected);
    const one = await checker().accepted(grammarOf(false), right);
    expect(one).toEqual([ROME, "[math.add()]"]);
  });

  it("lets no call through that the reader would find and the schema not", async () => {
    if (!pythonic) throw new Error("no format");
    const validate = new Ajv2020().compile(parameters);
    const drawn = await checker().drawn(grammarOf(), 200, randomFrom(3));
    const random = randomFrom(12);
    const begins = [ROME, BOTH];
    const texts = Array.from({ length: 2000 }, (_, i) =>
      damaged(begins[i % begins.length] ?? "", random),
    );
    const accepted = await checker().accepted(grammarOf(), texts);
    const calls = [...drawn, ...accepted]
      .flatMap((text) => parse(pythonic, [text]).calls)
      .filter(({ name }) => name === strict.name);
    expect(accepted.length).toBeGreaterThan(calls.length);
    expect(calls.length).toBeGreaterThan(20);
    for (const { arguments: json } of calls)
      expect(validate(JSON.parse(json)), json).toBe(true);
  });

  it.each<[what: string, schema: object, yes: string[], no: string[]]>([
    [
      "arguments nobody names",
      { properties: { ab: { type: "null" } }, additionalProperties: true },
      ["(ab=None)", "()", "(a=1)", "(abc=1, _x2=None)", "(b=[True])"],
      ["(ab=1)", "(a-b=1)", "(2=1)", "(=1)"],
    ],
    [
      "one of several schemas",
      {
        $ref: "#/$defs/one",
        $defs: {
          one: {
            anyOf: [
              { properties: { a: { const: true } }, required: ["a"] },
              { properties: { b: { const: null } }, required: ["b"] },
            ],
          },
        },
      },
      ["(a=True)", "(b=None)"],
      ["()", "(a=true)"],
    ],
    [
      "strings in which a backslash is Python's",
      { properties: { s: { type: "string" } }, required: ["s"] },
      ['(s="a/\\\\\\n\\u00e9")'],
      ['(s="\\/")'],
    ],
  ])("holds %s", async (_, schema, yes, no) => {
    const spec: GrammarSpec = {
      kind: "python_arguments",
      schema,
      param: "parameters",
    };
    const found = await checker().accepted(spec, [...yes, ...no]);
    expect(found).toEqual(yes);
  });

  it.each<[schema: object, param: string]>([
    [{ properties: { "a-b": {} } }, "parameters.properties.a-b"],
    [{ enum: [{}] }, "parameters.enum"],
    [{ patternProperties: { a: {} } }, "parameters.patternProperties"],
    [{ propertyNames: { maxLength: 3 } }, "parameters.propertyNames"],
  ])("refuses %j", (schema, param) => {
    const spec = { kind: "python_arguments", schema, param: "parameters" };
    expect(() => buildEbnf(spec as GrammarSpec, (text) => text)).toThrow(
      expect.objectContaining({ param }),
    );
  });
});
