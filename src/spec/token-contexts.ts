import { assert } from "../core/errors.js";

/** Lengths of the contexts that are indexed, ascending. A match of another length is found by the next shorter one. */
export const CONTEXT_LENGTHS = [2, 4, 8, 16] as const;

/** Most occurrences of a context that `find` gives: the latest ones stand for the rest. */
export const MAX_OCCURRENCES = 16;

/** Ends a text: no context reaches over it. */
const SEPARATOR = -1;
const LEAST_CAPACITY = 64;
/** Positions are int32: they start over long before they run out. */
const LAST_POSITION = 2 ** 30;

/**
 * Where each context of 2, 4, 8 or 16 tokens occurred, over texts that are appended at one end and dropped at the other.
 *
 *   tokens   | dropped | text, separator, text, ... , text so far |         a ring, by position mod capacity
 *            0       tail                                        head
 *   heads    [hash of a context] -> position of its last token, the latest first
 *   previous [position]          -> the one before with the same hash
 *
 * Each token costs one pass over the 16 before it, whatever is held; what is dropped costs nothing, as a chain ends at
 * the first position below `tail`. Contexts are compared token by token, and so are their groups: hashes only speed the
 * search. 40 bytes a token.
 */
export class ContextIndex {
  /** Live positions are [tail, head). */
  tail = 0;
  head = 0;
  private capacity = LEAST_CAPACITY;
  /** Int32 [capacity] each. */
  private tokens = new Int32Array(LEAST_CAPACITY);
  private groups = new Int32Array(LEAST_CAPACITY);
  /** Int32 [capacity] for each length of context; -1: none. */
  private heads = emptyHeads(LEAST_CAPACITY);
  private previous = emptyHeads(LEAST_CAPACITY);
  /** Tokens of the text so far, up to the longest context. */
  private run = 0;
  /** Int32 [CONTEXT_LENGTHS] scratch. */
  private readonly hashes = new Int32Array(CONTEXT_LENGTHS.length);

  /** `seed` keeps collisions from being made on purpose; what is found does not depend on it. */
  constructor(
    private readonly seed: number,
    /** Most live positions, separators included; a power of two. */
    readonly maxCapacity: number,
  ) {}

  get size(): number {
    return this.head - this.tail;
  }

  /** Not below `tail`; -1 for the end of a text. */
  token(position: number): number {
    return this.tokens[position & (this.capacity - 1)] as number;
  }

  /** Continues the text so far. A text has one group, 0 or more: only contexts of the same group match. */
  append(token: number, group: number): void {
    this.makeRoom();
    const at = this.head & (this.capacity - 1);
    this.tokens[at] = token;
    this.groups[at] = group;
    this.run++;
    this.head++;
    this.link(this.head - 1, group);
  }

  /** What is appended next begins a text. */
  endText(): void {
    this.makeRoom();
    this.tokens[this.head & (this.capacity - 1)] = SEPARATOR;
    this.head++;
    this.run = 0;
  }

  /** Forgets the oldest `count` positions. */
  drop(count: number): void {
    assert(count <= this.size, "only what is held can be dropped");
    this.tail += count;
  }

  /**
   * Positions of the last tokens of earlier occurrences of context[length - n, length), with n = CONTEXT_LENGTHS[which],
   * the latest first and at most MAX_OCCURRENCES; only positions below `before`. Returns how many were written.
   */
  find(
    context: Int32Array,
    length: number,
    which: number,
    group: number,
    before: number,
    into: Int32Array,
  ): number {
    const n = CONTEXT_LENGTHS[which] as number;
    if (length < n) return 0;
    let hash = this.seed ^ group;
    for (let i = 1; i <= n; i++)
      hash = mix(hash, context[length - i] as number);
    const previous = this.previous[which] as Int32Array;
    const mask = this.capacity - 1;
    let position = (this.heads[which] as Int32Array)[hash & mask] as number;
    let found = 0;
    while (position >= this.tail && found < MAX_OCCURRENCES) {
      if (
        position < before &&
        this.matchLength(context, length, position, group, n) === n
      )
        into[found++] = position;
      position = previous[position & mask] as number;
    }
    return found;
  }

  /** How many tokens, at most `most`, of the end of context[0, length) are those that end at `position`. */
  matchLength(
    context: Int32Array,
    length: number,
    position: number,
    group: number,
    most: number,
  ): number {
    const { tokens, groups } = this;
    const mask = this.capacity - 1;
    if (groups[position & mask] !== group) return 0;
    const end = Math.min(most, length, position + 1 - this.tail);
    let n = 0;
    while (n < end && tokens[(position - n) & mask] === context[length - 1 - n])
      n++;
    return n;
  }

  /** Enters the contexts that end at `position`, the last one. */
  private link(position: number, group: number): void {
    const { tokens, heads, previous } = this;
    const mask = this.capacity - 1;
    let hash = this.seed ^ group;
    let which = 0;
    for (let i = 0; which < CONTEXT_LENGTHS.length && i < this.run; i++) {
      hash = mix(hash, tokens[(position - i) & mask] as number);
      if (i + 1 === CONTEXT_LENGTHS[which]) this.hashes[which++] = hash & mask;
    }
    for (let w = 0; w < which; w++) {
      const slots = heads[w] as Int32Array;
      const slot = this.hashes[w] as number;
      (previous[w] as Int32Array)[position & mask] = slots[slot] as number;
      slots[slot] = position;
    }
  }

  private makeRoom(): void {
    if (this.size === this.capacity) {
      assert(
        this.capacity < this.maxCapacity,
        `at most ${this.maxCapacity} tokens are indexed`,
      );
      this.rebuild(this.capacity * 2);
    } else if (this.head === LAST_POSITION) this.rebuild(this.capacity);
  }

  /** Enters what is live again, from position 0 on. */
  private rebuild(capacity: number): void {
    const { tokens, groups, tail, head } = this;
    const mask = this.capacity - 1;
    this.capacity = capacity;
    this.tokens = new Int32Array(capacity);
    this.groups = new Int32Array(capacity);
    this.heads = emptyHeads(capacity);
    this.previous = emptyHeads(capacity);
    this.tail = this.head = this.run = 0;
    for (let position = tail; position < head; position++) {
      const token = tokens[position & mask] as number;
      if (token === SEPARATOR) this.endText();
      else this.append(token, groups[position & mask] as number);
    }
  }
}

function emptyHeads(capacity: number): Int32Array[] {
  return CONTEXT_LENGTHS.map(() => new Int32Array(capacity).fill(-1));
}

/** A step of MurmurHash3 with its finalizer, so that the low bits are good. */
function mix(hash: number, token: number): number {
  let k = Math.imul(token, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  let mixed = hash ^ k;
  mixed = Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  return mixed ^ (mixed >>> 13);
}
