/** ECMAScript regular expressions as grammars: what is regular and needs no look at its surroundings. */
import { meeting, TooManyStates, type Condition } from "./automaton.js";
import { EMPTY, choice, oneOf, repeat, sequence } from "./nodes.js";
import type { Node, Ranges } from "./nodes.js";
import { ANY, chars, intersect, subtract, union } from "./ranges.js";

/** What an expression has that is not built, or what is wrong with it. */
export class RegexError extends Error {}

export interface RegexOptions {
  /** How one character out of a set is written: as it is, or as in a JSON string. */
  charOf?: (set: Ranges) => Node;
  /** What stands behind the text; nothing by default. */
  end?: Node;
  /** As JSON Schema reads a pattern: without ^ or $ anything may stand before or behind. Otherwise it is the whole text. */
  search?: boolean;
}

const DIGIT = chars("0123456789");
const WORD = union(
  [
    [0x30, 0x39],
    [0x41, 0x5a],
    [0x61, 0x7a],
  ],
  chars("_"),
);
const SPACE = union(
  chars("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"),
  [[0x2000, 0x200a]],
);
const LINE_ENDS = chars("\n\r\u2028\u2029");
const CLASS_ESCAPES: Readonly<Record<string, Ranges>> = {
  d: DIGIT,
  D: subtract(ANY, DIGIT),
  w: WORD,
  W: subtract(ANY, WORD),
  s: SPACE,
  S: subtract(ANY, SPACE),
};
const CONTROL_ESCAPES: Readonly<Record<string, string>> = {
  t: "\t",
  n: "\n",
  v: "\v",
  f: "\f",
  r: "\r",
  "0": "\0",
};
const MAX_DEPTH = 100;
const MAX_BOUND = 10_000;

/** Throws RegexError. */
export function regexNode(pattern: string, options: RegexOptions = {}): Node {
  const charOf = options.charOf ?? oneOf;
  const parser = new RegexParser(pattern, { ...options, charOf });
  const node = parser.parse();
  if (parser.conditions.length > 0)
    return meetingAll(regexConditions(pattern, options), options.end, charOf);
  return options.end ? sequence(node, options.end) : node;
}

/** What a text must meet to match: the expression, and the lookahead that it begins with. Throws RegexError. */
export function regexConditions(
  pattern: string,
  { search = false }: Pick<RegexOptions, "search"> = {},
): Condition[] {
  const parser = new RegexParser(pattern, { charOf: oneOf, search });
  return [{ node: parser.parse(), negated: false }, ...parser.conditions];
}

/** As `meeting`; throws RegexError. */
export function meetingAll(
  conditions: readonly Condition[],
  end: Node = EMPTY,
  charOf?: (set: Ranges) => Node,
): Node {
  try {
    return meeting(conditions, end, charOf);
  } catch (error) {
    if (!(error instanceof TooManyStates)) throw error;
    throw new RegexError("together these conditions are too complex");
  }
}

class RegexParser {
  private at = 0;
  private depth = 0;
  /** Inside of a lookahead. */
  private looking = false;
  private readonly source: readonly string[];
  private readonly charOf: (set: Ranges) => Node;
  private readonly search: boolean;
  /** What lookahead at the beginning asks of the whole text. */
  readonly conditions: Condition[] = [];

  constructor(
    pattern: string,
    { charOf = oneOf, search = false }: RegexOptions,
  ) {
    this.source = Array.from(pattern);
    this.charOf = charOf;
    this.search = search;
  }

  parse(): Node {
    const parts = [this.anchoredAlternative(true)];
    while (this.take("|")) {
      if (this.conditions.length > 0)
        this.fail("lookahead beside | is not built: put the others in a group");
      parts.push(this.anchoredAlternative(false));
    }
    if (this.at < this.source.length) this.fail(`unexpected ${this.peek()}`);
    return choice(parts);
  }

  /** An alternative of the whole expression: only here ^ and $ mean something that is built. */
  private anchoredAlternative(first: boolean): Node {
    const begins = this.take("^") || this.takeEscape("A");
    if (first && (begins || !this.search)) this.lookahead();
    const body = this.alternative();
    const ends = this.take("$") || this.takeEscape("Z");
    const anything = repeat(this.charOf(ANY), 0, Infinity);
    return sequence(
      begins || !this.search ? EMPTY : anything,
      body,
      ends || !this.search ? EMPTY : anything,
    );
  }

