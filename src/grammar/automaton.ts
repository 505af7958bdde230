/**
 * Texts that match several expressions at once, or do not match some: what a tree of alternatives cannot say. Expressions
 * become automata (Thompson's construction), which run side by side (subset construction); what is left is one automaton
 * without choice, made small (Moore's algorithm) and written as one rule for each of its states.
 */
import { Rule, choice, oneOf, sequence } from "./nodes.js";
import type { Node, Ranges } from "./nodes.js";
import { ANY, includes, union } from "./ranges.js";

/** A condition on a text: it matches the node, or it does not. The node has no rules. */
export interface Condition {
  readonly node: Node;
  readonly negated: boolean;
}

/** More states than this are refused: XGrammar prepares each for the whole vocabulary. */
const MAX_STATES = 1000;
/** More are left as they are: to join them takes time with their square. */
const MAX_JOINED = 400;
/** Of one expression, before its states are joined. */
const MAX_PARTS = 20_000;

/** The conditions cannot be had together at a reasonable size. */
export class TooManyStates extends Error {}

/**
 * The texts that meet all conditions, each followed by `end`.
 * @param charOf how one character out of a set is written
 * Throws TooManyStates.
 */
export function meeting(
  conditions: readonly Condition[],
  end: Node,
  charOf: (set: Ranges) => Node = oneOf,
): Node {
  const states = smallest(alive(product(conditions)));
  const rules = states.map(() => new Rule());
  states.forEach(({ accepting, edges }, i) => {
    const parts = edges.map(([set, target]) =>
      sequence(charOf(set), { kind: "rule", rule: rules[target] as Rule }),
    );
    (rules[i] as Rule).body = choice(accepting ? [end, ...parts] : parts);
  });
  const [first] = rules;
  return first ? { kind: "rule", rule: first } : choice([]);
}

/** An automaton with free moves; state 0 is the last one. */
class Free {
  readonly moves: { set: Ranges; to: number }[][] = [];
  readonly free: number[][] = [];
  readonly last = this.add();
  readonly first: number;

  constructor(node: Node) {
    this.first = this.build(node, this.last);
  }

  /** Sorted, with what free moves reach. */
  closure(states: Iterable<number>): number[] {
    const found = new Set(states);
    for (const state of found)
      for (const next of this.free[state] ?? []) found.add(next);
    return [...found].sort((a, b) => a - b);
  }

  private add(): number {
    if (this.moves.length >= MAX_PARTS) throw new TooManyStates();
    this.moves.push([]);
    this.free.push([]);
    return this.moves.length - 1;
  }

  private link(from: number, to: number): void {
    this.free[from]?.push(to);
  }

  /** The state from which the node's texts lead to `to`. */
  private build(node: Node, to: number): number {
    switch (node.kind) {
      case "text":
        return Array.from(node.text).reduceRight((next, char) => {
          const code = char.codePointAt(0) ?? 0;
          return this.step([[code, code]], next);
        }, to);
      case "class":
        return this.step(node.ranges, to);
      case "sequence":
        return node.parts.reduceRight(
          (next, part) => this.build(part, next),
          to,
        );
      case "choice": {
        const from = this.add();
        for (const part of node.parts) this.link(from, this.build(part, to));
        return from;
      }
      case "repeat":
        return this.repeated(node.part, node.min, node.max, to);
      case "rule":
        throw new Error("an expression has no rules");
    }
  }

  private step(set: Ranges, to: number): number {
    const from = this.add();
    this.moves[from]?.push({ set, to });
    return from;
  }

  private repeated(part: Node, min: number, max: number, to: number): number {
    let from = to;
    if (max === Infinity) {
      from = this.add();
      this.link(from, to);
      this.link(from, this.build(part, from));
    }
    for (let i = min; i < max && max !== Infinity; i++) {
      const skip = this.add();
      this.link(skip, to);
      this.link(skip, this.build(part, from));
      from = skip;
    }
    for (let i = 0; i < min; i++) from = this.build(part, from);
    return from;
  }
}

interface State {
  readonly accepting: boolean;
  readonly edges: readonly (readonly [set: Ranges, target: number])[];
}

