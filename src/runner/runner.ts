import type { ScheduledBatch } from "../core/batch.js";
import type { RunnerMemory } from "./addon.js";

/** Results of one launch: row r of each array belongs to the r-th sampled row of the batch. Valid until two launches later. */
export interface StepOutput {
  numSamples: number;
  sampledIds: Int32Array;
  /** Written for rows that want log-probabilities. */
  logprob: Float32Array;
  rank: Int32Array;
  /** Written for rows with a target (prompt log-probabilities). */
  targetLogprob: Float32Array;
  targetRank: Int32Array;
  /** [numSamples * MAX_LOGPROBS] */
  topIds: Int32Array;
  topLogprobs: Float32Array;
  /** See step-arena.ts, Timing. */
  timings: Float64Array;
}

export interface RunnerLimits {
  maxNumTokens: number;
  maxNumSeqs: number;
  maxNumSamples: number;
  maxModelLen: number;
  numBlocks: number;
  vocabSize: number;
}

export interface RunnerSeconds {
  pack: number;
  launch: number;
  collect: number;
  compute: number;
}

/** Speaks arrays. Launches run in order; at most two are uncollected. The engine is its only caller. */
export interface ModelRunner {
  readonly limits: RunnerLimits;
  readonly memory: RunnerMemory;
  /**
   * What the last launch and collect took of the caller's thread, where it is measured (launch without packing), and what
   * the collected step's forward pass, head and sampling took by the device's own clock.
   */
  readonly seconds?: RunnerSeconds;
  /**
   * Starts a step. With constrained rows in the batch, `sample` must follow before it is collected. `awaited` (default
   * false): it is collected next, with nothing to do until then; so the collecting thread may compute it itself.
   */
  launch(batch: ScheduledBatch, awaited?: boolean): void;
  /** Allows sampled row `row` of the oldest launch only the tokens of `mask` (see MaskSource); before its `sample`. */
  setMask(row: number, mask: Uint32Array): void;
  /** The masks of the oldest launch are there: its rows are sampled once their logits are. */
  sample(): void;
  /** Waits for the oldest launch. Throws OctavoError device_error when it failed. */
  collect(): StepOutput;
  close(): void;
}
