/**
 * The tokenizer of a model directory. Encoding is Hugging Face's Rust library, asynchronous and off the event loop;
 * decoding is our own table of bytes (25 times faster than the library's window method, and exact on split UTF-8).
 */
import { join } from "node:path";
import { AddedToken, type Tokenizer as RustTokenizer } from "tokenizers";
import type { PackedBytes } from "../core/packed-bytes.js";
import { parseDecoder } from "./decoder-spec.js";
import { Detokenizer, type DetokenizerOptions } from "./detokenizer.js";
import {
  badFile,
  describe,
  isObject,
  readOptionalJsonObject,
  type JsonObject,
} from "./model-files.js";
import { readSpecialTokens } from "./special-tokens.js";
import {
  openTokenizer,
  readTokenizerFile,
  wellFormed,
} from "./tokenizer-file.js";
import {
  readAddedTokens,
  TokenTable,
  type AddedTokenEntry,
} from "./token-table.js";

export interface EncodeOptions {
  /** Add what the model wants around a text (bos, eos). False for a chat prompt: its template has them. */
  readonly addSpecialTokens: boolean;
}

/** Ids that tokenizer_config.json asks for and tokenizer.json's post-processor does not add. */
interface Extra {
  readonly bos: number | null;
  readonly eos: number | null;
}

/**
 * What is used of the library's tokenizer. In our words: the types that the library ships have errors, which nobody who
 * compiles against ours is to meet.
 */
interface LibraryTokenizer {
  encode(
    text: string,
    pair: null,
    options: EncodeOptions,
  ): Promise<{ getIds(): number[] }>;
  tokenToId(token: string): number | null;
}

export class Tokenizer {
  constructor(
    private readonly rust: LibraryTokenizer,
    private readonly table: TokenTable,
    /** Left out of the text where special tokens are skipped. */
    readonly specialTokenIds: ReadonlySet<number>,
    private readonly extra: Extra,
  ) {}

  /** Highest token id + 1, added tokens included. The model's own vocabulary may be padded beyond it. */
  get vocabSize(): number {
    return this.table.size;
  }

  /**
   * Any string, also the empty one; a lone surrogate counts as U+FFFD. Text that spells an added token becomes that
   * token, special ones included, as in Hugging Face's tokenizers and vLLM.
   * @returns token ids, Int32 [number of tokens]
   */
  async encode(
    text: string,
    { addSpecialTokens }: EncodeOptions,
  ): Promise<Int32Array> {
    const encoding = await this.rust.encode(wellFormed(text), null, {
      addSpecialTokens,
    });
    const ids = encoding.getIds();
    if (addSpecialTokens) {
      if (this.extra.bos !== null) ids.unshift(this.extra.bos);
      if (this.extra.eos !== null) ids.push(this.extra.eos);
    }
    return Int32Array.from(ids);
  }

  /** Null where no token is spelled so. */
  tokenToId(token: string): number | null {
    return this.rust.tokenToId(token);
  }

  /** The token as the vocabulary spells it (`Ġhello`, `▁hello`), or null where no token has the id. */
  idToToken(id: number): string | null {
    return this.table.token(id);
  }

  /** What the token adds to the output's bytes: a view, not a copy. Empty where no token has the id. */
  tokenBytes(id: number): Uint8Array {
    return this.table.bytes(id);
  }

  /** The bytes of all tokens, by id. */
  get packedTokens(): PackedBytes {
    return this.table.packed;
  }

  /** A detokenizer for one sequence. */
  createDetokenizer(options: DetokenizerOptions = {}): Detokenizer {
    return new Detokenizer(this.table, this.specialTokenIds, options);
  }

  /**
   * The text of a whole sequence: what a detokenizer with these options gives piece by piece. With
   * `stripLeadingSpace: true` it is what the Hugging Face library's `decode` gives for the sequence (/detokenize).
   */
  decode(ids: Iterable<number>, options: DetokenizerOptions = {}): string {
    const detokenizer = this.createDetokenizer(options);
    let text = "";
    for (const id of ids) text += detokenizer.push(id);
    return text + detokenizer.end();
  }
}

