import type { Sequence } from "../core/sequence.js";
import { penaltiesAreNeutral } from "./sampling-rows.js";

/**
 * Knows which tokens the device's history of each sequence slot holds. A launch writes the tokens that it computes; a
 * sequence that starts behind them, on KV from the prefix cache, must be given those before.
 */
export class HistoryTracker {
  private readonly owner: (Sequence | null)[];
  /** [maxNumSeqs] positions [0, length) of the slot hold its owner's tokens. */
  private readonly length: Int32Array;

  constructor(maxNumSeqs: number) {
    this.owner = new Array<Sequence | null>(maxNumSeqs).fill(null);
    this.length = new Int32Array(maxNumSeqs);
  }

  /**
   * Books that tokens [start, start + count) are launched. True: the tokens before `start` are missing and will be read,
   * so they have to be sent first.
   */
  advance(sequence: Sequence, start: number, count: number): boolean {
    const { slot } = sequence;
    if (this.owner[slot] !== sequence) {
      this.owner[slot] = sequence;
      this.length[slot] = 0;
    }
    const missing = start > (this.length[slot] as number);
    const send = missing && !penaltiesAreNeutral(sequence.request.params);
    // Without penalties the gap is never read: it counts as filled.
    this.length[slot] = start + count;
    return send;
  }
}
