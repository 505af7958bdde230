import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { markersOf } from "../../../src/text/turn/tool-call-format.js";
import { allSplits, formatOf, parse } from "./support.js";

const weather = (json = '{"city": "Paris"}') => ({
  name: "get_weather",
  arguments: json,
});
const call = '{"name": "get_weather", "arguments": {"city": "Paris"}}';

/** What the model says -> its text and calls. */
type Case = [
  what: string,
  output: string,
  text: string,
  calls: { name: string; arguments: string }[],
];

const CASES: Record<string, Case[]> = {
  hermes: [
    ["plain text", "Héllo,\n 1 < 2 \n", "Héllo,\n 1 < 2 \n", []],
    ["a call", `<tool_call>\n${call}\n</tool_call>`, "", [weather()]],
    [
      "text before, between and after",
      `One moment. 🌦\n<tool_call>\n${call}\n</tool_call>\nand <tool_call>${call}</tool_call>\n done`,
      "One moment. 🌦\nand done",
      [weather(), weather()],
    ],
    [
      "keys in another order, and further ones",
      '<tool_call>{ "id": {"a": ["}"]}, "arguments": {"a":\n{"b": "}"} } , "name":"math.add"}</tool_call>',
      "",
      [{ name: "math.add", arguments: '{"a":\n{"b": "}"} }' }],
    ],
    [
      "markers, quotes and braces in strings",
      '<tool_call>{"name": "get_weather", "arguments": {"city": "\\"</tool_call>{<tool_call>\\\\"}}</tool_call>',
      "",
      [weather('{"city": "\\"</tool_call>{<tool_call>\\\\"}')],
    ],
    [
      "arguments as a string of JSON",
      '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
      "",
      [weather('{"city": "Paris"}')],
    ],
    [
      "no arguments",
      '<tool_call>{"name": "ping"}</tool_call><tool_call>{"name": "ping", "arguments": null}</tool_call>',
      "",
      [
        { name: "ping", arguments: "{}" },
        { name: "ping", arguments: "{}" },
      ],
    ],
    [
      "arguments under the other name",
      '<tool_call>{"name": "ping", "parameters": {"a": 1}}</tool_call>',
      "",
      [{ name: "ping", arguments: '{"a": 1}' }],
    ],
    [
      "arguments that come twice",
      '<tool_call>{"name": "ping", "arguments": {"a": 1}, "parameters": {"b": 2}, "arguments": {}}</tool_call>',
      "",
      [{ name: "ping", arguments: '{"a": 1}' }],
    ],
    [
      "a function nobody offered",
      '<tool_call>{"name": "launch", "arguments": {}}</tool_call>',
      "",
      [{ name: "launch", arguments: "{}" }],
    ],
    [
      "no closing marker",
      `<tool_call>\n${call}\n<tool_call>\n${call}`,
      "",
      [weather(), weather()],
    ],
    [
      "a missing brace",
      '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}\n</tool_call> ok',
      "ok",
      [weather('{"city": "Paris"}')],
    ],
    [
      "a string without an end",
      '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par\n</tool_call>Sorry.',
      "Sorry.",
      [weather('{"city": "Par\n')],
    ],
    [
      "arguments that are cut off",
      '<tool_call>\n{"name": "get_weather", "arguments": {"ci',
      "",
      [weather('{"ci')],
    ],
    [
      "arguments that are no JSON",
      '<tool_call>{"name": "get_weather", "arguments": {city: \'Paris\'}}</tool_call>',
      "",
      [weather("{city: 'Paris'}")],
    ],
    [
      "a call that is none",
      "Look: <tool_call>\nnot JSON\n</tool_call>!",
      "Look: not JSON\n!",
      [],
    ],
    [
      "an object that is none",
      '<tool_call>{"city": "</tool_call>"}</tool_call>',
      '{"city": ""}',
      [],
    ],
    ["a name that is cut off", '<tool_call>{"name": "get', '{"name": "get', []],
    [
      "half a marker after a call",
      `<tool_call>\n${call}\n</tool_c`,
      "",
      [weather()],
    ],
    ["half a marker at the end", "a <tool_ca", "a <tool_ca", []],
    [
      "a name that is no name",
      '<tool_call>{"name": "a b"}',
      '{"name": "a b"}',
      [],
    ],
  ],
  llama3_json: [
    ["a call", `${call.replace("arguments", "parameters")}`, "", [weather()]],
    [
      "the token before it, and two calls",
      `<|python_tag|>${call.replace("arguments", "parameters")}; ${call.replace("arguments", "parameters")}`,
      "",
      [weather(), weather()],
    ],
    [
      "arguments under the other name, a comma",
      `${call}, {"arguments": {"a": 1}, "name": "ping"}`,
      "",
      [weather(), { name: "ping", arguments: '{"a": 1}' }],
    ],
    [
      "an object that is the answer",
      '{"name": "Ada", "age": 36}',
      '{"name": "Ada", "age": 36}',
      [],
    ],
    [
      "keys that no call has, before the name",
      '{"data": {}, "name": "ping"}',
      '{"data": {}, "name": "ping"}',
      [],
    ],
    ["JSON in text", 'So: {"name": "ping"}', 'So: {"name": "ping"}', []],
    ["white space, then text", "\n hello \n", "\n hello \n", []],
    ["a broken object", '{"name" "ping"}', '{"name" "ping"}', []],
  ],
  mistral: [
    [
      "calls",
      `[TOOL_CALLS] [${call}, {"name": "ping", "arguments": {}}]`,
      "",
      [weather(), { name: "ping", arguments: "{}" }],
    ],
    [
      "no space, an id, no end",
      '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}',
      "",
      [weather()],
    ],
    [
      "lists in text",
      "[1, 2] [TOOL] [TOOL_CALLS",
      "[1, 2] [TOOL] [TOOL_CALLS",
      [],
    ],
  ],
  deepseek_v3: [
    [
      "calls",
      'Yes.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>ping\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
      "Yes.",
      [weather(), { name: "ping", arguments: "{}" }],
    ],
    [
      "no arguments",
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>ping\n```json\n\n```<｜tool▁call▁end｜>",
      "",
      [{ name: "ping", arguments: "" }],
    ],
  ],
  qwen3_xml: [
    [
      "strings, JSON and words",
      "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n\n</parameter>\n<parameter=days>\n[1, 2]\n</parameter>\n<parameter=unit>\nmetric\n</parameter>\n</function>\n</tool_call>",
      "",
      [weather('{"city": "Paris\\n", "days": [1, 2], "unit": "metric"}')],
    ],
    [
      "a declared string that looks like a number, no arguments, text",
      "Now <function=get_weather>\n<parameter=city>75001</parameter></function></tool_call><tool_call><function=ping></function></tool_call> done",
      "Now done",
      [weather('{"city": "75001"}'), { name: "ping", arguments: "{}" }],
    ],
    [
      "a value that is cut off",
      "<tool_call>\n<function=get_weather>\n<parameter=days>\n3\n</parameter>\n<parameter=city>\nPa",
      "",
      [weather('{"days": 3')],
    ],
  ],
  glm45: [
    [
      "calls",
      "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key><arg_value>3</arg_value>\n</tool_call><tool_call>ping</tool_call>",
      "",
      [
        weather('{"city": "Paris", "days": 3}'),
        { name: "ping", arguments: "{}" },
      ],
    ],
  ],
  pythonic: [
    [
      "calls",
      "[get_weather(city='Pa\\'ris', days=[1, (2, None)], deep={'a': True}), math.add(a=-1.5e3, b=.5), ping()]",
      "",
      [
        weather(
          `{"city": "Pa'ris", "days": [1, [2, null]], "deep": {"a": true}}`,
        ),
        { name: "math.add", arguments: '{"a": -1.5e3, "b": 0.5}' },
        { name: "ping", arguments: "{}" },
      ],
    ],
    [
      "an expression, and a value without a name",
      "[math.add(1, b=2*3)]",
      "",
      [{ name: "math.add", arguments: '{"0": 1, "b": "2*3"}' }],
    ],
    ["other lists", "[1, 2, get_weather]", "[1, 2, get_weather]", []],
    ["a link", "[ping](http://a.b)", "[ping](http://a.b)", []],
    ["another function", "[launch(x=1)]", "[launch(x=1)]", []],
    ["an empty list", "[] ", "[] ", []],
    ["arguments that are cut off", "[get_weather(city='Pa", "", [weather("")]],
  ],
};

