import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { buildEbnf } from "../../src/grammar/spec.js";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import { randomFrom, useChecker } from "./support.js";

function spec(schema: unknown): GrammarSpec {
  return { kind: "json_schema", schema, param: "schema" };
}

function refusal(schema: unknown): { param: string; message: string } {
  try {
    buildEbnf(spec(schema), (text) => text);
  } catch (error) {
    const { param, message } = error as { param: string; message: string };
    return { param, message };
  }
  throw new Error(`accepted: ${JSON.stringify(schema)}`);
}

const checker = useChecker();

describe("a schema's grammar", () => {
  const cases: [name: string, schema: unknown, yes: string[], no: string[]][] =
    [
      [
        "writes properties in order, with fixed white space",
        {
          properties: { a: { type: "integer" }, b: { type: "boolean" } },
          required: ["b"],
        },
        ['{"a": 1, "b": true}', '{"b": false}'],
        [
          '{"a": 1}',
          '{"b": true, "a": 1}',
          '{"a":1,"b":true}',
          '{"b": true, "c": 1}',
          "[]",
        ],
      ],
      [
        "writes further properties where the schema speaks of them, none of them named again",
        {
          type: "object",
          properties: { ab: { type: "null" } },
          additionalProperties: { type: "integer" },
        },
        ['{"ab": null, "a": 1}', '{"abc": 1, "b": 2}', "{}", '{"": 0}'],
        ['{"ab": 1}', '{"a": null}', '{"\\u0061b": 1}'],
      ],
      [
        "counts properties",
        {
          type: "object",
          properties: { a: {}, b: {}, c: {} },
          minProperties: 2,
          maxProperties: 2,
        },
        ['{"a": 1, "c": 2}', '{"b": 1, "c": 2}'],
        ['{"a": 1}', '{"a": 1, "b": 1, "c": 1}', "{}"],
      ],
      [
        "bounds integers",
        { type: "integer", minimum: -12, exclusiveMaximum: 105 },
        ["-12", "-1", "0", "9", "10", "99", "100", "104"],
        ["-13", "105", "01", "1.0", "1e1", "-0", "200"],
      ],
      [
        "bounds numbers",
        { type: "number", exclusiveMinimum: 0.5, maximum: 2 },
        ["0.51", "1", "1.5", "1.999999", "2"],
        ["0.5", "0.50", "2.01", "0", "-1", "3", "01", "01.5"],
      ],
      [
        "bounds negative numbers",
        { type: "number", minimum: -1.5, maximum: -0.25 },
        ["-1.50", "-1", "-0.25", "-1.25"],
        ["-1.51", "-0.24", "-2", "0", "1"],
      ],
      [
        "bounds the length of strings, in characters",
        { type: "string", minLength: 2, maxLength: 3 },
        ['"ab"', '"é€😀"'],
        ['"a"', '"abcd"', '"é"'],
      ],
      [
        "searches for a pattern, escaped as JSON",
        { type: "string", pattern: '^[a"\\n]+z' },
        ['"az"', '"\\"\\nzq"'],
        ['"z"', '"""z"', '"xaz"'],
      ],
      [
        "writes formats",
        { type: "string", format: "date" },
        ['"2024-02-28"', '"1999-12-31"'],
        ['"2024-02-30"', '"2024-13-01"', '"24-01-01"'],
      ],
      [
        "writes tuples",
        {
          type: "array",
          prefixItems: [{ const: 1 }, { const: 2 }],
          items: { const: 3 },
          minItems: 1,
          maxItems: 3,
        },
        ["[1]", "[1, 2]", "[1, 2, 3]"],
        ["[]", "[2]", "[1, 3]", "[1, 2, 3, 3]"],
      ],
      [
        "writes tuples as drafts before 2020-12 have them",
        {
          $schema: "http://json-schema.org/draft-07/schema#",
          type: "array",
          items: [{ const: 1 }, { const: 2 }],
          additionalItems: { const: 3 },
          minItems: 2,
        },
        ["[1, 2]", "[1, 2, 3, 3]"],
        ["[1]", "[1, 3]", "[1, 2, 4]"],
      ],
      [
        "takes null where OpenAPI 3.0 allows it",
        {
          type: "object",
          properties: {
            a: { type: "integer", nullable: true, example: 5 },
            b: { type: "string", enum: ["x"], nullable: true },
            c: { type: "boolean", nullable: false },
          },
          required: ["a", "b", "c"],
        },
        ['{"a": null, "b": "x", "c": true}', '{"a": 5, "b": "x", "c": true}'],
        ['{"a": 5, "b": null, "c": true}', '{"a": 5, "b": "x", "c": null}'],
      ],
      [
        "writes no properties where a schema lists none",
        { type: "object", properties: {} },
        ["{}"],
        ['{"a": 1}'],
      ],
      [
        "tells the branches of a discriminated union apart",
        {
          discriminator: {
            mapping: { cat: "#/$defs/Cat", dog: "#/$defs/Dog" },
            propertyName: "kind",
          },
          oneOf: [{ $ref: "#/$defs/Cat" }, { $ref: "#/$defs/Dog" }],
          $defs: {
            Cat: {
              type: "object",
              properties: { kind: { const: "cat" } },
              required: ["kind"],
            },
            Dog: {
              type: "object",
              properties: { kind: { const: "dog" }, old: { type: "boolean" } },
              required: ["kind", "old"],
            },
          },
        },
        ['{"kind": "cat"}', '{"kind": "dog", "old": true}'],
        ['{"kind": "dog"}', '{"kind": "cow"}'],
      ],
      [
        "keeps enum within its type",
        { type: ["string", "null"], enum: ["a", 1, null, { b: [1, 2] }] },
        ['"a"', "null"],
        ["1", '{"b": [1, 2]}'],
      ],
      [
        "takes conjunctions together",
        {
          $ref: "#/$defs/base",
          properties: { b: { maximum: 5 } },
          $defs: {
            base: {
              type: "object",
              properties: { b: { type: "integer", minimum: 3 } },
              required: ["b"],
            },
          },
        },
        ['{"b": 3}', '{"b": 5}'],
        ['{"b": 2}', '{"b": 6}', "{}"],
      ],
      [
        "gives each branch of anyOf what stands beside it",
        {
          type: "object",
          properties: { k: { enum: ["a", "b"] } },
          required: ["k"],
          anyOf: [
            { properties: { x: { type: "null" } }, required: ["x"] },
            { properties: { k: { const: "b" } } },
          ],
        },
        ['{"k": "b"}', '{"x": null, "k": "a"}'],
        ['{"k": "a"}'],
      ],
      [
        "follows schemas that contain themselves",
        {
          $defs: {
            tree: {
              type: "object",
              properties: { next: { $ref: "#/$defs/tree" } },
            },
          },
          $ref: "#/$defs/tree",
        },
        ["{}", '{"next": {"next": {}}}'],
        ['{"next": 1}'],
      ],
      [
        "tells the branches of oneOf apart",
        {
          oneOf: [
            { type: "integer", maximum: 3 },
            { type: "integer", minimum: 10 },
            { type: "string" },
          ],
        },
        ["3", "10", '"x"'],
        ["4", "9"],
      ],
    ];

  it.each(cases)("%s", async (_, schema, yes, no) => {
    const texts = [...yes, ...no];
    const accepted = await checker().accepted(spec(schema), texts);
    expect(accepted).toEqual(yes);
  });

  it("lets through nothing that is not valid, whatever is drawn", async () => {
    const schemas: unknown[] = [
      {},
      { type: "number" },
      { type: "string", minLength: 1, maxLength: 4 },
      { type: "number", minimum: -3.25, exclusiveMaximum: 1000.5 },
      { type: "integer", exclusiveMinimum: 99, maximum: 12345 },
      { enum: ["ab", "abc", "b", 'q"', 1, 12, 123] },
      { anyOf: [{ type: "integer" }, { type: "number" }, { const: "x" }] },
      { type: "string", pattern: "^(a|ab|abc)*[^a-c]{1,3}$" },
      { type: "string", pattern: "[é-ü]|\\d\\d$" },
      { type: "string", pattern: '[A-Z"\n]', minLength: 3, maxLength: 6 },
      { type: "string", pattern: "^[a-zé]+$", maxLength: 9000, minLength: 2 },
      { type: "string", format: "uri", minLength: 1, maxLength: 2083 },
      { type: "string", format: "date", pattern: "-0[12]-.*[05]$" },
      {
        type: "string",
        format: "uuid",
        pattern:
          "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|00000000-0000-0000-0000-000000000000)$",
      },
      {
        type: "string",
        format: "date-time",
        pattern:
          "^\\d{4}-\\d\\d-\\d\\dT(?:(?:[01]\\d|2[0-3]):[0-5]\\d(?::[0-5]\\d(?:\\.\\d+)?)?(?:Z))$",
      },
      // As zod writes email() and pydantic Decimal.
      {
        type: "string",
        format: "email",
        pattern:
          "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$",
      },
      {
        type: "string",
        pattern: "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$",
        maxLength: 12,
      },
      {
        type: "string",
        format: "base64",
        pattern: "^(?:[0-9a-zA-Z+/]{4})*(?:[0-9a-zA-Z+/]{3}=)?$",
      },
      { type: "string", format: "password", maxLength: 5 },
      { type: ["boolean"], nullable: true },
      {
        type: "object",
        properties: { a: { type: "string" }, b: { type: "integer" } },
        required: ["b"],
        additionalProperties: { type: "boolean" },
        minProperties: 2,
      },
      {
        anyOf: [
          { properties: { a: { type: "integer" } }, required: ["a"] },
          { properties: { a: { type: "string" } }, required: ["a"] },
        ],
      },
      {
        type: "object",
        patternProperties: { "^[a-z]{2}$": { type: "null" } },
        maxProperties: 3,
      },
      { type: "object", propertyNames: { maxLength: 2 }, minProperties: 1 },
      { type: "array", items: { type: "null" }, minItems: 1, maxItems: 3 },
    ];
    const isDate = (value: string): boolean => !isNaN(Date.parse(value));
    const formats = {
      "date-time": isDate,
      date: isDate,
      email: /^[^@\s]+@[^@\s.]+\.[^@\s]+$/,
      uri: URL.canParse.bind(URL),
      uuid: /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i,
      base64: true,
      password: true,
    } as const;
    const ajv = new Ajv2020({ strict: false, ownProperties: true, formats });
    for (const [i, schema] of schemas.entries()) {
      const validate = ajv.compile(schema as object);
      const texts = await checker().drawn(spec(schema), 40, randomFrom(i));
      expect(texts.length, JSON.stringify(schema)).toBeGreaterThan(5);
      for (const text of texts)
        expect(
          validate(JSON.parse(text)),
          `${text} of ${JSON.stringify(schema)}`,
        ).toBe(true);
    }
  });
});

