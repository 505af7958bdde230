/**
 * Python literals as JSON: strings, numbers, True, False, None, lists, tuples and dictionaries. Null for anything else
 * (an expression, text that is cut off).
 */
export function pythonLiteralToJson(text: string): string | null {
  const reader = new Reader(text);
  const json = reader.value();
  return json === null || !reader.atEnd ? null : json;
}

const WORDS: Readonly<Record<string, string>> = {
  True: "true",
  False: "false",
  None: "null",
  // Models mix the languages up.
  true: "true",
  false: "false",
  null: "null",
};

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  b: "\b",
  f: "\f",
  "\n": "",
};

/** A name or a number, where lastIndex stands. */
const WORD = /[+-]?(?:[\d._]+[eE][+-]\d+|[\w.]+)/y;

/** Nesting beyond this is no argument that anybody means. */
const MAX_DEPTH = 64;

class Reader {
  private at = 0;
  private depth = 0;

  constructor(private readonly text: string) {}

  get atEnd(): boolean {
    this.skipSpace();
    return this.at === this.text.length;
  }

  value(): string | null {
    this.skipSpace();
    const unit = this.text[this.at];
    if (unit === undefined || this.depth > MAX_DEPTH) return null;
    if (unit === '"' || unit === "'") return this.string(unit);
    if (unit === "[" || unit === "(")
      return this.items(unit === "[" ? "]" : ")", () => this.value(), "[", "]");
    if (unit === "{") return this.items("}", () => this.entry(), "{", "}");
    return this.word();
  }

  private skipSpace(): void {
    while (/\s/.test(this.text[this.at] ?? "")) this.at++;
  }

  /** Returns whether `unit` came next. */
  private take(unit: string): boolean {
    this.skipSpace();
    if (this.text[this.at] !== unit) return false;
    this.at++;
    return true;
  }

  private items(
    close: string,
    item: () => string | null,
    jsonOpen: string,
    jsonClose: string,
  ): string | null {
    this.at++;
    this.depth++;
    const items: string[] = [];
    while (!this.take(close)) {
      if (items.length > 0 && !this.take(",")) return null;
      if (this.take(close)) break;
      const json = item();
      if (json === null) return null;
      items.push(json);
    }
    this.depth--;
    return jsonOpen + items.join(", ") + jsonClose;
  }

  private entry(): string | null {
    const key = this.value();
    if (key === null || !this.take(":")) return null;
    const value = this.value();
    if (value === null) return null;
    return `${key.startsWith('"') ? key : JSON.stringify(key)}: ${value}`;
  }

  private word(): string | null {
    WORD.lastIndex = this.at;
    const match = WORD.exec(this.text);
    if (match === null) return null;
    this.at += match[0].length;
    const known = WORDS[match[0]];
    if (known !== undefined) return known;
    // 1_000, 1., .5 and +1 are numbers in Python and not in JSON.
    const digits = match[0].replaceAll("_", "");
    if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(digits)) return null;
    if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(digits)) return digits;
    return JSON.stringify(Number(digits));
  }

  private string(quote: string): string | null {
    this.at++;
    let value = "";
    for (;;) {
      const unit = this.text[this.at++];
      if (unit === undefined) return null;
      if (unit === quote) return JSON.stringify(value);
      value += unit === "\\" ? this.escape() : unit;
    }
  }

  private escape(): string {
    const unit = this.text[this.at++] ?? "";
    const length = unit === "x" ? 2 : unit === "u" ? 4 : 0;
    const hex = this.text.slice(this.at, this.at + length);
    if (length > 0 && hex.length === length && /^[0-9a-fA-F]+$/.test(hex)) {
      this.at += length;
      return String.fromCharCode(parseInt(hex, 16));
    }
    return ESCAPES[unit] ?? (/["'\\]/.test(unit) ? unit : `\\${unit}`);
  }
}
