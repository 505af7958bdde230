import { assert } from "../core/errors.js";
import { NO_DRAFTS, SequenceStatus } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import { goesBefore } from "./waiting-queue.js";
import type { SchedulingPolicy } from "./waiting-queue.js";

/**
 * Running sequences, sorted by rank (see `goesBefore`), so that the last is the one to preempt; and their slots, rows of
 * the runner's per-sequence state. A slot may be given to another sequence while a launch that names it is under way,
 * because launches run in order.
 */
export class RunningList {
  private readonly sequences: Sequence[] = [];
  private readonly freeSlots: number[] = [];
  private numFinished = 0;

  constructor(
    private readonly maxNumSeqs: number,
    private readonly policy: SchedulingPolicy,
  ) {
    for (let slot = maxNumSeqs - 1; slot >= 0; slot--)
      this.freeSlots.push(slot);
  }

  get length(): number {
    return this.sequences.length;
  }

  get isFull(): boolean {
    return this.sequences.length === this.maxNumSeqs;
  }

  at(i: number): Sequence {
    return this.sequences[i] as Sequence;
  }

  /** Gives a waiting sequence a slot and its place. */
  join(sequence: Sequence): void {
    const slot = this.freeSlots.pop();
    assert(slot !== undefined, "a sequence joins while a slot is free");
    sequence.slot = slot;
    sequence.status = SequenceStatus.running;
    let at = this.sequences.length;
    while (at > 0 && goesBefore(sequence, this.at(at - 1), this.policy)) at--;
    this.sequences.splice(at, 0, sequence);
  }

  /** Takes the last in rank out, to wait again; what was drafted for its next step is gone. */
  popLast(): Sequence {
    const sequence = this.sequences.pop();
    assert(sequence !== undefined, "something runs");
    this.leaveSlot(sequence);
    sequence.draftTokens = NO_DRAFTS;
    sequence.status = SequenceStatus.waiting;
    return sequence;
  }

  /** Ends a running sequence. It stays in the list, which may be being walked, until `dropFinished`. */
  finish(sequence: Sequence): void {
    this.leaveSlot(sequence);
    sequence.status = SequenceStatus.finished;
    this.numFinished++;
  }

  dropFinished(): void {
    if (this.numFinished === 0) return;
    let kept = 0;
    for (let i = 0; i < this.sequences.length; i++) {
      const sequence = this.at(i);
      if (sequence.status === SequenceStatus.running)
        this.sequences[kept++] = sequence;
    }
    this.sequences.length = kept;
    this.numFinished = 0;
  }

  /** Throws internal_error when slots and sequences do not account for each other. */
  checkIntegrity(): void {
    const slots = new Set(this.freeSlots);
    for (let i = 0; i < this.sequences.length; i++) {
      slots.add(this.at(i).slot);
      assert(
        i === 0 || goesBefore(this.at(i - 1), this.at(i), this.policy),
        "running sequences are in order of rank",
      );
    }
    assert(
      slots.size === this.maxNumSeqs &&
        this.freeSlots.length + this.sequences.length === this.maxNumSeqs,
      "every slot is free or belongs to one running sequence",
    );
  }

  private leaveSlot(sequence: Sequence): void {
    this.freeSlots.push(sequence.slot);
    sequence.slot = -1;
  }
}
