import { readFileSync, statSync } from "node:fs";
import { OctavoError } from "../core/errors.js";

/** No JSON file of a model is larger; an index of a very large model is a few megabytes. */
const MAX_JSON_BYTES = 100_000_000;

export function invalidModel(
  file: string,
  problem: string,
  param: string | null = null,
): OctavoError {
  return new OctavoError("invalid_model", `${file}: ${problem}`, param ?? file);
}

/** What came, for an error message. */
export function got(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads a JSON object; null where there is no such file. Errors: `invalid_model`, naming the file. */
export function readJsonFile(
  path: string,
  name: string,
): Record<string, unknown> | null {
  let text: string;
  try {
    const { size } = statSync(path);
    if (size > MAX_JSON_BYTES)
      throw invalidModel(
        name,
        `expected at most ${MAX_JSON_BYTES} bytes, got ${size}`,
      );
    text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    if (error instanceof OctavoError) throw error;
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw invalidModel(name, `cannot be read: ${(error as Error).message}`);
  }
  return parseJsonObject(text, name);
}

export function parseJsonObject(
  text: string,
  name: string,
): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalidModel(name, `expected JSON: ${(error as Error).message}`);
  }
  if (!isObject(value))
    throw invalidModel(name, `expected a JSON object, got ${got(value)}`);
  return value;
}

/**
 * Fields of a JSON object, each read once with its type and range. A field that is absent or null is the fallback's
 * (undefined: the field is required). Errors: `invalid_model` naming file, field, what was expected and what came.
 */
export class Fields {
  constructor(
    readonly file: string,
    readonly values: Readonly<Record<string, unknown>>,
    /** "" or "rope_scaling." */
    readonly prefix = "",
  ) {}

  has(field: string): boolean {
    return this.raw(field) != null;
  }

  /** The value as it was read. */
  raw(field: string): unknown {
    return Object.hasOwn(this.values, field) ? this.values[field] : undefined;
  }

  fail(field: string, expected: string): OctavoError {
    const name = this.prefix + field;
    return invalidModel(
      this.file,
      `${name}: expected ${expected}, got ${got(this.raw(field))}`,
      name,
    );
  }

  int(field: string, low: number, high: number, fallback?: number): number {
    const value = this.raw(field) ?? fallback;
    if (
      typeof value !== "number" ||
      !Number.isInteger(value) ||
      value < low ||
      value > high
    )
      throw this.fail(field, `an integer in [${low}, ${high}]`);
    return value;
  }

  /** A finite number above `low` (at least, with `orEqual`). */
  number(
    field: string,
    low: number,
    fallback?: number,
    orEqual = false,
  ): number {
    const value = this.raw(field) ?? fallback;
    if (
      typeof value !== "number" ||
      !Number.isFinite(value) ||
      value < low ||
      (value === low && !orEqual)
    )
      throw this.fail(field, `a number ${orEqual ? ">=" : ">"} ${low}`);
    return value;
  }

  boolean(field: string, fallback?: boolean): boolean {
    const value = this.raw(field) ?? fallback;
    if (typeof value !== "boolean") throw this.fail(field, "true or false");
    return value;
  }

  string(field: string, fallback?: string): string {
    const value = this.raw(field) ?? fallback;
    if (typeof value !== "string") throw this.fail(field, "a string");
    return value;
  }

  strings(field: string, fallback?: string[]): string[] {
    const value = this.raw(field) ?? fallback;
    if (!Array.isArray(value) || !value.every((v) => typeof v === "string"))
      throw this.fail(field, "a list of strings");
    return value;
  }

  /** A token id or a list of them; [] where absent. */
  tokenIds(field: string): number[] {
    const value = this.raw(field) ?? [];
    const ids: unknown[] = Array.isArray(value) ? value : [value];
    if (!ids.every(isTokenId)) throw this.fail(field, "token ids");
    return ids;
  }

  /** The fields of an object within, or null where absent. */
  object(field: string): Fields | null {
    const value = this.raw(field) ?? null;
    if (value === null) return null;
    if (!isObject(value)) throw this.fail(field, "an object");
    return new Fields(this.file, value, `${this.prefix}${field}.`);
  }
}

function isTokenId(value: unknown): value is number {
  return (
    typeof value === "number" &&
    Number.isInteger(value) &&
    value >= 0 &&
    value < 2 ** 31
  );
}
