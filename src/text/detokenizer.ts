/**
 * Token ids -> text, one at a time. The text of a sequence is the UTF-8 decoding of its tokens' bytes, so what `push`
 * and `end` return, put together, is the same however it is asked for, and is what tokenizer.json's decoder gives for
 * the whole sequence. (One difference, where the bytes are not UTF-8: Hugging Face's ByteFallback turns a whole run of
 * byte tokens into U+FFFD when any of it is ill-formed, which no stream can do; here the well-formed part stays.)
 * `clean_up_tokenization_spaces` is never applied.
 */
import type { TokenTable } from "./token-table.js";
import { Utf8Decoder } from "./utf8-decoder.js";

export interface DetokenizerOptions {
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean;
  /** Special tokens that stay in the text even so: markers that somebody is looking for. */
  readonly keepTokenIds?: ReadonlySet<number>;
  /**
   * False: an added token directly after another is written as the vocabulary spells it, without what the decoder
   * would make of it (the space of a leading `▁`). Default true. No effect while special tokens are skipped.
   */
  readonly spacesBetweenSpecialTokens?: boolean;
  /**
   * The sequence is a whole text, from its beginning: strip what the decoder section strips there (the space that
   * SentencePiece encoding puts before the first word). Default false, right for a continuation: a generated text
   * keeps its leading space.
   */
  readonly stripLeadingSpace?: boolean;
}

export class Detokenizer {
  private readonly utf8 = new Utf8Decoder();
  private readonly skipSpecialTokens: boolean;
  private readonly kept: ReadonlySet<number> | null;
  private readonly rawAfterAdded: boolean;
  private lastAdded = false;
  /** Characters that may still be stripped from the beginning. */
  private toStrip = 0;
  private readonly stripChar: string = " ";
  /** Dropped from the first token, then null. */
  private dropInFirst: string | null = null;

  constructor(
    private readonly table: TokenTable,
    private readonly specialIds: ReadonlySet<number>,
    options: DetokenizerOptions = {},
  ) {
    this.skipSpecialTokens = options.skipSpecialTokens ?? true;
    this.kept = options.keepTokenIds ?? null;
    this.rawAfterAdded =
      !this.skipSpecialTokens && options.spacesBetweenSpecialTokens === false;
    const { decoder } = table;
    if (options.stripLeadingSpace === true && decoder.kind === "pieces") {
      this.toStrip = decoder.strip.count;
      this.stripChar = decoder.strip.char;
      this.dropInFirst = decoder.dropInFirstToken;
    }
  }

  /** The text that `id` makes certain: never a part of a code point. "" for an id that no token has. */
  push(id: number): string {
    if (
      this.skipSpecialTokens &&
      this.specialIds.has(id) &&
      this.kept?.has(id) !== true
    )
      return "";
    const text = this.utf8.pending ? null : this.table.text(id);
    const added = this.table.addedIds.has(id);
    const raw = this.rawAfterAdded && added && this.lastAdded;
    this.lastAdded = added;
    if (raw || this.dropInFirst !== null)
      return this.strip(this.pushSpelling(id, raw));
    return this.strip(text ?? this.utf8.write(this.table.bytes(id)));
  }

  /** The end of the sequence: U+FFFD where it ends inside of a code point, else "". Ready for another afterwards. */
  end(): string {
    this.lastAdded = false;
    return this.strip(this.utf8.end());
  }

  /** Tokens whose text is not the decoder's: raw ones, and the first of a Metaspace sequence. */
  private pushSpelling(id: number, raw: boolean): string {
    let token = this.table.token(id);
    if (token === null) return "";
    if (!raw && this.dropInFirst !== null) {
      if (!token.includes(this.dropInFirst)) {
        this.dropInFirst = null;
        return this.utf8.write(this.table.bytes(id));
      }
      token = token.replaceAll(this.dropInFirst, "");
    }
    this.dropInFirst = null;
    return this.utf8.write(Buffer.from(token, "utf8"));
  }

  private strip(text: string): string {
    if (this.toStrip === 0) return text;
    let start = 0;
    while (this.toStrip > 0 && text.startsWith(this.stripChar, start)) {
      start += this.stripChar.length;
      this.toStrip--;
    }
    if (start < text.length) this.toStrip = 0;
    return text.slice(start);
  }
}
