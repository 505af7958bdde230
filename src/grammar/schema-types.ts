/** Values of one type within the limits of a schema. */
import { refused } from "./grammar-error.js";
import { COLON, INTEGER, NUMBER } from "./json-text.js";
import type { Notation } from "./json-text.js";
import { NOTHING, choice, sequence } from "./nodes.js";
import type { Node } from "./nodes.js";
import {
  MAX_DECIMALS,
  decimalsOf,
  integersWithin,
  numbersWithin,
} from "./numbers.js";
import type { Bounds } from "./numbers.js";
import { arrayNode } from "./schema-array.js";
import { isObject, isSchema, pathOf } from "./schema-keywords.js";
import type { JsonObject, Schema, TypeName } from "./schema-keywords.js";
import { JSON_OBJECT, objectNode } from "./schema-object.js";
import type { ObjectStyle, Property } from "./schema-object.js";
import { patternNode, stringNode } from "./schema-string.js";

/** What values of the types are made with. */
export interface Making {
  readonly notation: Notation;
  /** Compiles a schema found at `path`. */
  readonly compile: (schema: Schema, path: string) => Node;
}

/** Most items that are asked for. */
const MAX_ITEMS = 10_000;

export function typeNode(
  type: TypeName,
  limits: JsonObject,
  path: string,
  making: Making,
): Node {
  switch (type) {
    case "null":
      return making.notation.null;
    case "boolean":
      return making.notation.boolean;
    case "integer":
    case "number":
      return numberNode(type, limits, path);
    case "string":
      return stringNode(limits, path, making.notation);
    case "array":
      return arrayOf(limits, path, making);
    case "object":
      return objectOf(limits, path, making);
  }
}

function numberNode(
  type: "integer" | "number",
  limits: JsonObject,
  path: string,
): Node {
  const bound = (keyword: string): number | null => {
    const value = limits[keyword];
    if (typeof value !== "number") return null;
    if (type === "number" && decimalsOf(value) === Infinity)
      throw refused(
        pathOf(path, keyword),
        `expected at most ${MAX_DECIMALS} decimals, got ${value}`,
      );
    return value;
  };
  const [min, over] = [bound("minimum"), bound("exclusiveMinimum")];
  const [max, under] = [bound("maximum"), bound("exclusiveMaximum")];
  const exclusiveMin = over !== null && (min === null || over >= min);
  const exclusiveMax = under !== null && (max === null || under <= max);
  const bounds: Bounds = {
    min: exclusiveMin ? over : min,
    max: exclusiveMax ? under : max,
    exclusiveMin,
    exclusiveMax,
  };
  const free = bounds.min === null && bounds.max === null;
  if (type === "integer") return free ? INTEGER : integersWithin(bounds);
  return free ? NUMBER : numbersWithin(bounds);
}

function arrayOf(
  limits: JsonObject,
  path: string,
  { notation, compile }: Making,
): Node {
  const { prefixItems, minItems, maxItems, uniqueItems } = limits;
  const min = (minItems as number | undefined) ?? 0;
  const max = (maxItems as number | undefined) ?? Infinity;
  if (uniqueItems === true && max > 1)
    throw refused(
      `${path}.uniqueItems`,
      "the keyword uniqueItems is not enforced by structured output, and is not ignored either",
    );
  if (min > MAX_ITEMS)
    throw refused(
      `${path}.minItems`,
      `expected at most ${MAX_ITEMS}, got ${min}`,
    );
  const keyword = limits["items"] === undefined ? "unevaluatedItems" : "items";
  const rest = limits[keyword] as Schema | undefined;
  if (rest === undefined && prefixItems === undefined && min === 0)
    if (max === Infinity) return notation.anyArray;
  const prefix = ((prefixItems as Schema[] | undefined) ?? []).map((item, i) =>
    compile(item, pathOf(`${path}.prefixItems`, i)),
  );
  // Nothing is said of items behind a prefix: none are written unless the length asks for them.
  const closed =
    rest === undefined && prefix.length > 0 && min <= prefix.length;
  const items =
    rest === undefined
      ? notation.anyValue
      : compile(rest, `${path}.${keyword}`);
  return arrayNode({
    prefix,
    items: closed ? null : items,
    minItems: min,
    maxItems: max,
  });
}

