import type { Encoding, Tokenizer } from "tokenizers";
import path from "node:path";
import { badFile } from "../text/model-files.js";
import {
  openTokenizer,
  readTokenizerFile,
  wellFormed,
} from "../text/tokenizer-file.js";
import type { EncoderInput } from "./messages.js";

export interface EncoderTokenizerOptions {
  /** Texts are lowercased first, as some models of sentence-transformers want. */
  readonly lowercase: boolean;
}

/** Most tokens of an input, special ones included; the rest is cut off at its end. null: nothing is cut. */
type Limit = number | null;

/** Texts that go to the library at a time: others' turns come in between. */
const SLICE = 64;

/** An encoder's tokenizer: one text, or two that are read together. Never back to text. */
export class EncoderTokenizer {
  private constructor(
    private readonly rust: Tokenizer,
    private readonly options: EncoderTokenizerOptions,
    /** Highest token id + 1. */
    readonly numTokens: number,
    /** Special tokens around one text, and around and between two. */
    readonly numSpecial: { readonly single: number; readonly pair: number },
  ) {}

  /** Errors: `invalid_model` that names file and field. */
  static async load(
    directory: string,
    options: EncoderTokenizerOptions,
  ): Promise<EncoderTokenizer> {
    const file = path.join(directory, "tokenizer.json");
    const source = await readTokenizerFile(file);
    const { rust, numTokens } = openTokenizer(source);
    try {
      const around = async (pair: string | null): Promise<number> =>
        (await rust.encode("", pair, { addSpecialTokens: true })).getLength();
      // A text that no vocabulary has in whole: what stands for the unknown is missing now or never.
      await rust.encode("\u{1F4D6}\u0378 a", null, { addSpecialTokens: false });
      const numSpecial = { single: await around(null), pair: await around("") };
      return new EncoderTokenizer(rust, options, numTokens, numSpecial);
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
    const room =
      limit === null
        ? null
        : limit - (addSpecialTokens ? this.numSpecial.single : 0);
    const parts = await this.parts(texts);
    return parts.map((part) => {
      cut(part, room);
      return inputOf(this.rust.postProcess(part, null, addSpecialTokens));
    });
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
    const room = limit === null ? null : limit - this.numSpecial.pair;
    const [a, b] = [await this.parts(first), await this.parts(second)];
    const lengths = a.map((part) => part.getLength());
    return b.map((right, i) => {
      const at = a.length === 1 ? 0 : i;
      const left = a[at];
      if (left === undefined) throw new RangeError(`no first text ${at}`);
      const [keep, keepRight] = longestFirst(
        lengths[at] ?? 0,
        right.getLength(),
        room,
      );
      cut(right, keepRight);
      // Cutting changes an encoding, and the first one may be needed again.
      const whole = keep === lengths[at];
      const head = whole ? left : this.rust.postProcess(left, null, false);
      if (!whole) cut(head, keep);
      return inputOf(this.rust.postProcess(head, right, true));
    });
  }

  /** Without special tokens. */
  private async parts(texts: readonly string[]): Promise<Encoding[]> {
    const parts: Encoding[] = [];
    for (let from = 0; from < texts.length; from += SLICE) {
      const slice = texts.slice(from, from + SLICE).map((text) => {
        const clean = wellFormed(text);
        return this.options.lowercase ? clean.toLowerCase() : clean;
      });
      parts.push(
        ...(await this.rust.encodeBatch(slice, { addSpecialTokens: false })),
      );
    }
    return parts;
  }
}

function cut(part: Encoding, room: number | null): void {
  if (room !== null && part.getLength() > room) part.truncate(room, 0, "right");
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

function inputOf(encoding: Encoding): EncoderInput {
  const typeIds = encoding.getTypeIds();
  return {
    ids: Int32Array.from(encoding.getIds()),
    typeIds: typeIds.some((id) => id !== 0) ? Uint8Array.from(typeIds) : null,
  };
}
