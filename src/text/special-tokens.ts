/**
 * The named special tokens (bos_token, eos_token, ...) of tokenizer_config.json, or of special_tokens_map.json where
 * the former does not name them. Chat templates print them; the tokenizer needs bos and eos.
 */
import { join } from "node:path";
import {
  badFile,
  describe,
  isObject,
  readOptionalJsonObject,
  type JsonObject,
} from "./model-files.js";

const NAMES = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
] as const;

/** Variable name -> token text; `additional_special_tokens` is a list. Only what the model names is present. */
export interface SpecialTokens {
  readonly named: ReadonlyMap<string, string>;
  readonly additional: readonly string[];
}

/** A token is a string or a serialised AddedToken ({"content": ...}); null means that the model has none. */
function tokenText(file: string, field: string, value: unknown): string | null {
  if (value === null || value === undefined) return null;
  const text = isObject(value) ? value.content : value;
  if (typeof text === "string") return text;
  throw badFile(
    file,
    `${field}: expected a string or an object with content, got ${describe(value)}`,
  );
}

function readInto(
  file: string,
  source: JsonObject,
  named: Map<string, string>,
): string[] {
  // Some models name further tokens (image_token, ...) in extra_special_tokens.
  const extra = isObject(source.extra_special_tokens)
    ? source.extra_special_tokens
    : {};
  for (const [name, value] of [
    ...NAMES.map((name) => [name, source[name]] as const),
    ...Object.entries(extra),
  ]) {
    const text = tokenText(file, name, value);
    if (text !== null && !named.has(name)) named.set(name, text);
  }
  const list = source.additional_special_tokens;
  if (list === null || list === undefined) return [];
  if (!Array.isArray(list))
    throw badFile(
      file,
      `additional_special_tokens: expected a list, got ${describe(list)}`,
    );
  return list.flatMap(
    (value: unknown, i) =>
      tokenText(file, `additional_special_tokens[${i}]`, value) ?? [],
  );
}

/** Reads both files; `config` is the parsed tokenizer_config.json or null. Errors: `invalid_model`. */
export async function readSpecialTokens(
  modelDir: string,
  config: JsonObject | null,
): Promise<SpecialTokens> {
  const named = new Map<string, string>();
  let additional = readInto(
    join(modelDir, "tokenizer_config.json"),
    config ?? {},
    named,
  );
  const mapFile = join(modelDir, "special_tokens_map.json");
  const map = await readOptionalJsonObject(mapFile);
  if (map !== null) {
    const more = readInto(mapFile, map, named);
    if (additional.length === 0) additional = more;
  }
  return { named, additional };
}
