import { assert, OctavoError } from "../core/errors.js";
import type { Request } from "../core/request.js";
import { SequenceStatus } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import type { KVCacheManager } from "../kv/kv-cache-manager.js";
import type { SchedulerConfig } from "./scheduler-config.js";

/** Throws context_length_exceeded when no token could follow the prompt, invalid_request for an empty one. */
export function checkRequest(
  { promptTokenIds, n }: Request,
  maxModelLen: number,
): void {
  if (promptTokenIds.length === 0 || n < 1)
    throw new OctavoError(
      "invalid_request",
      `expected a prompt of at least one token and n of at least 1, got ${promptTokenIds.length} tokens and n = ${n}`,
    );
  if (promptTokenIds.length >= maxModelLen)
    throw new OctavoError(
      "context_length_exceeded",
      `the prompt has ${promptTokenIds.length} tokens; the model takes at most ${maxModelLen}, the output included`,
    );
}

/** Throws invalid_config when a sequence of maxModelLen tokens does not fit into the KV cache. */
export function checkCapacity(
  config: SchedulerConfig,
  kv: KVCacheManager,
): void {
  const { numBlocks, maxModelLen, maxNumSamples, maxNumSeqs } = config;
  const { maxNumBatchedTokens, longPrefillTokenThreshold } = config;
  const needed = kv.numNeeded(maxModelLen);
  if (numBlocks < needed)
    throw new OctavoError(
      "invalid_config",
      `one sequence of max-model-len ${maxModelLen} needs ${needed} KV blocks, there are ${numBlocks}: raise --num-gpu-blocks-override or lower --max-model-len`,
      "--num-gpu-blocks-override",
    );
  assert(
    maxNumSamples >= maxNumSeqs,
    `every sequence has a row to sample: ${maxNumSamples} rows for ${maxNumSeqs} sequences`,
  );
  assert(
    config.enableChunkedPrefill ||
      (maxNumBatchedTokens >= maxModelLen && longPrefillTokenThreshold === 0),
    `what is not cut fits into a step: ${maxNumBatchedTokens} tokens for ${maxModelLen}, threshold ${longPrefillTokenThreshold}`,
  );
}

/** Throws internal_error when the counters of a sequence contradict each other (see Sequence). */
export function checkSequence(sequence: Sequence, blockSize: number): void {
  const { numComputedTokens, numTokens, numInFlightTokens, request } = sequence;
  const name = `choice ${sequence.choice} of request ${request.id}`;
  assert(
    numComputedTokens >= 0 &&
      numComputedTokens <= numTokens + numInFlightTokens,
    `${name}: ${numComputedTokens} of ${numTokens} + ${numInFlightTokens} tokens are computed`,
  );
  assert(
    sequence.status !== SequenceStatus.running ||
      sequence.blockTable.length * blockSize >= numComputedTokens,
    `${name}: blocks cover what is computed`,
  );
  assert(
    sequence.status === SequenceStatus.running ||
      (sequence.blockTable.length === 0 && sequence.slot === -1),
    `${name}: only running sequences hold blocks and a slot`,
  );
}
