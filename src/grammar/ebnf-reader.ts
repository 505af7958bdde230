/**
 * Reads grammars as vLLM's and llama.cpp's users write them (GBNF, XGrammar's EBNF):
 *
 *   root   ::= "[" (item ("," item)*)? "]"   # a comment
 *   item   ::= [0-9]+ | "\"" [^"\n]{1,20} "\""
 *
 * A body goes on, over line ends too, until the next `name ::=`. Read into a tree instead of handed to XGrammar as they
 * are, they are written as ebnf.ts must write them, can be parts of other grammars, and one that no text matches is found.
 */
import { EMPTY, Rule, choice, oneOf, repeat, sequence, text } from "./nodes.js";
import type { Node, Ranges } from "./nodes.js";
import { ANY, intersect, subtract, union } from "./ranges.js";

/** What is wrong with a grammar, and where. */
export class EbnfError extends Error {}

/** The rule with which a text begins. */
const ROOT = "root";
const MAX_DEPTH = 100;
const MAX_BOUND = 10_000;

const NAME = /[A-Za-z_][\w.-]*/y;
const DEFINES = /\s*::=/y;
const BOUNDS = /\{\s*(\d*)\s*(,?)\s*(\d*)\s*\}/y;
const HEX_LENGTHS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };
const ESCAPES: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  e: "\x1b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "0": "\0",
};

/** The tree of a grammar's text. Throws EbnfError. */
export function ebnfNode(source: string): Node {
  return new EbnfReader(source).read();
}

interface Named {
  readonly rule: Rule;
  /** Where it is defined, or first named. */
  at: number;
  defined: boolean;
}

class EbnfReader {
  private at = 0;
  private depth = 0;
  private readonly rules = new Map<string, Named>();

  constructor(private readonly source: string) {}

  read(): Node {
    this.skip();
    while (this.at < this.source.length) this.definition();
    const undefinedRule = [...this.rules].find(([, { defined }]) => !defined);
    if (undefinedRule !== undefined) {
      const [name, { at }] = undefinedRule;
      this.fail(`the rule "${name}" is not defined`, at);
    }
    const root = this.rules.get(ROOT);
    if (root === undefined)
      this.fail(`there is no rule "${ROOT}", with which outputs begin`, 0);
    return { kind: "rule", rule: root.rule };
  }

  private definition(): void {
    const at = this.at;
    const name = this.match(NAME)?.[0];
    if (name === undefined || this.match(DEFINES) === null)
      this.fail('expected a definition: name ::= "text"', at);
    const named = this.named(name, at);
    if (named.defined) this.fail(`the rule "${name}" is defined twice`, at);
    named.defined = true;
    this.skip();
    named.rule.body = this.alternatives();
    if (this.at < this.source.length && !this.atDefinition())
      this.fail(`unexpected ${this.shown()}`);
  }

  private named(name: string, at: number): Named {
    let named = this.rules.get(name);
    if (named === undefined) {
      named = { rule: new Rule(), at, defined: false };
      this.rules.set(name, named);
    }
    return named;
  }

  private alternatives(): Node {
    if (++this.depth > MAX_DEPTH)
      this.fail(`groups nest deeper than ${MAX_DEPTH}`);
    const parts = [this.sequence()];
    while (this.take("|")) parts.push(this.sequence());
    this.depth--;
    return choice(parts);
  }

  private sequence(): Node {
    const parts: Node[] = [];
    while (!this.atEnd()) parts.push(this.quantified(this.element()));
    return parts.length === 0 ? EMPTY : sequence(...parts);
  }

  /** Of a sequence: what follows belongs to something around it. */
  private atEnd(): boolean {
    const char = this.source[this.at];
    return (
      char === undefined || char === "|" || char === ")" || this.atDefinition()
    );
  }

  private atDefinition(): boolean {
    const at = this.at;
    const found = this.match(NAME) !== null && this.match(DEFINES) !== null;
    this.at = at;
    return found;
  }

  private element(): Node {
    const at = this.at;
    const name = this.match(NAME)?.[0];
    if (name !== undefined) {
      this.skip();
      return { kind: "rule", rule: this.named(name, at).rule };
    }
    if (this.take("(")) return this.group(at);
    if (this.take(".")) return oneOf(ANY);
    const char = this.source[this.at];
    this.at++;
    const node =
      char === '"'
        ? this.string(at)
        : char === "["
          ? this.charClass(at)
          : this.fail(`unexpected ${this.shown(at)}`, at);
    this.skip();
    return node;
  }