/**
 * Loads tokenizer.json, with tokenizer_config.json and special_tokens_map.json where they are there.
 * Errors: `invalid_model` that names file and field; `unsupported_model` for a decoder that is not built.
 */
export async function loadTokenizer(modelDir: string): Promise<Tokenizer> {
  const file = join(modelDir, "tokenizer.json");
  const source = await readTokenizerFile(file);
  // Our own checks first: their errors name the field, the library's only a column.
  const decoder = parseDecoder(file, source.json.decoder);
  const { rust, vocab, added: inFile } = openTokenizer(source);
  const configFile = join(modelDir, "tokenizer_config.json");
  const config = (await readOptionalJsonObject(configFile)) ?? {};
  for (const entry of inFile) checkAddedId(file, "added_tokens", entry, rust);
  const added = [
    ...inFile,
    ...addMissingTokens(configFile, config, inFile, rust),
  ];
  const table = new TokenTable(vocab, added, decoder);

  const names = await readSpecialTokens(modelDir, config);
  const special = new Set(
    added.filter((entry) => entry.special).map(({ id }) => id),
  );
  for (const token of [...names.named.values(), ...names.additional]) {
    const id = rust.tokenToId(token);
    if (id !== null) special.add(id);
  }
  const extra = await readExtra(configFile, config, names.named, rust);
  return new Tokenizer(rust, table, special, extra);
}

/** The library numbers added tokens itself, after the vocabulary, whatever the file says. */
function checkAddedId(
  file: string,
  field: string,
  { id, content }: AddedTokenEntry,
  rust: RustTokenizer,
): void {
  const actual = rust.tokenToId(content);
  if (actual === id) return;
  throw badFile(
    file,
    `${field}: expected ${JSON.stringify(content)} to follow the vocabulary with id ${actual}, got ${id}`,
  );
}

/** added_tokens_decoder of tokenizer_config.json may name tokens that tokenizer.json lacks; transformers adds them. */
function addMissingTokens(
  file: string,
  config: JsonObject,
  present: readonly AddedTokenEntry[],
  rust: RustTokenizer,
): AddedTokenEntry[] {
  const field = "added_tokens_decoder";
  const decoder = config[field] ?? {};
  if (!isObject(decoder))
    throw badFile(
      file,
      `${field}: expected an object, got ${describe(decoder)}`,
    );
  const known = new Set(present.map(({ id }) => id));
  const missing = readAddedTokens(
    file,
    {
      added_tokens: Object.entries(decoder).map(([id, entry]) =>
        isObject(entry) ? { ...entry, id: Number(id) } : entry,
      ),
    },
    field,
  ).filter(({ id }) => !known.has(id));
  missing.sort((a, b) => a.id - b.id);
  for (const entry of missing) {
    rust.addAddedTokens([
      new AddedToken(entry.content, entry.special, {
        normalized: !entry.special,
      }),
    ]);
    checkAddedId(file, field, entry, rust);
  }
  return missing;
}

function flag(file: string, config: JsonObject, field: string): boolean {
  const value = config[field];
  if (value === undefined || value === null) return false;
  if (typeof value === "boolean") return value;
  throw badFile(
    file,
    `${field}: expected true or false, got ${describe(value)}`,
  );
}

/** add_bos_token and add_eos_token, where encoding an empty text shows that the post-processor does not do it. */
async function readExtra(
  file: string,
  config: JsonObject,
  named: ReadonlyMap<string, string>,
  rust: RustTokenizer,
): Promise<Extra> {
  const around = (
    await rust.encode("", null, { addSpecialTokens: true })
  ).getIds();
  const wanted = (
    name: "bos" | "eos",
    present: number | undefined,
  ): number | null => {
    if (!flag(file, config, `add_${name}_token`)) return null;
    const token = named.get(`${name}_token`);
    const id = token === undefined ? null : rust.tokenToId(token);
    if (id === null)
      throw badFile(
        file,
        `add_${name}_token: expected ${name}_token to be in the vocabulary, got ${describe(token)}`,
      );
    return id === present ? null : id;
  };
  return { bos: wanted("bos", around[0]), eos: wanted("eos", around.at(-1)) };
}
