/**
 * Grammars in XGrammar's EBNF, around what version 0.1.27 gets wrong:
 *
 * - In a class it takes only the lowest byte of a code point above U+00FF, so classes are written byte by byte.
 * - It joins states that are reached by equal bytes inside of one rule, and can then take `01` for a match of
 *   `[0-9] | [1-9] [0-9] | ([0-9] | [1-9] [0-9]) "."`. So alternatives that begin alike become rules of their own, and end
 *   in an empty rule, which keeps XGrammar from putting them back in place.
 */
import { FirstBytes, overlap } from "./first-bytes.js";
import { findProductive, isProductive, Rule } from "./nodes.js";
import type { Node, Ranges } from "./nodes.js";
import { subtract } from "./ranges.js";
import { utf8Sequences, type ByteRange } from "./utf8-sequences.js";

/** The grammar's text, with the rule `root` for the tree; null where nothing matches. Parts that match nothing are left out. */
export function toEbnf(root: Node): string | null {
  const productive = findProductive(root);
  if (!isProductive(root, productive)) return null;
  return new EbnfWriter(productive).write(root);
}

class EbnfWriter {
  private readonly names = new Map<Rule, string>();
  private readonly classes = new Map<string, string>();
  private readonly queue: Rule[] = [];
  private readonly apart = new Set<Rule>();
  private usesEmpty = false;

  private readonly first: FirstBytes;

  constructor(private readonly productive: ReadonlySet<Rule>) {
    this.first = new FirstBytes(productive);
  }

  write(root: Node): string {
    const lines = [`root ::= ${this.text(root)}`];
    for (let rule = this.queue.shift(); rule; rule = this.queue.shift()) {
      const body = this.text(rule.body);
      const end = this.apart.has(rule) ? ` ${this.empty()}` : "";
      lines.push(`${this.nameOf(rule)} ::= ${body}${end}`);
    }
    for (const [bytes, name] of this.classes)
      lines.push(`${name} ::= ${bytes}`);
    if (this.usesEmpty) lines.push('empty ::= ""');
    return `${lines.join("\n")}\n`;
  }

  private empty(): string {
    this.usesEmpty = true;
    return "empty";
  }

  private nameOf(rule: Rule): string {
    let name = this.names.get(rule);
    if (name === undefined) {
      name = `r${this.names.size}`;
      this.names.set(rule, name);
      this.queue.push(rule);
    }
    return name;
  }

  private text(node: Node): string {
    switch (node.kind) {
      case "text":
        return quote(node.text);
      case "class":
        return this.classOf(node.ranges);
      case "sequence":
        return this.sequence(node.parts);
      case "choice":
        return this.choice(node.parts);
      case "repeat":
        if (!isProductive(node.part, this.productive)) return '""';
        return this.repeated(node.part) + quantifier(node.min, node.max);
      case "rule":
        return this.nameOf(node.rule);
    }
  }

  /** XGrammar takes one quantifier behind a part. */
  private repeated(part: Node): string {
    const body = this.text(part);
    return part.kind === "repeat" ? `(${body})` : body;
  }

  /** A repetition that what follows could go on with is a rule of its own. */
  private sequence(parts: readonly Node[]): string {
    const written = parts.map((part, i) => {
      if (part.kind !== "repeat" || part.min === part.max)
        return this.text(part);
      const rest: Node = { kind: "sequence", parts: parts.slice(i + 1) };
      const clash = overlap(this.first.of(part), this.first.of(rest));
      return clash ? this.setApart(part) : this.text(part);
    });
    return `(${written.join(" ") || '""'})`;
  }

  private choice(parts: readonly Node[]): string {
    const live = parts.filter((part) => isProductive(part, this.productive));
    const firsts = live.map((part) => this.first.of(part));
    const alike = firsts.some((first, i) =>
      firsts.slice(i + 1).some((other) => overlap(first, other)),
    );
    const written = live.map((part) => {
      const alone = part.kind === "text" && part.text === "";
      return alike && !alone && live.length > 1
        ? this.setApart(part)
        : this.text(part);
    });
    return `(${written.join(" | ")})`;
  }

  private setApart(node: Node): string {
    const rule = new Rule();
    rule.body = node;
    this.apart.add(rule);
    return this.nameOf(rule);
  }

  /** A class of several byte sequences is a rule of its own, shared by all its uses. */
  private classOf(ranges: Ranges): string {
    const bytes = writeClass(ranges);
    if (!bytes.includes("|")) return bytes;
    let name = this.classes.get(bytes);
    if (name === undefined)
      this.classes.set(bytes, (name = `c${this.classes.size}`));
    return name;
  }
}

function quantifier(min: number, max: number): string {
  if (max === Infinity) return min === 0 ? "*" : min === 1 ? "+" : `{${min},}`;
  return min === 0 && max === 1 ? "?" : `{${min},${max}}`;
}

function quote(value: string): string {
  const body = value.replace(/["\\\p{Cc}]/gu, (char) => {
    if (char === '"' || char === "\\") return `\\${char}`;
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  return `"${body}"`;
}

/**
 * `[\x61-\x7a]`; where every character beyond ASCII belongs to it `[^\x22\x5c]`, which takes ill-formed UTF-8 as well
 * (vocabulary.ts keeps that out); otherwise byte by byte, `([\x20-\x7e] | [\xc2-\xdf] [\x80-\xbf] | ...)`.
 */
function writeClass(ranges: Ranges): string {
  const sequences = ranges.flatMap(([low, high]) => utf8Sequences(low, high));
  const single = sequences.filter((bytes) => bytes.length === 1).flat();
  const rest = subtract(BEYOND_ASCII, ranges);
  if (rest.length === 0) {
    const outside = subtract([[0, 0x7f]], ranges);
    return outside.length > 0
      ? `[^${outside.map(byteRange).join("")}]`
      : "[^\\x01]";
  }
  const longer = sequences.filter((bytes) => bytes.length > 1);
  const parts = byLead(longer);
  if (single.length > 0) parts.unshift(byteClass(single));
  return parts.length === 1 && longer.length === 0
    ? (parts[0] as string)
    : `(${parts.join(" | ")})`;
}

/** Alternatives of byte sequences of which no two begin alike. */
function byLead(sequences: readonly ByteRange[][]): string[] {
  const groups = new Map<string, ByteRange[][]>();
  for (const bytes of sequences) {
    const lead = byteClass(bytes.slice(0, 1));
    groups.set(lead, [...(groups.get(lead) ?? []), bytes.slice(1)]);
  }
  return [...groups].map(([lead, tails]) => {
    const last = tails.every((tail) => tail.length === 1);
    if (last) return `${lead} ${byteClass(tails.flat())}`;
    const rest = byLead(tails);
    return `${lead} ${rest.length === 1 ? (rest[0] as string) : `(${rest.join(" | ")})`}`;
  });
}

const BEYOND_ASCII: Ranges = [
  [0x80, 0xd7ff],
  [0xe000, 0x10ffff],
];

/** A class of one byte is written twice: XGrammar turns `[\xed]` into the two bytes of U+00ED. */
function byteClass(ranges: readonly ByteRange[]): string {
  const only = ranges.length === 1 ? ranges[0] : undefined;
  const twice = only && only[0] === only[1];
  return `[${ranges.map(byteRange).join("")}${twice ? hex(only[0]) : ""}]`;
}

function byteRange([low, high]: ByteRange): string {
  return low === high ? hex(low) : `${hex(low)}-${hex(high)}`;
}

function hex(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}