it("grows with a schema, not with the power of its depth", () => {
  const nested = (depth: number): unknown =>
    Array.from({ length: depth }).reduce<object>(
      (inner) => ({
        type: "object",
        properties: { a: { type: "integer" }, b: inner, c: inner },
        additionalProperties: { type: "array", items: inner },
      }),
      { type: "null" },
    );
  const size = (depth: number): number =>
    buildEbnf(
      spec({ $defs: { a: nested(depth) }, $ref: "#/$defs/a" }),
      (text) => text,
    ).length;
  // Every level names the one below three times.
  expect(size(4)).toBeLessThan(3.5 * size(3));
  const lists = (depth: number): number =>
    buildEbnf(
      spec(
        Array.from({ length: depth }).reduce<object>(
          (items) => ({ type: "array", items }),
          { type: "string", maxLength: 9 },
        ),
      ),
      (text) => text,
    ).length;
  expect(lists(40)).toBeLessThan(3 * lists(20));
});

describe("what a grammar can't enforce", () => {
  const deep = Array.from({ length: 200 }).reduce<object>(
    (items) => ({ type: "array", items }),
    {},
  );
  it.each<[schema: unknown, param: string, message: string]>([
    [
      { properties: { a: { multipleOf: 3 } } },
      "schema.properties.a.multipleOf",
      "multipleOf is not enforced",
    ],
    [{ not: {} }, "schema.not", "not is not enforced"],
    [{ items: { if: {} } }, "schema.items.if", "not enforced"],
    [{ uniqueItems: true }, "schema.uniqueItems", "not enforced"],
    [
      { items: [{}], prefixItems: [{}] },
      "schema.prefixItems",
      "one of the two",
    ],
    [{ items: [] }, "schema.items", "a list of schemas"],
    [{ nullable: true }, "schema.nullable", "a type beside it"],
    [{ type: "text" }, "schema.type", 'got "text"'],
    [{ properties: { "a b": 1 } }, "schema.properties", "an object of schemas"],
    [
      { properties: { "a b": { minLength: -1 } } },
      'schema.properties["a b"].minLength',
      "whole number",
    ],
    [{ $ref: "other.json" }, "schema.$ref", "into this schema"],
    [{ $ref: "#/$defs/x" }, "schema.$ref", "leads to no schema"],
    [
      { anyOf: [{ $ref: "#/$defs/x" }], $defs: { x: { contains: {} } } },
      "schema.$defs.x.contains",
      "not enforced",
    ],
    [
      { oneOf: [{ minimum: 1 }, { maximum: 5 }] },
      "schema.oneOf",
      "both [0] and [1]",
    ],
    [
      {
        oneOf: [
          { type: "string", nullable: true },
          { type: "integer", nullable: true },
        ],
      },
      "schema.oneOf",
      "both [0] and [1]",
    ],
    [
      { type: "string", pattern: "a(?=b)" },
      "schema.pattern",
      "lookahead is built only at the beginning",
    ],
    [
      { type: "string", pattern: "^(a|b)*a(a|b){11}$", minLength: 300 },
      "schema.pattern",
      "too complex",
    ],
    [
      { type: "string", pattern: "^a*$", format: "date" },
      "schema",
      "no output can satisfy it",
    ],
    [{ type: "string", format: "color" }, "schema.format", "one of date"],
    [false, "schema", "no output can satisfy it"],
    [{ $ref: "#" }, "schema", "no output can satisfy it"],
    [
      { type: "integer", minimum: 3, maximum: 2 },
      "schema",
      "no output can satisfy it",
    ],
    [
      {
        required: ["a"],
        properties: { a: { $ref: "#" } },
      },
      "schema",
      "no output can satisfy it",
    ],
    [deep, "schema", "nest deeper"],
    [
      {
        $defs: { a: { allOf: [{ $ref: "#/$defs/a" }, { $ref: "#/$defs/a" }] } },
        $ref: "#/$defs/a",
      },
      "schema.$defs.a",
      "without end",
    ],
    [5, "schema", "a JSON schema"],
  ])("%j", (schema, param, message) => {
    const found = refusal(schema);
    expect(found.param).toContain(param);
    expect(found.message).toContain(message);
  });
});