  /** `(?!...)` and `(?=...)` where the text begins: conditions on all of it. */
  private lookahead(): void {
    for (;;) {
      const sign = this.ahead(2);
      if (this.peek() !== "(" || this.ahead(1) !== "?") return;
      if (sign !== "!" && sign !== "=") return;
      this.at += 3;
      this.take("^");
      const node = this.lookedFor();
      if (!this.take(")")) this.fail("a group is not closed");
      this.conditions.push({ node, negated: sign === "!" });
    }
  }

  /** What a lookahead has in front of it, and behind that anything, unless $ says that there is nothing. */
  private lookedFor(): Node {
    const anything = repeat(oneOf(ANY), 0, Infinity);
    const parts: Node[] = [];
    this.looking = true;
    do {
      const body = this.alternative();
      parts.push(this.take("$") ? body : sequence(body, anything));
    } while (this.take("|"));
    this.looking = false;
    return choice(parts);
  }

  private disjunction(): Node {
    if (++this.depth > MAX_DEPTH)
      this.fail(`groups nest deeper than ${MAX_DEPTH}`);
    const parts = [this.alternative()];
    while (this.take("|")) parts.push(this.alternative());
    this.depth--;
    return choice(parts);
  }

  private alternative(): Node {
    const parts: Node[] = [];
    for (;;) {
      const next = this.peek();
      if (next === undefined || next === "|" || next === ")") break;
      const anchor =
        next === "$" ? 1 : next === "\\" && this.ahead(1) === "Z" ? 2 : 0;
      if (anchor > 0) {
        const after = this.ahead(anchor);
        const ends = after === undefined || after === "|";
        if (this.depth === 0 && (ends || (this.looking && after === ")")))
          break;
        this.fail(
          `${anchor === 1 ? "$" : "\\Z"} is built only at the end of the expression`,
        );
      }
      parts.push(this.quantified(this.atom()));
    }
    return parts.length === 0 ? EMPTY : sequence(...parts);
  }

  private atom(): Node {
    const char = this.next();
    switch (char) {
      case "(":
        return this.group();
      case "[":
        return this.charOf(this.charClass());
      case ".":
        return this.charOf(subtract(ANY, LINE_ENDS));
      case "\\":
        return this.one(this.escape(false));
      case "^":
        return this.fail("^ is built only at the beginning of the expression");
      case "*":
      case "+":
      case "?":
        return this.fail(`nothing to repeat before ${char}`);
      case "{":
        if (this.bounds()) return this.fail("nothing to repeat before {");
        return this.one(chars(char));
      default:
        return this.one(chars(char));
    }
  }

  /** One character of the set that a text may hold: half of a surrogate pair is none. */
  private one(set: Ranges): Node {
    return this.charOf(intersect(ANY, set));
  }

  private group(): Node {
    if (this.take("?")) {
      // Python writes (?P<name>...).
      if (this.peek() === "P" && this.ahead(1) === "<") this.next();
      if (this.take("<")) {
        const next = this.peek();
        if (next === "=" || next === "!") this.fail("lookbehind is not built");
        while (this.peek() !== ">") this.next();
        this.next();
      } else if (!this.take(":")) {
        const next = this.peek();
        const ahead = next === "=" || next === "!";
        this.fail(
          ahead
            ? "lookahead is built only at the beginning of the text"
            : "flags are not built",
        );
      }
    }
    const body = this.disjunction();
    if (!this.take(")")) this.fail("a group is not closed");
    return body;
  }

  private quantified(atom: Node): Node {
    let node = atom;
    const bounds = this.quantifier();
    if (bounds) node = repeat(atom, bounds[0], bounds[1]);
    // Lazy or not, the same texts match.
    if (bounds) this.take("?");
    return node;
  }

  private quantifier(): [min: number, max: number] | null {
    if (this.take("*")) return [0, Infinity];
    if (this.take("+")) return [1, Infinity];
    if (this.take("?")) return [0, 1];
    if (this.peek() !== "{") return null;
    this.at++;
    const bounds = this.bounds();
    if (!bounds) this.at--;
    return bounds;
  }

