import type { Sequence } from "../core/sequence.js";
import type { NgramConfig } from "../core/speculative-config.js";
import type { DraftBatch, Drafter } from "./drafter.js";

/** Earlier places that are compared for one proposal, latest first: bounds its time where a token repeats all over. */
const MAX_CANDIDATES = 128;

/**
 * Prompt lookup: what followed the last tokens when they came before in the same sequence follows them again. Of the
 * places where promptLookupMin..promptLookupMax tokens match, the one with the longest match is continued, and the
 * latest among equals.
 */
export class NgramDrafter implements Drafter {
  readonly method = "ngram";
  private readonly indexes = new Map<Sequence, NgramIndex>();

  constructor(
    private readonly config: Pick<
      NgramConfig,
      "promptLookupMin" | "promptLookupMax"
    >,
  ) {}

  propose(batch: DraftBatch): void {
    const { promptLookupMin, promptLookupMax } = this.config;
    for (let i = 0; i < batch.count; i++) {
      const sequence = batch.sequence(i);
      let index = this.indexes.get(sequence);
      if (!index) {
        index = new NgramIndex(promptLookupMin);
        this.indexes.set(sequence, index);
      }
      const { tokens, numTokens } = sequence;
      const end = index.find(tokens, numTokens, promptLookupMax);
      if (end < 0) continue;
      batch.setGrade(i, index.matched);
      continueFrom(end, tokens, numTokens, batch, i);
    }
  }

  release(sequence: Sequence): void {
    this.indexes.delete(sequence);
  }

  reset(): void {
    this.indexes.clear();
  }

  close(): void {
    this.indexes.clear();
  }
}

/** Drafts tokens[end, ...); where these run out the drafts themselves go on, as a text with a period does. */
function continueFrom(
  end: number,
  tokens: Int32Array,
  numTokens: number,
  batch: DraftBatch,
  i: number,
): void {
  const period = numTokens - end;
  const wanted = batch.wanted[i] as number;
  for (let k = 0; k < wanted; k++)
    batch.push(i, tokens[end + (k % period)] as number);
}

/** Odd, so that no token is lost from the hash. */
const MULTIPLIER = 0x9e3779b1;

/**
 * Where each run of `length` tokens occurred, by the position after it. Heads of chains are hashed; a chain holds the
 * positions of its hash, latest first. Two integers a token (and half as many again while it grows); a token is added
 * once, at O(1).
 */
export class NgramIndex {
  /** Int32 [power of two]; -1: an empty chain. */
  private heads = new Int32Array(0);
  /** Int32 [heads.length] next of the chain, by position. */
  private next = new Int32Array(0);
  /** Positions up to this one are in the index. */
  private numIndexed = 0;
  /** Polynomial of the `length` tokens before numIndexed, modulo 2^32. */
  private hash = 0;
  /** Tokens that matched where the last search ended. */
  matched = 0;
  /** MULTIPLIER ** length */
  private readonly outgoing: number;

  constructor(private readonly length: number) {
    let outgoing = 1;
    for (let k = 0; k < length; k++) outgoing = Math.imul(outgoing, MULTIPLIER);
    this.outgoing = outgoing;
  }

  /**
   * A position e < numTokens such that the tokens before it are those before numTokens: at least `length` of them, as
   * many as can be up to `longest`; -1 where there is none. `tokens` continues what it was in the call before.
   */
  find(tokens: Int32Array, numTokens: number, longest: number): number {
    const { length } = this;
    if (numTokens <= length) return -1;
    this.extend(tokens, numTokens - 1);
    const hash = this.pushed(tokens, numTokens);
    let best = -1;
    let bestMatch = length - 1;
    let end = this.heads[this.chainOf(hash)] as number;
    for (let tries = 0; end >= 0 && tries < MAX_CANDIDATES; tries++) {
      const match = matchBefore(tokens, end, numTokens, longest);
      if (match > bestMatch) {
        best = end;
        bestMatch = match;
        if (match === longest) break;
      }
      end = this.next[end] as number;
    }
    this.matched = bestMatch;
    return best;
  }

  /** Adds the positions up to `last`. */
  private extend(tokens: Int32Array, last: number): void {
    if (last >= this.heads.length) this.grow(tokens, last);
    while (this.numIndexed < last) {
      this.hash = this.pushed(tokens, ++this.numIndexed);
      this.insert(this.numIndexed, this.hash);
    }
  }

  /** The hash once token `end - 1` has come in; the one before was of position end - 1. */
  private pushed(tokens: Int32Array, end: number): number {
    const { length, outgoing } = this;
    const gone = end > length ? (tokens[end - 1 - length] as number) + 1 : 0;
    const hash =
      Math.imul(this.hash, MULTIPLIER) + (tokens[end - 1] as number) + 1;
    return (hash - Math.imul(gone, outgoing)) | 0;
  }

  private insert(end: number, hash: number): void {
    if (end < this.length) return;
    const chain = this.chainOf(hash);
    this.next[end] = this.heads[chain] as number;
    this.heads[chain] = end;
  }

  private chainOf(hash: number): number {
    return (
      (Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 8) &
      (this.heads.length - 1)
    );
  }

  /** Room for positions up to `last`, and as much again; the positions so far are added anew. */
  private grow(tokens: Int32Array, last: number): void {
    let size = Math.max(64, this.heads.length);
    while (size <= last) size *= 2;
    this.heads = new Int32Array(size).fill(-1);
    this.next = new Int32Array(size);
    const { numIndexed } = this;
    this.numIndexed = 0;
    this.hash = 0;
    while (this.numIndexed < numIndexed) {
      this.hash = this.pushed(tokens, ++this.numIndexed);
      this.insert(this.numIndexed, this.hash);
    }
  }
}

/** How many tokens before `end` equal those before `numTokens`, counted up to `longest`. */
function matchBefore(
  tokens: Int32Array,
  end: number,
  numTokens: number,
  longest: number,
): number {
  const most = Math.min(longest, end);
  let match = 0;
  while (
    match < most &&
    tokens[end - 1 - match] === tokens[numTokens - 1 - match]
  )
    match++;
  return match;
}