describe.each(Object.entries(CASES))("the %s parser", (name, cases) => {
  const format = formatOf(name);

  it.each(cases)("reads %s, however it is cut", (_, output, text, calls) => {
    const expected = { reasoning: "", text, calls };
    expect(parse(format, [output])).toEqual(expected);
    for (const pieces of allSplits(output))
      expect(parse(format, pieces), JSON.stringify(pieces)).toEqual(expected);
  });

  it("says the same of any text, in any pieces", () => {
    const { all } = markersOf(format);
    const fragments = fc.constantFrom(
      ...all,
      ...cases.flatMap(([, output]) => output.match(/\W+|\w+/g) ?? []),
      ...cases.map(([, output]) => output),
    );
    fc.assert(
      fc.property(
        fc.array(fragments, { maxLength: 12 }),
        fc.array(fc.nat(20), { maxLength: 20 }),
        (parts, cuts) => {
          const output = parts.join("");
          const pieces: string[] = [];
          let rest = output;
          for (const cut of cuts) {
            pieces.push(rest.slice(0, cut));
            rest = rest.slice(cut);
          }
          const whole = parse(format, [output]);
          expect(parse(format, [...pieces, rest])).toEqual(whole);
        },
      ),
      { numRuns: process.env.OCTAVO_LONG ? 20_000 : 500 },
    );
  });
});

describe.each(["hermes", "mistral", "deepseek_v3", "qwen3_xml"])(
  "the %s parser",
  (name) => {
    it("never says a marker", () => {
      const format = formatOf(name);
      const { all } = markersOf(format);
      const words = [
        "{",
        "}",
        '"name"',
        ":",
        '"ping"',
        '"arguments"',
        "\n",
        "a",
      ];
      fc.assert(
        fc.property(
          fc.array(fc.constantFrom(...all, ...words), { maxLength: 20 }),
          (parts) => {
            const { text } = parse(format, [parts.join("")]);
            for (const marker of all) expect(text).not.toContain(marker);
          },
        ),
        { numRuns: process.env.OCTAVO_LONG ? 20_000 : 500 },
      );
    });
  },
);

describe("calls beyond the bound", () => {
  it("are dropped", () => {
    const output = `<tool_call>${call}</tool_call>`.repeat(3);
    const turn = parse(formatOf("hermes"), [`${output} end`], { maxCalls: 1 });
    expect(turn).toEqual({ reasoning: "", text: "end", calls: [weather()] });
  });
});
