import type { EngineConfig } from "../core/config.js";
import type { TokenEvents } from "../core/events.js";
import type { FinishReason } from "../core/request.js";
import type { Sequence } from "../core/sequence.js";
import type { BlockHash } from "../kv/prefix-cache.js";

export type SchedulerConfig = Pick<
  EngineConfig,
  | "blockSize"
  | "maxNumSeqs"
  | "maxNumBatchedTokens"
  | "longPrefillTokenThreshold"
  | "enableChunkedPrefill"
  | "enablePrefixCaching"
  | "schedulingPolicy"
> & {
  numBlocks: number;
  maxModelLen: number;
  /** Rows that may be sampled in one step, at least maxNumSeqs. */
  maxNumSamples: number;
  /** When every layer is windowed: tokens that a position sees, itself included. */
  slidingWindow: number | null;
  hash?: BlockHash;
};

/** What happened to sequences since the engine last cleared it. */
export interface SchedulerReport {
  readonly events: TokenEvents;
  /** In the order of their last events. */
  readonly finished: Sequence[];
  readonly finishReasons: FinishReason[];
  /** The first choice of each request that was scheduled for the first time. */
  readonly admitted: Sequence[];
  /** Once for each time that a sequence gave its place up. */
  readonly preempted: Sequence[];
  /**
   * The drafts of a sequence have been compared: `accepted` of them are tokens of its output now. `judged` says how many
   * were compared at all: one more than accepted where the next was refused, the same where the output ended or all of them were right.
   */
  verified?(
    sequence: Sequence,
    drafted: number,
    accepted: number,
    judged: number,
  ): void;
}
