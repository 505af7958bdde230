import { existsSync } from "node:fs";
import path from "node:path";
import { packBytes } from "../../src/core/packed-bytes.js";
import type { TokenSource } from "../../src/grammar/vocabulary.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { Random } from "../random.js";

/** The shortest vocabulary that holds every byte and a token that ends the output. */
export const MIN_VOCABULARY = 257;
const LETTERS = "etaoinshrdlucmfwypvbgkjqxz";

/**
 * What the model's tokens are: by the tokenizer of `directory`, else of `model`, else made up.
 * @param directory of --tokenizer
 */
export async function tokensOf(
  model: string,
  directory: string | undefined,
  vocabSize: number,
): Promise<{ tokens: TokenSource; name: string }> {
  const own = existsSync(path.join(model, "tokenizer.json"));
  const found = directory ?? (own ? model : null);
  return found === null
    ? { tokens: madeUpTokens(vocabSize), name: "made up" }
    : { tokens: await loadTokenizer(found), name: found };
}

/**
 * Tokens for a model without a tokenizer: the bytes, then words of 2 to 9 letters, half of them behind a space. A grammar
 * costs by how many tokens it has to try, so each id has a text.
 */
function madeUpTokens(vocabSize: number): TokenSource {
  const random = new Random(vocabSize);
  const word = (): string => {
    const length = random.integer(2, 9);
    const letter = (): string =>
      LETTERS[random.integer(0, LETTERS.length - 1)] ?? "";
    const space = random.integer(0, 1) === 0 ? " " : "";
    return space + Array.from({ length }, letter).join("");
  };
  const texts = Array.from({ length: vocabSize }, (_, id) =>
    id < 256 ? Uint8Array.of(id) : Buffer.from(word()),
  );
  return {
    specialTokenIds: new Set(),
    packedTokens: packBytes(texts),
  };
}