/** @param style as JSON, or as the arguments of a call */
export function objectOf(
  limits: JsonObject,
  path: string,
  making: Making,
  style: ObjectStyle = JSON_OBJECT,
): Node {
  const { notation, compile } = making;
  const { properties, patternProperties, required } = limits;
  const declared = isObject(properties) ? properties : {};
  const needed = (required as string[] | undefined) ?? [];
  const free = Object.keys(limits).every((key) => !OBJECT_LIMITS.has(key));
  if (free && style === JSON_OBJECT) return notation.anyObject;
  const names = [...new Set([...Object.keys(declared), ...needed])];
  if (isObject(patternProperties) && names.length > 0)
    throw refused(
      `${path}.patternProperties`,
      "structured output cannot enforce it together with properties or required",
    );
  if (limits["propertyNames"] !== undefined && names.length > 0)
    throw refused(
      `${path}.propertyNames`,
      "structured output cannot enforce it together with properties or required",
    );
  const keyword =
    limits["additionalProperties"] === undefined
      ? "unevaluatedProperties"
      : "additionalProperties";
  const extraSchema = limits[keyword] as Schema | undefined;
  const list = names.map((name): Property => ({
    key: keyOf(name, path, style),
    value: Object.hasOwn(declared, name)
      ? compile(declared[name] as Schema, pathOf(`${path}.properties`, name))
      : compile(extraSchema ?? true, `${path}.${keyword}`),
    required: needed.includes(name),
  }));
  const minProperties = (limits["minProperties"] as number | undefined) ?? 0;
  const extra = extraMember(limits, keyword, names, path, making, style);
  if (extra && minProperties > names.length + 1)
    throw refused(
      `${path}.minProperties`,
      "structured output cannot tell the names of further properties apart, and so cannot count them",
    );
  return objectNode({
    style,
    properties: list,
    extra,
    minProperties,
    maxProperties: (limits["maxProperties"] as number | undefined) ?? Infinity,
  });
}

function keyOf(name: string, path: string, style: ObjectStyle): Node {
  const key = style.key(name);
  if (key !== null) return key;
  throw refused(
    pathOf(`${path}.properties`, name),
    "the model writes calls as Python does, which cannot name such an argument; expected a letter or _, then letters, digits and _",
  );
}

const OBJECT_LIMITS = new Set([
  "properties",
  "patternProperties",
  "additionalProperties",
  "unevaluatedProperties",
  "propertyNames",
  "required",
  "minProperties",
  "maxProperties",
]);

/**
 * `"key": value` of properties that the schema does not name; null where there are none. A schema that lists properties
 * and says nothing of others gets no others: that is what its author has in mind.
 */
function extraMember(
  limits: JsonObject,
  keyword: string,
  names: readonly string[],
  path: string,
  making: Making,
  style: ObjectStyle,
): Node | null {
  const { properties, patternProperties, propertyNames } = limits;
  const schema = limits[keyword] as Schema | undefined;
  const patterns =
    isObject(patternProperties) && Object.keys(patternProperties).length > 0;
  const anyNames = propertyNames === undefined || propertyNames === true;
  if (style !== JSON_OBJECT && (patterns || !anyNames))
    throw refused(
      `${path}.${patterns ? "patternProperties" : "propertyNames"}`,
      "structured output cannot enforce it of a call's arguments that are written as Python does",
    );
  if (isObject(patternProperties) && patterns)
    return patternMember(patternProperties, limits, path, making);
  const closed = names.length > 0 || properties !== undefined;
  if (schema === false || (schema === undefined && closed)) return null;
  const value = making.compile(schema ?? true, `${path}.${keyword}`);
  if (anyNames) return sequence(style.keyOtherThan(names), value);
  const place = `${path}.propertyNames`;
  return sequence(
    keyNode(propertyNames as Schema, place, making),
    COLON,
    value,
  );
}

/** A name that matches one pattern may match another, whose schema would hold as well: one is enough to be sure. */
function patternMember(
  patterns: JsonObject,
  limits: JsonObject,
  path: string,
  { compile }: Making,
): Node {
  const [[pattern, schema] = ["", true], ...more] = Object.entries(patterns);
  const place = `${path}.patternProperties`;
  if (more.length > 0)
    throw refused(place, `expected one pattern, got ${more.length + 1}`);
  if (limits["propertyNames"] !== undefined)
    throw refused(
      `${path}.propertyNames`,
      "structured output cannot enforce it together with patternProperties",
    );
  const at = pathOf(place, pattern);
  return sequence(
    patternNode(pattern, at),
    COLON,
    compile(schema as Schema, at),
  );
}

function keyNode(schema: Schema, path: string, { notation }: Making): Node {
  if (schema === true) return notation.string;
  if (schema === false) return NOTHING;
  const { enum: values, const: value, type, ...limits } = schema;
  const simple = Object.keys(limits).every((key) => STRING_LIMITS.has(key));
  if (!isSchema(schema) || !simple || (type !== undefined && type !== "string"))
    throw refused(
      path,
      `expected string limits (${[...STRING_LIMITS].join(", ")}) or an enum`,
    );
  const list = value === undefined ? values : [value];
  if (!Array.isArray(list)) return stringNode(limits, path, notation);
  if (Object.keys(limits).length > 0)
    throw refused(path, "expected an enum without other limits");
  const keys = list.filter((key) => typeof key === "string");
  return choice(
    keys.map((key) => ({ kind: "text", text: JSON.stringify(key) })),
  );
}

const STRING_LIMITS = new Set(["pattern", "minLength", "maxLength", "format"]);
