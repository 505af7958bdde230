import type { ScheduledBatch } from "../core/batch.js";
import type { Sequence } from "../core/sequence.js";
import type { KVCacheManager } from "../kv/kv-cache-manager.js";
import type { SchedulerConfig } from "./scheduler-config.js";
import { roomForDrafts } from "./stop.js";

type Limits = Pick<
  SchedulerConfig,
  "maxNumBatchedTokens" | "maxNumSamples" | "maxModelLen"
>;

/**
 * Adds the draftTokens of the sequences that decode in `batch`, from the first to the last. They take what nobody else
 * wants of the step: tokens of the budget, sampled rows, and blocks beyond the `blocksToCome` that running sequences
 * still need for what they know. Nobody is preempted for them, and what is refused is given back when the step is booked.
 */
export function addDrafts(
  batch: ScheduledBatch,
  kv: KVCacheManager,
  limits: Limits,
  blocksToCome: number,
): void {
  for (let i = 0; i < batch.numSeqs; i++) {
    const sequence = batch.sequence(i);
    const decodes = batch.count[i] === 1 && batch.samplesOf[i] === 1;
    if (!decodes || sequence.draftTokens.length === 0) continue;
    const most = Math.min(
      sequence.draftTokens.length,
      roomForDrafts(sequence, limits.maxModelLen),
      limits.maxNumBatchedTokens - batch.numTokens,
      limits.maxNumSamples - batch.numSamples,
    );
    const free = kv.numFreeBlocks - blocksToCome;
    const drafts = fitting(kv, sequence, most, free);
    if (drafts <= 0) continue;
    if (!kv.allocate(sequence, sequence.numComputedTokens + drafts)) continue;
    batch.addDrafts(i, drafts);
    sequence.numComputedTokens += drafts;
  }
}

/** How many of `drafts` more tokens need no more than `free` blocks. */
function fitting(
  kv: KVCacheManager,
  sequence: Sequence,
  drafts: number,
  free: number,
): number {
  const { numComputedTokens } = sequence;
  let left = drafts;
  while (left > 0 && kv.numMissing(sequence, numComputedTokens + left) > free)
    left--;
  return left;
}
