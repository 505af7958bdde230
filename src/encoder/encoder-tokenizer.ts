import type { Tokenizer } from "tokenizers";
import path from "node:path";
import { badFile } from "../text/model-files.js";
import {
  openTokenizer,
  readTokenizerFile,
  wellFormed,
} from "../text/tokenizer-file.js";
import type { EncoderInput } from "./messages.js";
import { TokenFrame } from "./token-frame.js";

export interface EncoderTokenizerOptions {
  /** Texts are lowercased first, as some models of sentence-transformers want. */
  readonly lowercase: boolean;
}

/** Most tokens of an input, special ones included; the rest is cut off at its end. null: nothing is cut. */
type Limit = number | null;

/** Texts that go to the library at a time, and their characters: others' turns come in between. */
const SLICE = 64;
const SLICE_CHARACTERS = 1 << 16;
/** Texts to see by what is around them; some vocabulary may have nothing for one. */
const PROBES = ["a", "the", "1", "\u4e00"];

/** An encoder's tokenizer: one text, or two that are read together. Never back to text. */
export class EncoderTokenizer {
  private constructor(
    private readonly rust: Tokenizer,
    private readonly options: EncoderTokenizerOptions,
    /** Highest token id + 1. */
    readonly numTokens: number,
    private readonly single: TokenFrame,
    private readonly pair: TokenFrame,
  ) {}

  /** Special tokens around one text, and around and between two. */
  get numSpecial(): { readonly single: number; readonly pair: number } {
    return { single: this.single.numSpecial, pair: this.pair.numSpecial };
  }

  /** Errors: `invalid_model` that names file and field. */
  static async load(
    directory: string,
    options: EncoderTokenizerOptions,
  ): Promise<EncoderTokenizer> {
    const file = path.join(directory, "tokenizer.json");
    const source = await readTokenizerFile(file);
    const { rust, numTokens } = openTokenizer(source);
    try {
      // A text that no vocabulary has in whole: what stands for the unknown is missing now or never.
      await rust.encode("\u{1F4D6}\u0378 a", null, { addSpecialTokens: false });
      const single = await frameOf(rust, 1);
      const pair = await frameOf(rust, 2);
      return new EncoderTokenizer(rust, options, numTokens, single, pair);
    } catch (error) {
      throw badFile(file, `cannot encode: ${(error as Error).message}`, error);
    }
  }

  /**
   * The inputs of texts that are read alone.
   * @param limit at least the special tokens' number
   */
  async encode(
    texts: readonly string[],
    { addSpecialTokens, limit }: { addSpecialTokens: boolean; limit: Limit },
  ): Promise<EncoderInput[]> {
    const frame = addSpecialTokens ? this.single : this.single.bare();
    const room = limit === null ? undefined : limit - frame.numSpecial;
    const parts = await this.parts(texts);
    return parts.map((part) => frame.around(part.subarray(0, room)));
  }

  /**
   * The inputs of pairs, the first texts with the second ones in order; a single first one goes with each.
   * @param limit at least the special tokens' number; the longer of the two texts is cut first
   */
  async encodePairs(
    first: readonly string[],
    second: readonly string[],
    limit: Limit,
  ): Promise<EncoderInput[]> {
    const room = limit === null ? null : limit - this.pair.numSpecial;
    const [a, b] = [await this.parts(first), await this.parts(second)];
    return b.map((right, i) => {
      const at = a.length === 1 ? 0 : i;
      const left = a[at];
      if (left === undefined) throw new RangeError(`no first text ${at}`);
      const [keep, keepRight] = longestFirst(left.length, right.length, room);
      return this.pair.around(
        left.subarray(0, keep),
        right.subarray(0, keepRight),
      );
    });
  }

  /** Without special tokens, Int32 [tokens] each. */
  private async parts(texts: readonly string[]): Promise<Int32Array[]> {
    const parts: Int32Array[] = [];
    for (let from = 0; from < texts.length;) {
      const to = endOfSlice(texts, from);
      const slice = texts.slice(from, to).map((text) => {
        const clean = wellFormed(text);
        return this.options.lowercase ? clean.toLowerCase() : clean;
      });
      const encodings = await this.rust.encodeBatch(slice, {
        addSpecialTokens: false,
      });
      for (const encoding of encodings)
        parts.push(Int32Array.from(encoding.getIds()));
      from = to;
    }
    return parts;
  }
}

/** A few texts, or a long one. */
function endOfSlice(texts: readonly string[], from: number): number {
  let characters = texts[from]?.length ?? 0;
  let to = from + 1;
  for (; to < texts.length && to - from < SLICE; to++) {
    characters += texts[to]?.length ?? 0;
    if (characters > SLICE_CHARACTERS) break;
  }
  return to;
}

async function frameOf(rust: Tokenizer, count: 1 | 2): Promise<TokenFrame> {
  for (const probe of PROBES) {
    const alone = await rust.encode(probe, null, { addSpecialTokens: false });
    if (alone.getLength() === 0) continue;
    const whole = await rust.encode(probe, count === 1 ? null : probe, {
      addSpecialTokens: true,
    });
    const ids = alone.getIds();
    const frame = TokenFrame.of(whole, count === 1 ? [ids] : [ids, ids]);
    if (frame !== null) return frame;
    throw new Error(
      `expected a post_processor that puts special tokens around ${count === 1 ? "a text" : "two texts in order"}, got other tokens for "${probe}"`,
    );
  }
  throw new Error(`expected tokens for one of "${PROBES.join('", "')}"`);
}

/** How much of two texts is kept, as the "longest_first" of Hugging Face's tokenizers has it. */
export function longestFirst(
  first: number,
  second: number,
  room: number | null,
): [first: number, second: number] {
  if (room === null || first + second <= room) return [first, second];
  const shorter = Math.min(first, second);
  const half = Math.floor(room / 2);
  // What the shorter one leaves is the longer one's; neither is cut below half.
  const kept = Math.min(shorter, half);
  const rest = room - kept;
  return first <= second
    ? [kept, Math.min(second, rest)]
    : [Math.min(first, rest), kept];
}
