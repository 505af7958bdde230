import { Sequence } from "../../src/core/sequence.js";
import { BlockTable, blockTableOf } from "../../src/kv/block-table.js";
import { KVCacheManager } from "../../src/kv/kv-cache-manager.js";
import type { KVCacheOptions } from "../../src/kv/kv-cache-manager.js";
import { request } from "../engine/simulation.js";

let order = 0;

export function sequenceOf(
  prompt: ArrayLike<number>,
  cacheSalt = "",
): Sequence {
  const made = request({ prompt: Array.from(prompt), cacheSalt });
  return new Sequence(made, 0, new BlockTable(), ++order);
}

export function managerOf(
  options: Partial<KVCacheOptions> = {},
): KVCacheManager {
  return new KVCacheManager({
    numBlocks: 16,
    blockSize: 16,
    enablePrefixCaching: true,
    slidingWindow: null,
    maxNumBatchedTokens: 64,
    ...options,
  });
}

/** Computes the whole prompt, as one step does. */
export function compute(kv: KVCacheManager, sequence: Sequence): void {
  if (!kv.allocate(sequence, sequence.numTokens)) throw new Error("no room");
  kv.commit(sequence, sequence.numTokens, sequence.numTokens);
}

export function blocksOf(sequence: Sequence): number[] {
  const table = blockTableOf(sequence);
  return [...table.ids.subarray(0, table.length)];
}

export function check(kv: KVCacheManager, ...holders: Sequence[]): void {
  kv.checkIntegrity(holders.map(blockTableOf));
}
