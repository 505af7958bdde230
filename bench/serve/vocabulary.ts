import { OctavoError } from "../../src/core/errors.js";
import { loadTokenizer, type Tokenizer } from "../../src/text/tokenizer.js";
import type { HttpClient } from "./http.js";
import { Random } from "../random.js";

/** What the data sets need to know of the model's tokens. */
export interface Vocabulary {
  /** Ids of ordinary text, none special: what random prompts are drawn from. */
  plainIds(): Promise<Int32Array>;
  /** @param special with what the model wants around a text (bos) */
  encode(text: string, special: boolean): Promise<Int32Array>;
  decode(ids: readonly number[]): Promise<string>;
}

/** The tokenizer of a model directory. */
export async function localVocabulary(directory: string): Promise<Vocabulary> {
  const tokenizer = await loadTokenizer(directory);
  return {
    plainIds: once(async () => readablePlainIds(tokenizer)),
    encode: (text, special) =>
      tokenizer.encode(text, { addSpecialTokens: special }),
    decode: async (ids) =>
      tokenizer.decode(ids, {
        skipSpecialTokens: false,
        stripLeadingSpace: true,
      }),
  };
}

/** Tokens whose bytes are text on their own: others turn into replacement characters when a prompt is sent as text. */
function readablePlainIds(tokenizer: Tokenizer): Int32Array {
  const utf8 = new TextDecoder("utf-8", { fatal: true });
  const ids: number[] = [];
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    const bytes = tokenizer.tokenBytes(id);
    if (bytes.length === 0 || tokenizer.specialTokenIds.has(id)) continue;
    try {
      utf8.decode(bytes);
      ids.push(id);
    } catch {
      // Part of a character.
    }
  }
  return Int32Array.from(ids);
}

/** A model without a tokenizer: every id is plain, and there is no text. */
export function idVocabulary(vocabSize: number): Vocabulary {
  const noText = (): never => {
    throw new OctavoError(
      "invalid_config",
      "This data set is text, and the model directory has no tokenizer.json; random prompts (--dataset-name random) need none.",
      "dataset-name",
    );
  };
  return {
    plainIds: async () => Int32Array.from({ length: vocabSize }, (_, id) => id),
    encode: async () => noText(),
    decode: async () => noText(),
  };
}

/** Words in the text that shows which ids a server's tokenizer gives. */
const PROBE_WORDS = 4000;
/** Fewer different ids than this are no tokenizer of text. */
const MIN_PLAIN_IDS = 16;

/**
 * The server's own tokenizer, over /tokenize and /detokenize. There is no route for the vocabulary, so plain ids are
 * those that a long made-up text turns into: all of them exist and none is special.
 */
export function remoteVocabulary(http: HttpClient, model: string): Vocabulary {
  const encode = async (
    prompt: string,
    special: boolean,
  ): Promise<Int32Array> => {
    const answer = await ask("/tokenize", {
      prompt,
      add_special_tokens: special,
    });
    const { tokens } = answer as { tokens?: unknown };
    if (Array.isArray(tokens) && tokens.every(Number.isInteger))
      return Int32Array.from(tokens as number[]);
    throw needTokenizer("POST /tokenize: no `tokens` in the answer");
  };
  const ask = async (path: string, body: object): Promise<unknown> => {
    try {
      return await http.post(path, { model, ...body });
    } catch (error) {
      throw needTokenizer((error as Error).message, error);
    }
  };
  return {
    encode,
    plainIds: once(async () => {
      const ids = [...new Set(await encode(probeText(), false))];
      if (ids.length < MIN_PLAIN_IDS)
        throw needTokenizer(
          `POST /tokenize: expected a text of ${PROBE_WORDS} words to have at least ${MIN_PLAIN_IDS} different tokens, got ${ids.length}`,
        );
      return Int32Array.from(ids.sort((a, b) => a - b));
    }),
    decode: async (tokens) => {
      const answer = await ask("/detokenize", { tokens });
      const { prompt } = answer as { prompt?: unknown };
      if (typeof prompt === "string") return prompt;
      throw needTokenizer("POST /detokenize: no `prompt` in the answer");
    },
  };
}

/** Asks at the first call and keeps the answer. */
function once<T>(find: () => Promise<T>): () => Promise<T> {
  let found: Promise<T> | undefined;
  return () => (found ??= find());
}

function needTokenizer(problem: string, cause?: unknown): OctavoError {
  return new OctavoError(
    "invalid_config",
    `This data set needs the model's tokenizer: give its directory with --tokenizer, or ask a server that has /tokenize. ${problem}`,
    "tokenizer",
    { cause },
  );
}

/** Made-up words of one to eight letters, and numbers: the same ones in every run. */
function probeText(): string {
  const random = new Random(0x0c7a);
  const letters = "etaoinshrdlucmfwypvbgkqjxz";
  const words = Array.from({ length: PROBE_WORDS }, (_, i) => {
    if (i % 20 === 0) return String(random.integer(0, 9999));
    const length = random.integer(1, 8);
    // The square favours the first letters, which are the commonest in English.
    const word = Array.from(
      { length },
      () => letters[Math.floor(random.uniform() ** 2 * letters.length)],
    ).join("");
    return i % 7 === 0 ? (word[0] ?? "").toUpperCase() + word.slice(1) : word;
  });
  return words.join(" ");
}

/** Rounds of cutting and filling until a text has as many tokens as asked for. */
const MAX_ROUNDS = 10;

/**
 * A text of `length` tokens that begins like `ids`. Decoding and encoding again joins and splits tokens, so the end is
 * cut or filled up until the length is right; where that does not settle the result says how long it is.
 * @param special count what the model adds around a text
 */
export async function textOfLength(
  vocabulary: Vocabulary,
  ids: readonly number[],
  length: number,
  special: boolean,
  draw: () => number,
): Promise<{ text: string; length: number }> {
  const around = special ? (await vocabulary.encode("", true)).length : 0;
  const wanted = Math.max(1, length - around);
  let tokens = ids.slice(0, wanted);
  for (let round = 1; ; round++) {
    while (tokens.length < wanted) tokens.push(draw());
    const text = await vocabulary.decode(tokens);
    const encoded = await vocabulary.encode(text, false);
    if (encoded.length === wanted || round === MAX_ROUNDS)
      return { text, length: encoded.length + around };
    tokens = Array.from(encoded.subarray(0, wanted));
  }
}
