import type { PackedBytes } from "../core/packed-bytes.js";
import { SPECIAL_MARK } from "./ranges.js";
import { NUM_STATES, stateAfter } from "./utf8-state.js";

/** The tokens of a model as plain data for a worker. */
export interface VocabularyData {
  /** Of the model: padding included. */
  vocabSize: number;
  /** By id; it may have fewer. */
  tokens: PackedBytes;
  specialIds: number[];
  /** Tokens that may end a grammar. At least one. */
  eosTokenIds: number[];
}

/** What is asked of a tokenizer (src/text). */
export interface TokenSource {
  readonly specialTokenIds: ReadonlySet<number>;
  /** By token id. */
  readonly packedTokens: PackedBytes;
}

/** Views, not copies: the thread that asks delivers everybody's tokens. */
export function vocabularyOf(
  { specialTokenIds, packedTokens }: TokenSource,
  vocabSize: number,
  eosTokenIds: readonly number[],
): VocabularyData {
  const starts = packedTokens.starts.subarray(0, vocabSize + 1);
  return {
    vocabSize,
    tokens: { bytes: packedTokens.bytes, starts },
    specialIds: [...specialTokenIds].filter((id) => id < starts.length - 1),
    eosTokenIds: [...eosTokenIds],
  };
}

/** The byte-level alphabet of GPT-2, in which XGrammar takes any bytes: see src/text/token-table.ts. */
function byteAlphabet(): string[] {
  const letters: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) ||
      (byte >= 0xa1 && byte <= 0xac) ||
      (byte >= 0xae && byte <= 0xff);
    letters.push(String.fromCharCode(printable ? byte : next++));
  }
  return letters;
}

/**
 * The vocabulary as the grammar sees it. A special token is spelled as a mark and its number, so that it follows only
 * where a grammar names it: no text can hold the mark. Tokens of other text with the mark, and without any text, never
 * follow.
 */
export class Vocabulary {
  readonly words: number;
  private readonly special: ReadonlySet<number>;
  /** [NUM_STATES][words] by state of the UTF-8 before: the tokens that leave it well-formed. */
  private readonly wellFormed: Uint32Array[];
  /** [words] every token that is not special; the end of sequence counts as ordinary. */
  private readonly ordinary: Uint32Array;
  private readonly spellings: readonly [text: string, spelling: string][];

  constructor(readonly data: VocabularyData) {
    this.words = Math.ceil(data.vocabSize / 32);
    const ends = new Set(data.eosTokenIds);
    this.special = new Set(data.specialIds.filter((id) => !ends.has(id)));
    this.wellFormed = Array.from({ length: NUM_STATES }, (_, state) =>
      this.maskWhere(
        (id) => ends.has(id) || stateAfter(state, this.textBytes(id)) >= 0,
      ),
    );
    this.ordinary = this.maskWhere((id) => !this.special.has(id));
    this.spellings = [...this.special]
      .map((id): [string, string] => [
        Buffer.from(this.bytesOf(id)).toString("utf8"),
        spellingOf(id),
      ])
      .filter(([text]) => text !== "")
      .sort(([a], [b]) => b.length - a.length);
  }

  /**
   * Every token's text in the byte-level alphabet, [vocabSize]. Padding is "": XGrammar never lets an id beyond the list
   * follow, not even one that ends the output, and a model may well name such an id as its end of sequence.
   */
  encoded(): string[] {
    const letters = byteAlphabet();
    return Array.from({ length: this.data.vocabSize }, (_, id) => {
      if (this.special.has(id)) return encode(spelled(id), letters);
      const bytes = this.bytesOf(id);
      const marked = bytes.includes(SPECIAL_MARK.charCodeAt(0));
      return marked ? "" : encode(bytes, letters);
    });
  }

  /** Text in which special tokens stand for themselves. */
  readonly spell = (text: string): string => {
    let rest = text;
    let out = "";
    while (rest !== "") {
      const found = this.spellings.find(([special]) =>
        rest.startsWith(special),
      );
      const [char = ""] = rest;
      out += found ? found[1] : char;
      rest = rest.slice(found ? found[0].length : char.length);
    }
    return out;
  };

  /** The state of the UTF-8 behind a token. */
  stateAfter(state: number, id: number): number {
    return Math.max(0, stateAfter(state, this.textBytes(id)));
  }

  /** Clears what would leave ill-formed UTF-8, and on request the special tokens. */
  restrict(mask: Int32Array, state: number, ordinaryOnly: boolean): void {
    const wellFormed = this.wellFormed[state] ?? this.ordinary;
    for (let w = 0; w < mask.length; w++) {
      let word = (mask[w] as number) & (wellFormed[w] as number);
      if (ordinaryOnly) word &= this.ordinary[w] as number;
      mask[w] = word;
    }
  }

  private bytesOf(id: number): Uint8Array {
    const { bytes, starts } = this.data.tokens;
    return bytes.subarray(starts[id] ?? 0, starts[id + 1] ?? starts[id] ?? 0);
  }

  private textBytes(id: number): Uint8Array {
    return this.special.has(id) ? spelled(id) : this.bytesOf(id);
  }

  private maskWhere(holds: (id: number) => boolean): Uint32Array {
    const mask = new Uint32Array(this.words);
    for (let id = 0; id < this.data.vocabSize; id++)
      if (holds(id))
        mask[id >>> 5] = (mask[id >>> 5] as number) | (1 << (id & 31));
    return mask;
  }
}

function spellingOf(id: number): string {
  return `${SPECIAL_MARK}${id};`;
}

function spelled(id: number): Uint8Array {
  return Buffer.from(spellingOf(id), "utf8");
}

function encode(bytes: Uint8Array, letters: readonly string[]): string {
  let text = "";
  for (const byte of bytes) text += letters[byte] ?? "";
  return text;
}
