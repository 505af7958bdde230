import type { EncoderInput } from "./messages.js";

/** What a tokenizer's library says of some tokens: lists as long as they are many. */
export interface Encoded {
  getIds(): readonly number[];
  getTypeIds(): readonly number[];
  /** 1 for a token that was put around texts, else 0. */
  getSpecialTokensMask(): readonly number[];
}

interface Gap {
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

/**
 * The tokens around texts, which do not depend on what the texts are:
 *
 *   gap 0 | first text | gap 1            [CLS] a cat [SEP]
 *   ... | second text | gap 2             [CLS] a cat [SEP] a dog [SEP]
 *
 * The library adds them too, but at a microsecond a token, and on the thread that it is called on.
 */
export class TokenFrame {
  private constructor(
    /** One more than texts. */
    private readonly gaps: readonly Gap[],
    /** Of the tokens of each text. */
    private readonly types: readonly number[],
  ) {}

  /**
   * @param whole one or two texts with what is around them
   * @param texts the tokens of each by itself, at least one
   * @returns null where `whole` is no such row of the texts in their order
   */
  static of(
    whole: Encoded,
    texts: readonly (readonly number[])[],
  ): TokenFrame | null {
    const ids = whole.getIds();
    const allTypes = whole.getTypeIds();
    const special = whole.getSpecialTokensMask();
    const gaps: Gap[] = [];
    const types: number[] = [];
    let at = 0;
    const gap = (): void => {
      const from = at;
      while (special[at] === 1) at++;
      gaps.push({ ids: ids.slice(from, at), types: allTypes.slice(from, at) });
    };
    for (const text of texts) {
      gap();
      const type = allTypes[at] ?? 0;
      for (const id of text) {
        if (ids[at] !== id || allTypes[at] !== type) return null;
        at++;
      }
      types.push(type);
    }
    gap();
    return at === ids.length ? new TokenFrame(gaps, types) : null;
  }

  /** The same types with nothing around the texts. */
  bare(): TokenFrame {
    const none = { ids: [], types: [] };
    return new TokenFrame(
      this.gaps.map(() => none),
      this.types,
    );
  }

  /** Tokens around and between the texts. */
  get numSpecial(): number {
    return this.gaps.reduce((sum, { ids }) => sum + ids.length, 0);
  }

  /** @param texts as many as the frame was made of, Int32 [tokens] each */
  around(...texts: readonly Int32Array[]): EncoderInput {
    const length = texts.reduce((sum, text) => sum + text.length, 0);
    const ids = new Int32Array(length + this.numSpecial);
    const typeIds = new Uint8Array(ids.length);
    let at = 0;
    this.gaps.forEach((gap, i) => {
      ids.set(gap.ids, at);
      typeIds.set(gap.types, at);
      at += gap.ids.length;
      const text = texts[i];
      if (text === undefined) return;
      ids.set(text, at);
      typeIds.fill(this.types[i] ?? 0, at, at + text.length);
      at += text.length;
    });
    return { ids, typeIds: typeIds.some((id) => id !== 0) ? typeIds : null };
  }
}
