import { OctavoError } from "../core/errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { invalidField } from "./errors.js";

/** Most prompts of one /v1/completions request. */
const MAX_PROMPTS = 2048;

export interface Prompt {
  /** null where the request gave token ids. */
  text: string | null;
  tokenIds: Int32Array;
}

const EXPECTED =
  "a string, a list of strings, token ids or a list of token ids";

/**
 * The prompts of a /v1/completions body as token ids; texts are encoded off the event loop. Errors: 400 that names the
 * prompt (prompt[i]) and, for a bad id, its place.
 */
export async function readPrompts(
  prompt: unknown,
  addSpecialTokens: boolean,
  tokenizer: Tokenizer,
  vocabSize: number,
): Promise<Prompt[]> {
  if (prompt === undefined || prompt === null)
    throw invalidField("prompt", EXPECTED, prompt);
  const single =
    typeof prompt === "string" ||
    (Array.isArray(prompt) && typeof prompt[0] === "number");
  if (!single && !Array.isArray(prompt))
    throw invalidField("prompt", EXPECTED, prompt);
  const list: unknown[] = single ? [prompt] : (prompt as unknown[]);
  if (list.length === 0)
    throw new OctavoError(
      "invalid_request",
      "prompt: expected at least one prompt or token, got an empty list",
      "prompt",
    );
  if (list.length > MAX_PROMPTS)
    throw invalidField("prompt", `at most ${MAX_PROMPTS} prompts`, list.length);
  const name = (i: number): string => (single ? "prompt" : `prompt[${i}]`);
  return Promise.all(
    list.map(async (entry, i) => {
      if (typeof entry === "string") {
        const tokenIds = await tokenizer.encode(entry, { addSpecialTokens });
        return { text: entry, tokenIds: checkNotEmpty(name(i), tokenIds) };
      }
      if (!Array.isArray(entry)) throw invalidField(name(i), EXPECTED, entry);
      return { text: null, tokenIds: readIds(name(i), entry, vocabSize) };
    }),
  );
}

/** Token ids of a field, at least one. Errors: 400 that names the place. */
export function readIds(
  param: string,
  entries: readonly unknown[],
  vocabSize: number,
): Int32Array {
  const ids = Int32Array.from(entries, (id, i) => {
    if (
      typeof id !== "number" ||
      !Number.isInteger(id) ||
      id < 0 ||
      id >= vocabSize
    )
      throw invalidField(
        `${param}[${i}]`,
        `a token id from 0 to ${vocabSize - 1}`,
        id,
      );
    return id;
  });
  return checkNotEmpty(param, ids);
}

/** A model computes from something: a prompt without tokens has no next one. */
export function checkNotEmpty(param: string, ids: Int32Array): Int32Array {
  if (ids.length > 0) return ids;
  throw new OctavoError(
    "invalid_request",
    `${param}: expected at least one token, got an empty prompt (this model's tokenizer puts nothing before a text)`,
    param,
  );
}

/**
 * Keeps the last `limit` tokens (truncate_prompt_tokens); -1 keeps what the context has room for.
 * @param room tokens of the context that the completion does not need
 */
export function truncatePrompt(
  ids: Int32Array,
  limit: number | null | undefined,
  room: number,
): Int32Array {
  if (limit == null) return ids;
  if (limit === 0)
    throw invalidField("truncate_prompt_tokens", "-1 or at least 1", limit);
  const keep = limit === -1 ? Math.max(1, room) : limit;
  return ids.length > keep ? ids.slice(ids.length - keep) : ids;
}
