/** JSON values against the limits of a schema, for enum and const. */
import type { JsonObject, TypeName } from "./schema-keywords.js";

export function typesOf(value: unknown): TypeName[] {
  if (value === null) return ["null"];
  if (Array.isArray(value)) return ["array"];
  switch (typeof value) {
    case "object":
      return ["object"];
    case "string":
      return ["string"];
    case "boolean":
      return ["boolean"];
    default:
      return Number.isInteger(value) ? ["integer", "number"] : ["number"];
  }
}

export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((entry, i) => equal(entry, b[i]));
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  if (Array.isArray(a) || Array.isArray(b)) return false;
  const [left, right] = [Object.entries(a), Object.entries(b)];
  return (
    left.length === right.length &&
    left.every(
      ([key, value]) =>
        Object.hasOwn(b, key) && equal(value, (b as JsonObject)[key]),
    )
  );
}

type Limit = (value: unknown, limit: never) => boolean;

const isNumber = (value: unknown): value is number => typeof value === "number";
const lengthOf = (value: string): number => Array.from(value).length;
const isString = (value: unknown): value is string => typeof value === "string";

/** Limits that are decided at once; each holds for values of other types. */
const SIMPLE: Readonly<Record<string, Limit>> = {
  type: (value, limit: string | string[]) => {
    const types: readonly string[] = typesOf(value);
    return [limit].flat().some((type) => types.includes(type));
  },
  const: (value, limit: unknown) => equal(value, limit),
  enum: (value, limit: unknown[]) => limit.some((entry) => equal(value, entry)),
  minimum: (value, limit: number) => !isNumber(value) || value >= limit,
  maximum: (value, limit: number) => !isNumber(value) || value <= limit,
  exclusiveMinimum: (value, limit: number) => !isNumber(value) || value > limit,
  exclusiveMaximum: (value, limit: number) => !isNumber(value) || value < limit,
  minLength: (value, limit: number) =>
    !isString(value) || lengthOf(value) >= limit,
  maxLength: (value, limit: number) =>
    !isString(value) || lengthOf(value) <= limit,
  minItems: (value, limit: number) =>
    !Array.isArray(value) || value.length >= limit,
  maxItems: (value, limit: number) =>
    !Array.isArray(value) || value.length <= limit,
};

/** The first keyword that `fits` could not decide for this value, or null. */
export function undecided(value: unknown, limits: JsonObject): string | null {
  const composite = typeof value === "object" && value !== null;
  for (const keyword of Object.keys(limits)) {
    if (Object.hasOwn(SIMPLE, keyword)) continue;
    const aboutStrings = keyword === "pattern" || keyword === "format";
    if (aboutStrings ? isString(value) : composite) return keyword;
  }
  return null;
}

/** Whether the value is within the limits that can be decided. */
export function fits(value: unknown, limits: JsonObject): boolean {
  return Object.entries(limits).every(([keyword, limit]) => {
    const check = SIMPLE[keyword];
    return !check || check(value, limit as never);
  });
}
