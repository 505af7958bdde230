/** The conjunction of two schemas as one: for allOf, and for keywords beside $ref, anyOf and oneOf. */
import { refused } from "./grammar-error.js";
import { isObject, limitsOf, shown } from "./schema-keywords.js";
import type { JsonObject, Schema } from "./schema-keywords.js";
import { equal } from "./schema-values.js";

export interface MergeContext {
  /** The schema that a $ref names. */
  resolve(ref: string, path: string): Schema;
  /** The whole document may have an $id. */
  isRoot(schema: Schema): boolean;
  /** Where the conjunction stands, for errors. */
  path: string;
  /** Conjunctions left before it is too much: schemas can multiply each other. */
  budget: number;
}

const MAX_DEPTH = 40;
const MAX_BRANCHES = 256;

/** Both hold. Throws 400 for a pair of keywords that no single schema can express. */
export function intersect(
  a: Schema,
  b: Schema,
  context: MergeContext,
  depth = 0,
): Schema {
  if (a === false || b === false) return false;
  if (a === true) return b;
  if (b === true) return a;
  if (depth > MAX_DEPTH || context.budget-- <= 0)
    throw refused(
      context.path,
      "schemas that hold together here refer to each other without end, or are too many",
    );
  const left = limitsOf(a, context.path, context.isRoot(a));
  const right = limitsOf(b, context.path, context.isRoot(b));
  return (
    expand(left, right, context, depth) ??
    expand(right, left, context, depth) ??
    mergeLimits(left, right, context, depth)
  );
}

/** Takes $ref, allOf, anyOf or oneOf of `a` apart; null where it has none. */
function expand(
  a: JsonObject,
  b: JsonObject,
  context: MergeContext,
  depth: number,
): Schema | null {
  const and = (x: Schema, y: Schema): Schema =>
    intersect(x, y, context, depth + 1);
  const { $ref, allOf, anyOf, oneOf, ...rest } = a;
  if (typeof $ref === "string") {
    const others = without(a, "$ref");
    return and(and(context.resolve($ref, context.path), others), b);
  }
  if (allOf !== undefined)
    return (allOf as Schema[]).reduce<Schema>(and, and(without(a, "allOf"), b));
  for (const [keyword, branches] of Object.entries({ anyOf, oneOf })) {
    if (branches === undefined) continue;
    if (anyOf !== undefined && oneOf !== undefined)
      return and({ ...rest, anyOf }, and({ oneOf }, b));
    const list = branches as Schema[];
    if (list.length > MAX_BRANCHES)
      throw refused(
        `${context.path}.${keyword}`,
        `expected at most ${MAX_BRANCHES} schemas beside other keywords`,
      );
    const base = and(rest, b);
    return { [keyword]: list.map((branch) => and(branch, base)) };
  }
  return null;
}

function without(object: JsonObject, key: string): JsonObject {
  return Object.fromEntries(
    Object.entries(object).filter(([name]) => name !== key),
  );
}

const LARGER = new Set([
  "minimum",
  "exclusiveMinimum",
  "minLength",
  "minItems",
  "minProperties",
]);
const SMALLER = new Set([
  "maximum",
  "exclusiveMaximum",
  "maxLength",
  "maxItems",
  "maxProperties",
]);

