import { expect, it } from "vitest";
import { pythonLiteralToJson } from "../../../src/text/turn/python-literal.js";

it.each([
  ["1", "1"],
  ["-2.5e+3", "-2.5e+3"],
  ["1_000", "1000"],
  [".5", "0.5"],
  ["5.", "5"],
  ["+3", "3"],
  ["True", "true"],
  ["None", "null"],
  [" 'it\\'s' ", '"it\'s"'],
  ['"a\\n\\t\\\\\\x41\\u00e9\\q"', '"a\\n\\t\\\\Aé\\\\q"'],
  ["[1, 'a', (2,), ]", '[1, "a", [2]]'],
  ["{'a': {1: True}, \"b\": []}", '{"a": {"1": true}, "b": []}'],
  ["()", "[]"],
])("%s", (python, json) => {
  expect(pythonLiteralToJson(python)).toBe(json);
  expect(() => JSON.parse(json) as unknown).not.toThrow();
});

it.each(["", "x", "1 2", "[1", "{'a'}", "'a", "1+1", "f(1)", "[1 2]", "0x1g"])(
  "%s is none",
  (text) => {
    expect(pythonLiteralToJson(text)).toBeNull();
  },
);

it("nesting without end is none", () => {
  expect(pythonLiteralToJson("[".repeat(100_000))).toBeNull();
});

it("a long list takes no time", () => {
  const list = `[${"1, ".repeat(200_000)}]`;
  expect(pythonLiteralToJson(list)).toHaveLength(600_000);
});
