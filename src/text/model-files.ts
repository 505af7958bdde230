/**
 * Reading the JSON and text files of a model directory. Whatever a user may have put there ends in an OctavoError
 * that names the file, never in a stack trace.
 */
import { readFile } from "node:fs/promises";
import { OctavoError } from "../core/errors.js";

export type JsonObject = { readonly [key: string]: unknown };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An `invalid_model` error about one file of the model directory. */
export function badFile(
  file: string,
  problem: string,
  cause?: unknown,
): OctavoError {
  return new OctavoError("invalid_model", `${file}: ${problem}`, file, {
    cause,
  });
}

/** What came instead of the expected value, short enough for an error message. */
export function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return value === undefined
    ? "nothing"
    : `${typeof value} ${JSON.stringify(value).slice(0, 60)}`;
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** The text of a file, or null where there is no such file. Errors: `invalid_model` where it cannot be read. */
export async function readOptionalText(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    const reason = error instanceof Error ? error.message : String(error);
    throw badFile(file, `cannot be read: ${reason}`, error);
  }
}

/** Parses the text of `file`. Errors: `invalid_model` where it is not JSON or not an object. */
export function parseJsonObject(file: string, text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw badFile(file, `expected JSON: ${reason}`, error);
  }
  if (!isObject(value))
    throw badFile(file, `expected a JSON object, got ${describe(value)}`);
  return value;
}

/** A JSON object, or null where there is no such file. Errors: as the two functions above. */
export async function readOptionalJsonObject(
  file: string,
): Promise<JsonObject | null> {
  const text = await readOptionalText(file);
  return text === null ? null : parseJsonObject(file, text);
}