/** All conditions side by side; the first state is where texts begin. */
function product(conditions: readonly Condition[]): State[] {
  const machines = conditions.map(({ node }) => new Free(node));
  const numbers = new Map<string, number>();
  const queue: number[][][] = [];
  const numberOf = (sets: number[][]): number => {
    const key = sets.map((set) => set.join(",")).join(";");
    let number = numbers.get(key);
    if (number === undefined) {
      number = numbers.size;
      if (number >= 4 * MAX_STATES) throw new TooManyStates();
      numbers.set(key, number);
      queue.push(sets);
    }
    return number;
  };
  numberOf(machines.map((machine) => machine.closure([machine.first])));
  const states: State[] = [];
  for (let sets = queue[0]; sets; sets = queue[states.length]) {
    const at = sets;
    const accepting = conditions.every(
      ({ negated }, i) => at[i]?.includes(machines[i]?.last ?? -1) === !negated,
    );
    const byTarget = new Map<number, Ranges>();
    for (const range of pieces(machines, at)) {
      const next = machines.map((machine, i) =>
        machine.closure(
          (at[i] ?? []).flatMap((state) =>
            (machine.moves[state] ?? [])
              .filter(({ set }) => includes(set, range[0]))
              .map(({ to }) => to),
          ),
        ),
      );
      // Where a condition can be met no more, nothing that follows matters.
      if (conditions.some(({ negated }, i) => !negated && !next[i]?.length))
        continue;
      const target = numberOf(next);
      byTarget.set(target, union(byTarget.get(target) ?? [], [range]));
    }
    states.push({
      accepting,
      edges: [...byTarget].map(([target, set]) => [set, target]),
    });
  }
  return states;
}

/** Ranges of characters, all of which lead from here to the same states. */
function pieces(
  machines: readonly Free[],
  sets: readonly (readonly number[])[],
): [low: number, high: number][] {
  const cuts = new Set<number>();
  machines.forEach((machine, i) => {
    for (const state of sets[i] ?? [])
      for (const { set } of machine.moves[state] ?? [])
        for (const [low, high] of set) cuts.add(low).add(high + 1);
  });
  for (const [low, high] of ANY) cuts.add(low).add(high + 1);
  const sorted = [...cuts].sort((a, b) => a - b);
  return sorted
    .slice(0, -1)
    .map((low, i): [number, number] => [low, (sorted[i + 1] as number) - 1])
    .filter(([low]) => includes(ANY, low));
}

/** Without states from which no text is accepted; none at all where the first is one. */
function alive(states: readonly State[]): State[] {
  const good = new Set<number>();
  const before: number[][] = states.map(() => []);
  states.forEach(({ accepting, edges }, i) => {
    if (accepting) good.add(i);
    for (const [, target] of edges) before[target]?.push(i);
  });
  for (const state of good)
    for (const earlier of before[state] ?? []) good.add(earlier);
  if (!good.has(0)) return [];
  const kept = [...good].sort((a, b) => a - b);
  const numbers = new Map(kept.map((state, i) => [state, i]));
  return kept.map((state) => {
    const { accepting, edges } = states[state] as State;
    return {
      accepting,
      edges: edges.flatMap(([set, target]) => {
        const number = numbers.get(target);
        return number === undefined ? [] : [[set, number] as const];
      }),
    };
  });
}

/** The same texts with as few states as can be: those that no text tells apart are one. */
function smallest(states: readonly State[]): readonly State[] {
  if (states.length > MAX_STATES) throw new TooManyStates();
  if (states.length > MAX_JOINED) return states;
  let classes = states.map(({ accepting }) => Number(accepting));
  for (let count = new Set(classes).size; ;) {
    const seen = new Map<string, number>();
    classes = states.map((state, i) => {
      const edges = joined(state, classes)
        .map(([set, target]) => `${target}:${set.join(" ")}`)
        .sort();
      const key = `${classes[i]}|${edges.join("|")}`;
      const known = seen.get(key) ?? seen.size;
      seen.set(key, known);
      return known;
    });
    if (seen.size === count) break;
    count = seen.size;
  }
  const firsts = new Map<number, State>();
  states.forEach((state, i) => {
    const number = classes[i] as number;
    if (!firsts.has(number)) firsts.set(number, state);
  });
  return [...firsts.values()].map((state) => ({
    accepting: state.accepting,
    edges: joined(state, classes),
  }));
}

/** The edges of a state between classes of states. */
function joined(
  { edges }: State,
  classes: readonly number[],
): [set: Ranges, target: number][] {
  const byClass = new Map<number, Ranges>();
  for (const [set, target] of edges) {
    const number = classes[target] as number;
    byClass.set(number, union(byClass.get(number) ?? [], set));
  }
  return [...byClass].map(([number, set]) => [set, number]);
}
