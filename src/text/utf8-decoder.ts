/**
 * Incremental UTF-8 decoding with replacement, after the "UTF-8 decoder" of the WHATWG Encoding Standard
 * (https://encoding.spec.whatwg.org/#utf-8-decoder): each maximal ill-formed part becomes one U+FFFD, as in
 * TextDecoder and in Rust's `from_utf8_lossy`, and a byte order mark is kept. The output of a sequence of writes
 * depends on the bytes alone, never on how they were cut, and every character is out as soon as it is certain.
 */
export class Utf8Decoder {
  /** Bits of the code point begun so far. */
  private codePoint = 0;
  /** Continuation bytes still missing. */
  private needed = 0;
  /** The range of the next continuation byte: narrower than 80..BF after E0, ED, F0 and F4. */
  private lower = 0x80;
  private upper = 0xbf;

  /** True where the bytes so far end inside of a code point. */
  get pending(): boolean {
    return this.needed > 0;
  }

  write(bytes: Uint8Array): string {
    let text = "";
    for (const byte of bytes) {
      if (this.needed > 0) {
        if (byte >= this.lower && byte <= this.upper) {
          this.lower = 0x80;
          this.upper = 0xbf;
          this.codePoint = (this.codePoint << 6) | (byte & 0x3f);
          if (--this.needed === 0) text += String.fromCodePoint(this.codePoint);
          continue;
        }
        text += this.end(); // the begun sequence is ill-formed; `byte` starts afresh
      }
      if (byte < 0x80) text += String.fromCharCode(byte);
      else if (!this.begin(byte)) text += "\uFFFD";
    }
    return text;
  }

  /** The end of the input: U+FFFD for a code point that was begun, else nothing. The decoder is fresh afterwards. */
  end(): string {
    if (this.needed === 0) return "";
    this.needed = 0;
    this.lower = 0x80;
    this.upper = 0xbf;
    return "\uFFFD";
  }

  /** Takes a lead byte; false where no well-formed sequence begins with it. */
  private begin(byte: number): boolean {
    if (byte >= 0xc2 && byte <= 0xdf) {
      this.needed = 1;
      this.codePoint = byte & 0x1f;
    } else if (byte >= 0xe0 && byte <= 0xef) {
      if (byte === 0xe0) this.lower = 0xa0;
      if (byte === 0xed) this.upper = 0x9f; // no surrogates
      this.needed = 2;
      this.codePoint = byte & 0x0f;
    } else if (byte >= 0xf0 && byte <= 0xf4) {
      if (byte === 0xf0) this.lower = 0x90;
      if (byte === 0xf4) this.upper = 0x8f; // nothing above U+10FFFF
      this.needed = 3;
      this.codePoint = byte & 0x07;
    } else return false;
    return true;
  }
}
