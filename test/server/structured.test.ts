import { describe, expect, it } from "vitest";
import { structuredSpec } from "../../src/server/structured.js";

const schema = { type: "object", properties: { a: { type: "integer" } } };

describe("what a body says of its output", () => {
  it.each<[what: string, body: object, spec: object | null]>([
    ["nothing", { response_format: { type: "text" }, guided_json: null }, null],
    [
      "any object",
      { response_format: { type: "json_object" } },
      { kind: "json_object" },
    ],
    [
      "an object of a schema, as llama.cpp's clients ask for it",
      { response_format: { type: "json_object", schema } },
      { kind: "json_schema", schema, param: "response_format.schema" },
    ],
    [
      "a schema",
      { response_format: { type: "json_schema", json_schema: { schema } } },
      {
        kind: "json_schema",
        schema,
        param: "response_format.json_schema.schema",
      },
    ],
    [
      "a schema as text, beside a format that asks for nothing",
      {
        guided_json: JSON.stringify(schema),
        response_format: { type: "text" },
      },
      { kind: "json_schema", schema, param: "guided_json" },
    ],
  ])("%s", (_, body, spec) => {
    expect(structuredSpec(body)).toEqual(spec);
  });

  it.each<[body: object, param: string]>([
    [
      { response_format: { type: "json_object", schema: 5 } },
      "response_format.schema",
    ],
    [{ guided_whitespace_pattern: "" }, "guided_whitespace_pattern"],
    [{ guided_choice: ["a", ""] }, "guided_choice"],
    [{ guided_choice: ["a"], guided_regex: "a" }, "guided_choice"],
    [{ structured_outputs: {} }, "structured_outputs"],
  ])("refuses %j", (body, param) => {
    expect(() => structuredSpec(body)).toThrow(
      expect.objectContaining({ param }),
    );
  });
});
