/** Grammars as trees; ebnf.ts writes them for XGrammar. */

/** Inclusive, ascending, disjoint code points. */
export type Ranges = readonly (readonly [low: number, high: number])[];

export type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "class"; readonly ranges: Ranges }
  | { readonly kind: "sequence"; readonly parts: readonly Node[] }
  /** Without parts: matches nothing at all. */
  | { readonly kind: "choice"; readonly parts: readonly Node[] }
  | {
      readonly kind: "repeat";
      readonly part: Node;
      readonly min: number;
      /** Infinity: no bound. */
      readonly max: number;
    }
  | { readonly kind: "rule"; readonly rule: Rule };

/** A named part of the grammar: may refer to itself. */
export class Rule {
  body: Node = NOTHING;
}

export const NOTHING: Node = { kind: "choice", parts: [] };
export const EMPTY: Node = { kind: "text", text: "" };

export function text(value: string): Node {
  return { kind: "text", text: value };
}

export function oneOf(ranges: Ranges): Node {
  return { kind: "class", ranges };
}

export function sequence(...parts: Node[]): Node {
  return parts.length === 1 ? (parts[0] as Node) : { kind: "sequence", parts };
}

export function choice(parts: readonly Node[]): Node {
  return parts.length === 1 ? (parts[0] as Node) : { kind: "choice", parts };
}

/** Repeats that nobody reaches cost XGrammar states all the same. */
const MAX_REPEAT = 10_000;

/** A bound above 10,000 is cut: the language becomes smaller, never larger. */
export function repeat(part: Node, min: number, max: number): Node {
  if (max === 0) return EMPTY;
  if (min === 1 && max === 1) return part;
  const bound = max > MAX_REPEAT && max !== Infinity ? MAX_REPEAT : max;
  return { kind: "repeat", part, min, max: Math.max(bound, min) };
}

export function optional(part: Node): Node {
  return repeat(part, 0, 1);
}

/** A rule with this body; refers to it wherever the node is used. */
export function named(body: Node): Node {
  const rule = new Rule();
  rule.body = body;
  return { kind: "rule", rule };
}

const SMALL = 8;

/**
 * The same node for use in several places: a rule, unless it is small. Written out in each of them, nested parts would
 * multiply with every level.
 */
export function shared(node: Node): Node {
  return sizeOf(node) > SMALL ? named(node) : node;
}

/** Nodes in what is written where the node is used. */
function sizeOf(node: Node): number {
  switch (node.kind) {
    case "sequence":
    case "choice":
      return node.parts.reduce((size, part) => size + sizeOf(part), 1);
    case "repeat":
      return 1 + sizeOf(node.part);
    default:
      return 1;
  }
}

/** Rules that match some text: those from which an end can be reached. */
export function findProductive(root: Node): ReadonlySet<Rule> {
  const rules = collectRules(root);
  const productive = new Set<Rule>();
  for (let changed = true; changed;) {
    changed = false;
    for (const rule of rules) {
      if (productive.has(rule) || !isProductive(rule.body, productive))
        continue;
      productive.add(rule);
      changed = true;
    }
  }
  return productive;
}

/** Whether the node matches some text, given the rules that do. */
export function isProductive(node: Node, rules: ReadonlySet<Rule>): boolean {
  switch (node.kind) {
    case "text":
      return true;
    case "class":
      return node.ranges.length > 0;
    case "sequence":
      return node.parts.every((part) => isProductive(part, rules));
    case "choice":
      return node.parts.some((part) => isProductive(part, rules));
    case "repeat":
      return node.min === 0 || isProductive(node.part, rules);
    case "rule":
      return rules.has(node.rule);
  }
}

function collectRules(root: Node): Set<Rule> {
  const rules = new Set<Rule>();
  const visit = (node: Node): void => {
    if (node.kind === "sequence" || node.kind === "choice")
      node.parts.forEach(visit);
    else if (node.kind === "repeat") visit(node.part);
    else if (node.kind === "rule" && !rules.has(node.rule)) {
      rules.add(node.rule);
      visit(node.rule.body);
    }
  };
  visit(root);
  return rules;
}
