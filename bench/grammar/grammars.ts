import type { GrammarSpec } from "../../src/grammar/spec.js";

/**
 * Records as JSON, a line each, without end: with ignore_eos an output has any length that is asked for. Of strings a mask
 * leaves nearly every token, of keys one, of numbers a few.
 */
export const RECORDS: GrammarSpec = {
  kind: "repeat",
  part: {
    kind: "json_schema",
    schema: {
      type: "object",
      properties: {
        name: { type: "string" },
        count: { type: "integer" },
        colour: { enum: ["red", "green", "blue"] },
        done: { type: "boolean" },
      },
      required: ["name", "count", "colour", "done"],
      additionalProperties: false,
    },
    param: "schema",
  },
  separator: "\n",
  min: 1,
  max: null,
};

let lastSlow = 0;

/**
 * Another grammar each time, which no worker holds yet: an object of strings of bounded length. What compiling it takes
 * grows with the square of `numProperties`.
 */
export function slowGrammar(numProperties: number): GrammarSpec {
  lastSlow++;
  const properties = Object.fromEntries(
    Array.from({ length: numProperties }, (_, i) => [
      `text${lastSlow}_${i}`,
      { type: "string", maxLength: 8 + i },
    ]),
  );
  return {
    kind: "json_schema",
    schema: {
      type: "object",
      properties,
      required: Object.keys(properties),
      additionalProperties: false,
    },
    param: "schema",
  };
}