  private group(at: number): Node {
    if (this.source[this.at] === "=")
      this.fail("lookahead, (=...), is not built", at);
    const body = this.alternatives();
    if (!this.take(")")) this.fail("a group is not closed", at);
    return body;
  }

  private quantified(element: Node): Node {
    let node = element;
    for (;;) {
      if (this.take("*")) node = repeat(node, 0, Infinity);
      else if (this.take("+")) node = repeat(node, 1, Infinity);
      else if (this.take("?")) node = repeat(node, 0, 1);
      else if (this.source[this.at] === "{") node = this.bounded(node);
      else return node;
    }
  }

  private bounded(node: Node): Node {
    const at = this.at;
    const [, low = "", comma = "", high = ""] = this.match(BOUNDS) ?? [];
    if (low === "" && high === "")
      this.fail("expected {n}, {n,}, {n,m} or {,m}", at);
    this.skip();
    const min = Number(low);
    const max = comma === "" ? min : high === "" ? Infinity : Number(high);
    if (max < min) this.fail(`{${min},${max}} is out of order`, at);
    if (min > MAX_BOUND || (max > MAX_BOUND && max !== Infinity))
      this.fail(`repetitions above ${MAX_BOUND} are not built`, at);
    return repeat(node, min, max);
  }

  /** Behind the first quote. */
  private string(at: number): Node {
    let value = "";
    for (;;) {
      const from = this.at;
      if (this.source[this.at] === '"') break;
      const code = this.character(at, "a string");
      if (intersect(ANY, [[code, code]]).length === 0)
        this.fail("no text holds this character", from);
      value += String.fromCodePoint(code);
    }
    this.at++;
    return text(value);
  }

  /** Behind the bracket. */
  private charClass(at: number): Node {
    const negated = this.source[this.at] === "^";
    if (negated) this.at++;
    const sets: Ranges[] = [];
    while (this.source[this.at] !== "]") {
      const low = this.character(at, "a class");
      let high = low;
      if (this.source[this.at] === "-" && this.source[this.at + 1] !== "]") {
        this.at++;
        high = this.character(at, "a class");
        if (high < low) this.fail("a range is out of order", at);
      }
      sets.push([[low, high]]);
    }
    this.at++;
    const set = union(...sets);
    return oneOf(negated ? subtract(ANY, set) : intersect(ANY, set));
  }

  /** The code point of the next character of a string or class that began at `from`. */
  private character(from: number, what: string): number {
    const code = this.source.codePointAt(this.at);
    if (code === undefined || code === 0x0a)
      this.fail(`${what} is not closed`, from);
    this.at += code > 0xffff ? 2 : 1;
    return code === 0x5c ? this.escape() : code;
  }

  /** Behind the backslash. */
  private escape(): number {
    const at = this.at - 1;
    const char = this.source[this.at] ?? "";
    this.at++;
    const length = HEX_LENGTHS[char];
    if (length !== undefined) {
      const digits = this.source.slice(this.at, this.at + length);
      const code = parseInt(digits, 16);
      const good = digits.length === length && /^[0-9A-Fa-f]+$/.test(digits);
      if (!good || code > 0x10ffff)
        this.fail(
          `expected ${length} hexadecimal digits of a character behind \\${char}`,
          at,
        );
      this.at += length;
      return code;
    }
    const known = ESCAPES[char];
    if (known !== undefined) return known.charCodeAt(0);
    if (!/[^\w\s]/.test(char)) this.fail(`\\${char} is not known`, at);
    return char.charCodeAt(0);
  }

  private match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.source);
    if (found !== null) this.at += found[0].length;
    return found;
  }

  private take(char: string): boolean {
    if (this.source[this.at] !== char) return false;
    this.at++;
    this.skip();
    return true;
  }

  /** White space and comments. */
  private skip(): void {
    this.match(/(?:\s+|#[^\n]*)*/y);
  }

  private shown(at = this.at): string {
    const code = this.source.codePointAt(at);
    return code === undefined
      ? "end"
      : JSON.stringify(String.fromCodePoint(code));
  }

  private fail(reason: string, at = this.at): never {
    const before = this.source.slice(0, at).split("\n");
    const column = (before.at(-1)?.length ?? 0) + 1;
    throw new EbnfError(`line ${before.length}, column ${column}: ${reason}`);
  }
}
