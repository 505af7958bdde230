/**
 * Token id -> bytes, once per model. The text of a sequence is then the UTF-8 decoding of its tokens' bytes, whatever the
 * kind of tokenizer.
 */
import { packBytes, type PackedBytes } from "../core/packed-bytes.js";
import type { DecoderSpec } from "./decoder-spec.js";
import { badFile, describe, isObject, type JsonObject } from "./model-files.js";
import { Utf8Decoder } from "./utf8-decoder.js";

/** Far above every published vocabulary; a bound on what a lying id can make us allocate. */
const MAX_TOKEN_ID = 4_000_000;

/**
 * The byte-level alphabet of GPT-2: printable Latin-1 characters stand for themselves, the other 68 bytes, in order,
 * for U+0100 and up.
 */
function byteLevelAlphabet(): ReadonlyMap<number, number> {
  const bytes = new Map<number, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) ||
      (byte >= 0xa1 && byte <= 0xac) ||
      (byte >= 0xae && byte <= 0xff);
    bytes.set(printable ? byte : next++, byte);
  }
  return bytes;
}

const NO_BYTES = new Uint8Array(0);
const ALPHABET = byteLevelAlphabet();

/** The bytes of a byte-level token, or null where a character is outside of the alphabet. */
function fromAlphabet(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = ALPHABET.get(token.charCodeAt(i));
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}

function bytesOf(
  token: string,
  added: boolean,
  decoder: DecoderSpec,
): Uint8Array {
  if (decoder.kind === "byte-level") {
    // Added tokens are text, not spelled in the alphabet: "é" is two bytes of UTF-8, not the byte E9.
    const bytes = added ? null : fromAlphabet(token);
    return bytes ?? Buffer.from(token, "utf8");
  }
  let text = token;
  for (const { from, to } of decoder.replacements)
    text = text.replaceAll(from, () => to);
  const byte = decoder.byteFallback
    ? /^<0x([0-9A-Fa-f]{2})>$/.exec(text)
    : null;
  return byte === null
    ? Buffer.from(text, "utf8")
    : Uint8Array.of(parseInt(byte[1] ?? "", 16));
}

/** One entry of tokenizer.json's `added_tokens`. */
export interface AddedTokenEntry {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

function checkId(
  file: string,
  list: string,
  key: string | number,
  id: unknown,
): number {
  if (
    typeof id === "number" &&
    Number.isInteger(id) &&
    id >= 0 &&
    id <= MAX_TOKEN_ID
  )
    return id;
  throw badFile(
    file,
    `${list}[${JSON.stringify(key)}]: expected a token id of 0 to ${MAX_TOKEN_ID}, got ${describe(id)}`,
  );
}

/** The added tokens of a parsed tokenizer.json; errors call the list `name`. Errors: `invalid_model`. */
export function readAddedTokens(
  file: string,
  json: JsonObject,
  name = "added_tokens",
): AddedTokenEntry[] {
  const list = json.added_tokens ?? [];
  if (!Array.isArray(list))
    throw badFile(file, `${name}: expected a list, got ${describe(list)}`);
  return list.map((entry: unknown, i) => {
    const field = `${name}[${i}]`;
    if (!isObject(entry) || typeof entry.content !== "string")
      throw badFile(
        file,
        `${field}: expected an object with content, got ${describe(entry)}`,
      );
    return {
      id: checkId(file, name, i, entry.id),
      content: entry.content,
      special: entry.special === true,
    };
  });
}

/** Token strings by id from model.vocab: an object token -> id, or Unigram's list of [token, score]. Errors: `invalid_model`. */
export function readVocab(
  file: string,
  json: JsonObject,
): (string | undefined)[] {
  const model = json.model;
  if (!isObject(model))
    throw badFile(file, `model: expected an object, got ${describe(model)}`);
  const vocab = model.vocab;
  const tokens: (string | undefined)[] = [];
  if (Array.isArray(vocab)) {
    vocab.forEach((entry: unknown, id) => {
      const token: unknown = Array.isArray(entry) ? entry[0] : undefined;
      if (typeof token !== "string")
        throw badFile(
          file,
          `model.vocab[${id}]: expected [token, score], got ${describe(entry)}`,
        );
      tokens[id] = token;
    });
  } else if (isObject(vocab)) {
    for (const [token, value] of Object.entries(vocab)) {
      const id = checkId(file, "model.vocab", token, value);
      if (tokens[id] !== undefined)
        throw badFile(
          file,
          `model.vocab: expected an id for each token, got ${id} for ${JSON.stringify(tokens[id])} and ${JSON.stringify(token)}`,
        );
      tokens[id] = token;
    }
  } else
    throw badFile(
      file,
      `model.vocab: expected an object or a list, got ${describe(vocab)}`,
    );
  return tokens;
}

export class TokenTable {
  /** By id; empty where no token has it. */
  readonly packed: PackedBytes;
  /** Text of each token after complete text; null where it ends inside of a code point; filled when first asked. */
  private readonly texts: (string | null | undefined)[];

  private readonly tokens: readonly (string | undefined)[];
  readonly addedIds: ReadonlySet<number>;

  /** @param vocab token strings by id, with holes where no token has an id; `added` goes over it */
  constructor(
    vocab: readonly (string | undefined)[],
    added: readonly AddedTokenEntry[],
    readonly decoder: DecoderSpec,
  ) {
    const tokens = [...vocab];
    for (const { id, content } of added) tokens[id] = content;
    this.tokens = Array.from(tokens);
    this.addedIds = new Set(added.map(({ id }) => id));
    this.packed = packBytes(
      this.tokens.map((token, id) =>
        token === undefined
          ? NO_BYTES
          : bytesOf(token, this.addedIds.has(id), decoder),
      ),
    );
    this.texts = new Array<string | null | undefined>(tokens.length);
  }

  /** Highest id + 1, added tokens included. */
  get size(): number {
    return this.tokens.length;
  }

  /** The token as the vocabulary spells it, or null for an id that no token has. */
  token(id: number): string | null {
    return this.tokens[id] ?? null;
  }

  /** A view, not a copy; empty for an id that no token has. */
  bytes(id: number): Uint8Array {
    const { bytes, starts } = this.packed;
    const start = starts[id];
    const end = starts[id + 1];
    if (start === undefined || end === undefined) return NO_BYTES;
    return bytes.subarray(start, end);
  }

  /** What the token adds to complete text, or null where its bytes end inside of a code point. */
  text(id: number): string | null {
    const known = this.texts[id];
    if (known !== undefined) return known;
    if (id < 0 || id >= this.size) return "";
    const utf8 = new Utf8Decoder();
    const decoded = utf8.write(this.bytes(id));
    const text = utf8.pending ? null : decoded;
    this.texts[id] = text;
    return text;
  }
}