  /** `3}`, `3,}` or `3,5}` behind a brace; else null, and nothing is read. */
  private bounds(): [min: number, max: number] | null {
    const rest = this.source.slice(this.at, this.at + 40).join("");
    const match = /^(\d+)(,(\d*))?\}/.exec(rest);
    if (/^,\d+\}/.test(rest))
      this.fail("a lower bound is missing: write {0,n} for {,n}");
    if (!match) return null;
    const min = Number(match[1]);
    const open = match[2] !== undefined && match[3] === "";
    const max = open ? Infinity : Number(match[3] ?? match[1]);
    if (max < min) this.fail(`{${min},${max}} is out of order`);
    if (min > MAX_BOUND || (max > MAX_BOUND && max !== Infinity))
      this.fail(`repetitions above ${MAX_BOUND} are not built`);
    this.at += match[0].length;
    return [min, max];
  }

  private charClass(): Ranges {
    const negated = this.take("^");
    const sets: Ranges[] = [];
    while (!this.take("]")) {
      const low = this.classAtom();
      const dash = this.peek() === "-" && this.source[this.at + 1] !== "]";
      const [from] = low;
      if (!dash || !from || low.length > 1 || from[0] !== from[1]) {
        sets.push(low);
        continue;
      }
      this.next();
      const [to, ...more] = this.classAtom();
      if (!to || more.length > 0 || to[0] !== to[1] || to[0] < from[0])
        this.fail("a range of characters is out of order");
      sets.push([[from[0], to[0]]]);
    }
    const set = union(...sets);
    return negated ? subtract(ANY, set) : intersect(ANY, set);
  }

  private classAtom(): Ranges {
    const char = this.next();
    return char === "\\" ? this.escape(true) : chars(char);
  }

  private escape(inClass: boolean): Ranges {
    const char = this.next();
    const set = CLASS_ESCAPES[char];
    if (set) return set;
    if (char === "b" && inClass) return chars("\b");
    if (char === "b" || char === "B")
      this.fail(`word boundaries (\\${char}) are not built`);
    if (char === "p" || char === "P")
      this.fail(`Unicode properties (\\${char}) are not built`);
    const control = CONTROL_ESCAPES[char];
    if (control !== undefined && !(char === "0" && this.peekDigit()))
      return chars(control);
    if (char === "c") return this.controlLetter();
    if (char === "x") return this.hex(2);
    if (char === "u") return this.unicode();
    if (/[0-9k]/.test(char)) this.fail("back references are not built");
    if (/[A-Za-z]/.test(char)) this.fail(`\\${char} is not known`);
    return chars(char);
  }

  private peekDigit(): boolean {
    return /[0-9]/.test(this.peek() ?? "");
  }

  private controlLetter(): Ranges {
    const letter = this.next();
    if (!/[A-Za-z]/.test(letter)) this.fail(`\\c${letter} is not known`);
    return chars(String.fromCharCode(letter.charCodeAt(0) % 32));
  }

  private hex(length: number): Ranges {
    return chars(String.fromCodePoint(this.hexDigits(length)));
  }

  private hexDigits(length: number): number {
    let digits = "";
    while (digits.length < length) digits += this.next();
    if (!/^[0-9A-Fa-f]+$/.test(digits))
      this.fail(`${digits} are not hexadecimal digits`);
    return parseInt(digits, 16);
  }

  private unicode(): Ranges {
    if (this.take("{")) {
      let digits = "";
      while (!this.take("}")) digits += this.next();
      const codePoint = /^[0-9A-Fa-f]{1,6}$/.test(digits)
        ? parseInt(digits, 16)
        : Infinity;
      if (codePoint > 0x10ffff) this.fail(`\\u{${digits}} is not a character`);
      return [[codePoint, codePoint]];
    }
    const unit = this.hexDigits(4);
    const low = this.source.slice(this.at, this.at + 6).join("");
    if (unit >= 0xd800 && unit < 0xdc00 && /^\\u[dD][c-fC-F]/.test(low)) {
      this.at += 2;
      const codePoint =
        0x10000 + ((unit - 0xd800) << 10) + (this.hexDigits(4) - 0xdc00);
      return [[codePoint, codePoint]];
    }
    return [[unit, unit]];
  }

  private peek(): string | undefined {
    return this.source[this.at];
  }

  private ahead(count: number): string | undefined {
    return this.source[this.at + count];
  }

  /** Takes `\name`. */
  private takeEscape(name: string): boolean {
    if (this.peek() !== "\\" || this.ahead(1) !== name) return false;
    this.at += 2;
    return true;
  }

  private next(): string {
    const char = this.source[this.at++];
    return char ?? this.fail("it ends too early");
  }

  private take(char: string): boolean {
    if (this.source[this.at] !== char) return false;
    this.at++;
    return true;
  }

  private fail(reason: string): never {
    throw new RegexError(`${reason} (at character ${this.at})`);
  }
}
