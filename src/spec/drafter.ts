import { assert } from "../core/errors.js";
import type { Sequence } from "../core/sequence.js";
import type { SpeculativeMethod } from "../core/speculative-config.js";

export const MAX_GRADE = 7;

/**
 * The sequences to draft for in one step, and their drafts: structures of arrays, reused. Every sequence is running, and
 * all of its tokens but the last are computed at least.
 */
export class DraftBatch {
  count = 0;
  /** Int32 [maxNumSeqs] most drafts for the i-th sequence, at least 1. */
  readonly wanted: Int32Array;
  /** Int32 [maxNumSeqs] drafts pushed for it so far. */
  readonly numDrafts: Int32Array;
  /** Uint8 [maxNumSeqs] how sure the drafts of the i-th are, 0 to MAX_GRADE. */
  readonly grade: Uint8Array;
  /** Int32 [maxNumSeqs * maxNumDrafts]; the drafts of the i-th begin at i * maxNumDrafts. */
  readonly tokens: Int32Array;
  private readonly sequences: (Sequence | null)[];

  constructor(
    readonly maxNumSeqs: number,
    /** Most drafts of one sequence. */
    readonly maxNumDrafts: number,
  ) {
    this.wanted = new Int32Array(maxNumSeqs);
    this.numDrafts = new Int32Array(maxNumSeqs);
    this.grade = new Uint8Array(maxNumSeqs);
    this.tokens = new Int32Array(maxNumSeqs * maxNumDrafts);
    this.sequences = new Array<Sequence | null>(maxNumSeqs).fill(null);
  }

  clear(): void {
    this.sequences.fill(null, 0, this.count);
    this.numDrafts.fill(0, 0, this.count);
    this.count = 0;
  }

  /** Asks for up to `wanted` drafts, 1 <= wanted <= maxNumDrafts. */
  add(sequence: Sequence, wanted: number): void {
    assert(
      wanted >= 1 && wanted <= this.maxNumDrafts,
      `between 1 and ${this.maxNumDrafts} drafts are asked for, not ${wanted}`,
    );
    const i = this.count++;
    this.sequences[i] = sequence;
    this.wanted[i] = wanted;
    this.grade[i] = 0;
  }

  /** The i-th sequence, i < count. */
  sequence(i: number): Sequence {
    return this.sequences[i] as Sequence;
  }

  /** Appends a draft for the i-th sequence. False when it has as many as are wanted: this one is dropped. */
  push(i: number, token: number): boolean {
    const at = this.numDrafts[i] as number;
    if (at >= (this.wanted[i] as number)) return false;
    this.tokens[i * this.maxNumDrafts + at] = token;
    this.numDrafts[i] = at + 1;
    return true;
  }

  /**
   * How sure the drafts of the i-th are, on a scale of the drafter's own. How often they are right is counted for each
   * grade apart; a drafter that can't tell leaves it at 0.
   */
  setGrade(i: number, grade: number): void {
    this.grade[i] = Math.min(grade, MAX_GRADE);
  }

  /** The drafts of the i-th sequence; a view, valid until `clear`. */
  draftsOf(i: number): Int32Array {
    const first = i * this.maxNumDrafts;
    return this.tokens.subarray(first, first + (this.numDrafts[i] as number));
  }
}

/**
 * Guesses what comes next. A guess costs time when it is wrong and never changes the output, so a drafter may use
 * whatever it likes: the tokens of the sequence, those of others, a model of its own.
 *
 *   propose   before a step: guesses for the sequences that decode in it
 *   release   a sequence ended, with all of its tokens in it
 *
 * Synchronous, on the engine's thread. A device_error thrown by `propose` is a failure of the runner.
 */
export interface Drafter {
  readonly method: SpeculativeMethod;
  /** Why it has given up: there will be no more drafts. Null or none: it has not. */
  readonly failure?: string | null;
  /**
   * Pushes the tokens that may follow sequence.tokens[0, numTokens): at most wanted[i], in order; fewer, or none, where it
   * has no idea. Only booked tokens are in a sequence. Between two calls a sequence may have grown by any number of
   * tokens, may have been preempted (its slot changes) or left out; tokens that were there never change.
   */
  propose(batch: DraftBatch): void;
  /** Tokens that have to be read, as a prompt is, before there are drafts for the sequence. None: reading costs nothing. */
  numUnseen?(sequence: Sequence): number;
  /**
   * A sequence ended, was aborted included: whatever is held for it goes. Called once for every sequence of the engine,
   * also for those that `propose` never saw.
   */
  release(sequence: Sequence): void;
  /** What is held for sequences is lost, as after a restart of the runner; the sequences go on. */
  reset(): void;
  /** Frees everything; nothing is called after it. */
  close(): void;
}