function mergeLimits(
  a: JsonObject,
  b: JsonObject,
  context: MergeContext,
  depth: number,
): Schema {
  const and = (x: Schema, y: Schema): Schema =>
    intersect(x, y, context, depth + 1);
  const merged: Record<string, unknown> = { ...b, ...a };
  for (const keyword of Object.keys(a)) {
    if (!Object.hasOwn(b, keyword)) continue;
    const [x, y] = [a[keyword], b[keyword]];
    if (equal(x, y)) continue;
    if (keyword === "type") {
      const types = commonTypes([x].flat(), [y].flat());
      if (types.length === 0) return false;
      merged["type"] = types;
    } else if (keyword === "const") return false;
    else if (keyword === "enum")
      merged["enum"] = (x as unknown[]).filter((value) =>
        (y as unknown[]).some((other) => equal(value, other)),
      );
    else if (LARGER.has(keyword))
      merged[keyword] = Math.max(x as number, y as number);
    else if (SMALLER.has(keyword))
      merged[keyword] = Math.min(x as number, y as number);
    else if (keyword === "required")
      merged["required"] = [...new Set([x, y].flat())];
    else if (keyword === "uniqueItems") merged["uniqueItems"] = true;
    else if (keyword === "items" && !a["prefixItems"] && !b["prefixItems"])
      merged["items"] = and(x as Schema, y as Schema);
    else if (keyword === "properties" || keyword === "additionalProperties")
      continue;
    else throw clash(keyword, x, y, context);
  }
  mergeProperties(a, b, merged, context, and);
  mergeItems(a, b, context);
  return merged;
}

function commonTypes(a: unknown[], b: unknown[]): unknown[] {
  const has = (types: unknown[], type: unknown): boolean =>
    types.includes(type) || (type === "integer" && types.includes("number"));
  const both = [...a, ...b].filter((type) => has(a, type) && has(b, type));
  return [...new Set(both)];
}

/** A property that one side does not name is subject to that side's additionalProperties. */
function mergeProperties(
  a: JsonObject,
  b: JsonObject,
  merged: Record<string, unknown>,
  context: MergeContext,
  and: (x: Schema, y: Schema) => Schema,
): void {
  const [p, q] = [propertiesOf(a), propertiesOf(b)];
  const [x, y] = [extraOf(a), extraOf(b)];
  const names = new Set([...Object.keys(p), ...Object.keys(q)]);
  const bound = x !== undefined || y !== undefined;
  for (const keyword of ["patternProperties", "unevaluatedProperties"])
    if (
      (a[keyword] !== undefined || b[keyword] !== undefined) &&
      names.size > 0
    )
      throw clash(keyword, a[keyword], b[keyword], context);
  if (
    bound &&
    (a["patternProperties"] !== undefined ||
      b["patternProperties"] !== undefined)
  )
    throw clash("patternProperties", x ?? true, y ?? true, context);
  if (names.size > 0) {
    const both = (name: string): Schema =>
      and(
        Object.hasOwn(p, name) ? (p[name] as Schema) : (x ?? true),
        Object.hasOwn(q, name) ? (q[name] as Schema) : (y ?? true),
      );
    merged["properties"] = Object.fromEntries(
      [...names].map((name) => [name, both(name)]),
    );
  }
  if (bound) merged["additionalProperties"] = and(x ?? true, y ?? true);
}

function propertiesOf(schema: JsonObject): JsonObject {
  const { properties } = schema;
  return isObject(properties) ? properties : {};
}

function extraOf(schema: JsonObject): Schema | undefined {
  return schema["additionalProperties"] as Schema | undefined;
}

/** items counts from behind its own prefixItems, so lists of different lengths do not mix. */
function mergeItems(a: JsonObject, b: JsonObject, context: MergeContext): void {
  for (const [x, y] of [
    [a, b],
    [b, a],
  ] as const) {
    const prefix = x["prefixItems"] !== undefined;
    if (prefix && y["items"] !== undefined && y["prefixItems"] === undefined)
      throw clash("prefixItems", x["prefixItems"], y["items"], context);
    if (x["unevaluatedItems"] !== undefined && y["prefixItems"] !== undefined)
      throw clash("unevaluatedItems", x["unevaluatedItems"], y, context);
  }
}

function clash(
  keyword: string,
  x: unknown,
  y: unknown,
  { path }: MergeContext,
): Error {
  return refused(
    `${path}.${keyword}`,
    `${shown(x)} and ${shown(y)} hold together here (allOf, or keywords beside $ref, anyOf or oneOf), which structured output cannot express`,
  );
}
