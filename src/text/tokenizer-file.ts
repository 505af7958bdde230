/** tokenizer.json as Hugging Face's Rust library opens it, checked first where the library would abort the process. */
import { Tokenizer as RustTokenizer } from "tokenizers";
import {
  badFile,
  parseJsonObject,
  readOptionalText,
  type JsonObject,
} from "./model-files.js";
import { checkMerges, checkPostProcessor } from "./tokenizer-checks.js";
import {
  readAddedTokens,
  readVocab,
  type AddedTokenEntry,
} from "./token-table.js";

export interface TokenizerSource {
  readonly file: string;
  readonly text: string;
  readonly json: JsonObject;
}

export interface OpenTokenizer {
  readonly rust: RustTokenizer;
  /** Token strings by id, without the added ones. */
  readonly vocab: (string | undefined)[];
  readonly added: readonly AddedTokenEntry[];
  /** Highest id + 1, added tokens included. */
  readonly numTokens: number;
}

/** Errors: `invalid_model` where there is no such file or it is no JSON object. */
export async function readTokenizerFile(
  file: string,
): Promise<TokenizerSource> {
  const text = await readOptionalText(file);
  if (text === null)
    throw badFile(file, "expected the tokenizer, but there is no such file");
  return { file, text, json: parseJsonObject(file, text) };
}

/** Errors: `invalid_model` that names file and field. */
export function openTokenizer({
  file,
  text,
  json,
}: TokenizerSource): OpenTokenizer {
  const added = readAddedTokens(file, json);
  const vocab = readVocab(file, json);
  checkMerges(file, json.model, vocab);
  const numTokens = added.reduce(
    (size, { id }) => Math.max(size, id + 1),
    vocab.length,
  );
  checkPostProcessor(file, json.post_processor, numTokens);
  return { rust: createRustTokenizer(file, text), vocab, added, numTokens };
}

function createRustTokenizer(file: string, text: string): RustTokenizer {
  let rust: RustTokenizer;
  try {
    rust = RustTokenizer.fromString(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw badFile(file, `not a tokenizer: ${reason}`, error);
  }
  // Settings left from training; a prompt is never cut or filled up behind the user's back.
  rust.disableTruncation();
  rust.disablePadding();
  return rust;
}

/** A lone surrogate, which UTF-8 cannot say, counts as U+FFFD. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD");
}
