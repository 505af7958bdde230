/** With which bytes the texts of a grammar's parts begin: where two parts begin alike, ebnf.ts keeps them apart. */
import { isProductive } from "./nodes.js";
import type { Node, Rule } from "./nodes.js";
import { utf8Sequences } from "./utf8-sequences.js";

type Bytes = ReadonlySet<number>;

export class FirstBytes {
  private readonly byRule = new Map<Rule, Set<number>>();

  /** @param productive the grammar's rules that match some text */
  constructor(private readonly productive: ReadonlySet<Rule>) {
    // Rules refer to each other: go round until no set grows.
    for (let grew = true; grew;) {
      grew = false;
      for (const rule of productive) {
        const known = this.byRule.get(rule) ?? new Set();
        const before = known.size;
        this.collect(rule.body, known);
        this.byRule.set(rule, known);
        grew ||= known.size > before;
      }
    }
  }

  /** First bytes of the texts that a node matches; one that also matches the empty text adds nothing for it. */
  of(node: Node): Bytes {
    const bytes = new Set<number>();
    this.collect(node, bytes);
    return bytes;
  }

  private collect(node: Node, into: Set<number>): void {
    switch (node.kind) {
      case "text": {
        const [first] = Buffer.from(node.text, "utf8");
        if (first !== undefined) into.add(first);
        break;
      }
      case "class":
        for (const [low, high] of node.ranges)
          for (const [lead] of utf8Sequences(low, high))
            if (lead !== undefined)
              for (let byte = lead[0]; byte <= lead[1]; byte++) into.add(byte);
        break;
      case "sequence":
        for (const part of node.parts) {
          this.collect(part, into);
          if (!isNullable(part)) break;
        }
        break;
      case "choice":
        for (const part of node.parts)
          if (isProductive(part, this.productive)) this.collect(part, into);
        break;
      case "repeat":
        if (isProductive(node.part, this.productive))
          this.collect(node.part, into);
        break;
      case "rule":
        for (const byte of this.byRule.get(node.rule) ?? []) into.add(byte);
    }
  }
}

/** Whether the node may match the empty text (a rule counts as if it could not: it stays apart anyway). */
function isNullable(node: Node): boolean {
  switch (node.kind) {
    case "text":
      return node.text === "";
    case "class":
    case "rule":
      return false;
    case "sequence":
      return node.parts.every(isNullable);
    case "choice":
      return node.parts.some(isNullable);
    case "repeat":
      return node.min === 0 || isNullable(node.part);
  }
}

export function overlap(a: Bytes, b: Bytes): boolean {
  for (const byte of a) if (b.has(byte)) return true;
  return false;
}
