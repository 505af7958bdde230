/**
 * Finding stop strings in text that arrives in pieces.
 *
 * The rule, a function of the whole text and never of how it was cut: the match whose *last* character comes first
 * wins, because generation ends there; of several that end at the same place the longest wins, so nothing of any of
 * them is left in the output. Text that may still turn out to be the beginning of a stop string is held back.
 *
 *   text so far   ........emitted........|...held...|
 *                                         ^ the longest suffix that is a proper prefix of a stop string
 *
 * An Aho-Corasick automaton over UTF-16 code units: each code unit is looked at once, whatever the number and length
 * of the stop strings.
 */
import { OctavoError } from "../core/errors.js";

class Node {
  readonly next = new Map<number, Node>();
  /** The node of the longest proper suffix that is also a prefix of a stop string; the root's is itself. */
  fail: Node;
  /** The longest stop string that ends here, or null. */
  match: string | null = null;

  /** @param depth code units from the root: the length of the prefix that this node stands for */
  constructor(
    readonly depth: number,
    root: Node | null,
  ) {
    this.fail = root ?? this;
  }
}

export interface StopMatch {
  /** Text that is now certain to belong to the output. */
  readonly text: string;
  /** The stop string that ended the output, or null while it goes on. */
  readonly stopped: string | null;
}

/** Breadth first, so that the shorter suffix a node falls back to is complete before the node itself. */
function buildAutomaton(stops: readonly string[]): Node {
  const root = new Node(0, null);
  for (const stop of stops) {
    let node = root;
    for (let i = 0; i < stop.length; i++) {
      const unit = stop.charCodeAt(i);
      let child = node.next.get(unit);
      if (child === undefined) {
        child = new Node(node.depth + 1, root);
        node.next.set(unit, child);
      }
      node = child;
    }
    node.match = stop;
  }
  const queue = [...root.next.values()];
  for (const node of queue) {
    for (const [unit, child] of node.next) {
      child.fail = advance(root, node.fail, unit);
      child.match ??= child.fail.match;
      queue.push(child);
    }
  }
  return root;
}

function advance(root: Node, from: Node, unit: number): Node {
  for (let node = from; ; node = node.fail) {
    const child = node.next.get(unit);
    if (child !== undefined) return child;
    if (node === root) return root;
  }
}

/** One per output text; `push` each piece, `flush` at the end. */
export class StopStringMatcher {
  private readonly root: Node;
  private node: Node;
  private held = "";
  private found: string | null = null;

  /**
   * @param stops not empty each; lone surrogates count as U+FFFD, because that is how they would appear in the output
   * @param includeStopString the output ends with the stop string instead of before it
   */
  constructor(
    stops: readonly string[],
    private readonly includeStopString = false,
  ) {
    if (stops.includes(""))
      throw new OctavoError(
        "invalid_request",
        "stop: expected strings that are not empty, got an empty one",
        "stop",
      );
    this.root = buildAutomaton(
      stops.map((stop) => stop.replace(/\p{Surrogate}/gu, "\uFFFD")),
    );
    this.node = this.root;
  }

  /** The stop string that ended the output, or null. */
  get stopped(): string | null {
    return this.found;
  }

  /** Text is held back that may be the beginning of a stop string. */
  get holding(): boolean {
    return this.held !== "";
  }

  /**
   * Takes the next piece of text and returns what has become certain. After a match everything further is dropped.
   * With `matching: false` (the first min_tokens tokens) a stop string that ends inside of `text` does not count; one
   * that begins there and ends later does.
   */
  push(
    text: string,
    { matching = true }: { matching?: boolean } = {},
  ): StopMatch {
    if (this.found !== null) return { text: "", stopped: this.found };
    const buffer = this.held + text;
    for (let i = this.held.length; i < buffer.length; i++) {
      this.node = advance(this.root, this.node, buffer.charCodeAt(i));
      const match = this.node.match;
      if (match !== null && matching) {
        this.found = match;
        this.held = "";
        const end = i + 1 - (this.includeStopString ? 0 : match.length);
        return { text: buffer.slice(0, end), stopped: match };
      }
      // A whole stop string that no other continues (matching is off) need not be held back.
      while (this.node !== this.root && this.node.next.size === 0)
        this.node = this.node.fail;
    }
    const certain = buffer.length - this.node.depth;
    this.held = buffer.slice(certain);
    return { text: buffer.slice(0, certain), stopped: null };
  }

  /** The end of the output: the text held back, or "" after a match. */
  flush(): string {
    const text = this.held;
    this.held = "";
    this.node = this.root;
    return text;
  }
}
