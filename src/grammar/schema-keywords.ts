/** Keywords of JSON Schema (2020-12) that grammars enforce, and what their values must be. Anything else is refused. */
import { refused } from "./grammar-error.js";

export type JsonObject = Readonly<Record<string, unknown>>;
export type Schema = boolean | JsonObject;

export const TYPES = [
  "object",
  "array",
  "string",
  "number",
  "integer",
  "boolean",
  "null",
] as const;
export type TypeName = (typeof TYPES)[number];

/** Say nothing about which values are valid. */
const ANNOTATIONS = new Set([
  "title",
  "description",
  "default",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
  "$comment",
  "$defs",
  "definitions",
  "contentEncoding",
  "contentMediaType",
  "contentSchema",
  // OpenAPI's. The first stands beside oneOf: it says where to look for what tells the branches apart.
  "discriminator",
  "example",
  "externalDocs",
  "xml",
]);

type Check = (value: unknown) => boolean;

const isNumber: Check = (value) =>
  typeof value === "number" && Number.isFinite(value);
const isCount: Check = (value) =>
  typeof value === "number" && Number.isInteger(value) && value >= 0;
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
export function isSchema(value: unknown): value is Schema {
  return typeof value === "boolean" || isObject(value);
}
const isSchemaMap: Check = (value) =>
  isObject(value) && Object.values(value).every(isSchema);
const isSchemaList: Check = (value) =>
  Array.isArray(value) && value.length > 0 && value.every(isSchema);
const isNames: Check = (value) =>
  Array.isArray(value) && value.every((name) => typeof name === "string");
const isType: Check = (value) => TYPES.some((type) => type === value);

const count: readonly [Check, string] = [isCount, "a whole number from 0"];
const number: readonly [Check, string] = [isNumber, "a number"];
const schema: readonly [Check, string] = [isSchema, "a schema"];
const schemaMap: readonly [Check, string] = [
  isSchemaMap,
  "an object of schemas",
];
const schemaList: readonly [Check, string] = [
  isSchemaList,
  "a list of schemas that is not empty",
];
const string: readonly [Check, string] = [
  (value) => typeof value === "string",
  "a string",
];

/** Enforced keywords: the check of their value, and what it is called. */
const ENFORCED: Readonly<Record<string, readonly [Check, string]>> = {
  $ref: string,
  type: [
    (value) =>
      isType(value) ||
      (Array.isArray(value) && value.length > 0 && value.every(isType)),
    `one of ${TYPES.join(", ")}, or a list of them`,
  ],
  const: [() => true, "any value"],
  enum: [(value) => Array.isArray(value), "a list of values"],
  allOf: schemaList,
  anyOf: schemaList,
  oneOf: schemaList,
  minimum: number,
  maximum: number,
  exclusiveMinimum: number,
  exclusiveMaximum: number,
  minLength: count,
  maxLength: count,
  pattern: string,
  format: string,
  properties: schemaMap,
  patternProperties: schemaMap,
  additionalProperties: schema,
  unevaluatedProperties: schema,
  propertyNames: schema,
  required: [isNames, "a list of names"],
  minProperties: count,
  maxProperties: count,
  items: [
    (value) => isSchema(value) || isSchemaList(value),
    "a schema, or a list of schemas",
  ],
  additionalItems: schema,
  nullable: [(value) => typeof value === "boolean", "true or false"],
  prefixItems: schemaList,
  unevaluatedItems: schema,
  minItems: count,
  maxItems: count,
  uniqueItems: [(value) => typeof value === "boolean", "true or false"],
};

const DRAFTS =
  /^https?:\/\/json-schema\.org\/(draft\/(2020-12|2019-09)|draft-0[67])\/schema#?$/;

/** Which keywords limit values of which type; a schema without a type is about the types that it limits. */
export const KEYWORDS_OF: Readonly<Record<string, TypeName>> = {
  minimum: "number",
  maximum: "number",
  exclusiveMinimum: "number",
  exclusiveMaximum: "number",
  minLength: "string",
  maxLength: "string",
  pattern: "string",
  format: "string",
  properties: "object",
  patternProperties: "object",
  additionalProperties: "object",
  unevaluatedProperties: "object",
  propertyNames: "object",
  required: "object",
  minProperties: "object",
  maxProperties: "object",
  items: "array",
  prefixItems: "array",
  unevaluatedItems: "array",
  minItems: "array",
  maxItems: "array",
  uniqueItems: "array",
};

/**
 * The keywords of a schema that limit values. Throws 400 for one that is not enforced, or whose value is wrong; `root`:
 * the whole document, which may name its dialect and itself.
 */
export function limitsOf(
  object: JsonObject,
  path: string,
  root: boolean,
): JsonObject {
  const limits: Record<string, unknown> = {};
  for (const [keyword, value] of Object.entries(object)) {
    if (ANNOTATIONS.has(keyword) || keyword.startsWith("x-")) continue;
    if (root && keyword === "$id") continue;
    if (keyword === "$schema") {
      if (typeof value === "string" && DRAFTS.test(value)) continue;
      throw refused(
        `${path}.$schema`,
        `expected JSON Schema 2020-12, 2019-09, draft-07 or draft-06, got ${shown(value)}`,
      );
    }
    const known = Object.hasOwn(ENFORCED, keyword)
      ? ENFORCED[keyword]
      : undefined;
    if (!known)
      throw refused(
        pathOf(path, keyword),
        `the keyword ${keyword} is not enforced by structured output, and is not ignored either`,
      );
    if (!known[0](value))
      throw refused(
        pathOf(path, keyword),
        `expected ${known[1]}, got ${shown(value)}`,
      );
    limits[keyword] = value;
  }
  return withNull(withPrefixItems(limits, path), path);
}

/** OpenAPI 3.0 says of a type that null is one of its values too. */
function withNull(limits: JsonObject, path: string): JsonObject {
  const { nullable, ...rest } = limits;
  if (nullable !== true) return rest;
  const { type } = rest;
  if (type === undefined)
    throw refused(`${path}.nullable`, "expected a type beside it");
  return { ...rest, type: [...new Set([type, "null"].flat())] };
}

/** Drafts before 2020-12 write prefixItems as a list of items, and items behind them as additionalItems. */
function withPrefixItems(limits: JsonObject, path: string): JsonObject {
  const { additionalItems, ...rest } = limits;
  const { items, ...others } = rest;
  if (!Array.isArray(items)) return rest;
  if (others["prefixItems"] !== undefined)
    throw refused(
      `${path}.prefixItems`,
      "a list of items says the same: expected one of the two",
    );
  return {
    ...others,
    prefixItems: items,
    ...(additionalItems !== undefined && { items: additionalItems }),
  };
}

/** `path.key`, or `path["a key"]` for one that is not a word. */
export function pathOf(path: string, key: string | number): string {
  if (typeof key === "number") return `${path}[${key}]`;
  return /^[\w$-]+$/.test(key)
    ? `${path}.${key}`
    : `${path}[${JSON.stringify(key)}]`;
}

export function shown(value: unknown): string {
  const json = JSON.stringify(value) ?? String(value);
  return json.length > 80 ? `${json.slice(0, 77)}...` : json;
}
