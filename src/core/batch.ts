import type { Sequence } from "./sequence.js";

/**
 * What one step computes: a reused structure of arrays, no garbage per step. Sequence i computes `count[i]` tokens from
 * position `start[i]`: known tokens, then tokens in flight (named by the row of the previous launch that produces them),
 * then `numDrafts[i]` drafts. Its last `samplesOf[i]` rows are sampled.
 */
export class ScheduledBatch {
  numSeqs = 0;
  numTokens = 0;
  numSamples = 0;
  /** Sequences with a constraint that sample a token here: sampling waits for their masks. */
  numConstrained = 0;
  /** Drafts of all sequences. With any of them, what the step brings must be booked before the next is scheduled. */
  numDraftTokens = 0;
  readonly sequences: (Sequence | null)[];
  readonly start: Int32Array;
  readonly count: Int32Array;
  readonly numDrafts: Int32Array;
  /** Trailing rows whose logits are needed: 0 in the middle of a prompt, 1 + drafts at its end, more for prompt_logprobs. */
  readonly samplesOf: Int32Array;
  /** Sample row of the previous launch that holds the in-flight token at the end of this sequence, or -1. */
  readonly feedbackRow: Int32Array;

  constructor(readonly maxNumSeqs: number) {
    this.sequences = new Array<Sequence | null>(maxNumSeqs).fill(null);
    this.start = new Int32Array(maxNumSeqs);
    this.count = new Int32Array(maxNumSeqs);
    this.numDrafts = new Int32Array(maxNumSeqs);
    this.samplesOf = new Int32Array(maxNumSeqs);
    this.feedbackRow = new Int32Array(maxNumSeqs);
  }

  clear(): void {
    this.sequences.fill(null, 0, this.numSeqs);
    this.numSeqs = 0;
    this.numTokens = 0;
    this.numSamples = 0;
    this.numConstrained = 0;
    this.numDraftTokens = 0;
  }

  /** The i-th sequence, i < numSeqs. */
  sequence(i: number): Sequence {
    return this.sequences[i] as Sequence;
  }

  add(
    sequence: Sequence,
    start: number,
    count: number,
    drafts: number,
    samples: number,
    feedbackRow: number,
  ): void {
    const i = this.numSeqs++;
    this.sequences[i] = sequence;
    this.start[i] = start;
    this.count[i] = count;
    this.numDrafts[i] = drafts;
    this.samplesOf[i] = samples;
    this.feedbackRow[i] = feedbackRow;
    this.numTokens += count;
    this.numSamples += samples;
    this.numDraftTokens += drafts;
  }

  /** Appends drafts to the i-th sequence, which decodes one token so far: each is a row more, and sampled. */
  addDrafts(i: number, drafts: number): void {
    this.count[i] = (this.count[i] as number) + drafts;
    this.numDrafts[i] = (this.numDrafts[i] as number) + drafts;
    this.samplesOf[i] = (this.samplesOf[i] as number) + drafts;
    this.numTokens += drafts;
    this.numSamples += drafts;
    this.numDraftTokens += drafts;
  }
}
