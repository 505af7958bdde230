/** Whether no value can be valid against two schemas: oneOf is enforced only where that is certain. */
import { isObject } from "./schema-keywords.js";
import type { JsonObject, Schema } from "./schema-keywords.js";
import { equal, typesOf } from "./schema-values.js";

const MAX_DEPTH = 8;

/** @param simplify takes $ref and allOf apart, as far as it can */
export function areDisjoint(
  first: Schema,
  second: Schema,
  simplify: (schema: Schema) => Schema,
  depth = 0,
): boolean {
  const [a, b] = [simplify(first), simplify(second)];
  if (a === false || b === false) return true;
  if (a === true || b === true || depth > MAX_DEPTH) return false;
  const deeper = (x: Schema, y: Schema): boolean =>
    areDisjoint(x, y, simplify, depth + 1);
  for (const [x, y] of [
    [a, b],
    [b, a],
  ] as const)
    for (const keyword of ["anyOf", "oneOf"]) {
      const branches = x[keyword];
      if (
        Array.isArray(branches) &&
        branches.every((branch: Schema) => deeper(branch, y))
      )
        return true;
    }
  const [v, w] = [valuesOf(a), valuesOf(b)];
  if (v && w) return !v.some((value) => w.some((other) => equal(value, other)));
  const [s, t] = [typeNames(a, v), typeNames(b, w)];
  if (!s || !t) return false;
  const shared = s.filter((type) => t.includes(type));
  if (shared.length === 0) return true;
  if (shared.every((type) => type === "number" || type === "integer"))
    return rangesApart(a, b) || rangesApart(b, a);
  return (
    shared.every((type) => type === "object") && propertiesApart(a, b, deeper)
  );
}

function valuesOf(schema: JsonObject): unknown[] | null {
  if (Object.hasOwn(schema, "const")) return [schema["const"]];
  const list = schema["enum"];
  return Array.isArray(list) ? list : null;
}

/** Integers are numbers as well. */
function typeNames(
  schema: JsonObject,
  values: unknown[] | null,
): string[] | null {
  if (values) return values.flatMap((value) => typesOf(value));
  const { type, nullable } = schema;
  if (type === undefined) return null;
  const types = [type].flat().map(String);
  if (nullable === true) types.push("null");
  return types.includes("number") ? [...types, "integer"] : types;
}

function rangesApart(a: JsonObject, b: JsonObject): boolean {
  const top = a["maximum"] ?? a["exclusiveMaximum"];
  const bottom = b["minimum"] ?? b["exclusiveMinimum"];
  if (typeof top !== "number" || typeof bottom !== "number") return false;
  const open = a["maximum"] === undefined || b["minimum"] === undefined;
  return top < bottom || (top === bottom && open);
}

/** A property that both require and that can't have a value for both. */
function propertiesApart(
  a: JsonObject,
  b: JsonObject,
  disjoint: (x: Schema, y: Schema) => boolean,
): boolean {
  const [p, q] = [a["properties"], b["properties"]];
  const [r, s] = [a["required"], b["required"]];
  if (!isObject(p) || !isObject(q)) return false;
  if (!Array.isArray(r) || !Array.isArray(s)) return false;
  return r.some(
    (name: string) =>
      s.includes(name) &&
      Object.hasOwn(p, name) &&
      Object.hasOwn(q, name) &&
      disjoint(p[name] as Schema, q[name] as Schema),
  );
}
