import { assert } from "../core/errors.js";
import type { MissReason, Sequence } from "../core/sequence.js";
import { BlockPool } from "./block-pool.js";
import { BlockTable, blockTableOf } from "./block-table.js";
import { PrefixCache } from "./prefix-cache.js";
import type { BlockHash } from "./prefix-cache.js";

export interface KVCacheOptions {
  numBlocks: number;
  blockSize: number;
  enablePrefixCaching: boolean;
  /** Tokens that a position sees, itself included, when every layer is windowed; else null. */
  slidingWindow: number | null;
  /** Token budget of a step: bounds how far a windowed sequence reaches beyond its window. */
  maxNumBatchedTokens: number;
  hash?: BlockHash;
}

/** Why `match` did not find all it could, or null. */
export type MatchMiss = MissReason | null;

/**
 * Who holds which KV block. A sequence's life here:
 *
 *   match     blocks of its prefix that are cached        (or shareFrom: those that a sibling holds)
 *   allocate  blocks for what the next step computes
 *   commit    full blocks of booked tokens enter the prefix cache; a copy of a cached block is dropped for it
 *   release   all references go, last block first, so that leaves of the prefix tree are reused before their parents
 *
 * A free block stays cached until `allocate` takes it. Blocks given back while launches that read them are under way
 * may be reused at once, because launches run in order.
 */
export class KVCacheManager {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly slidingWindow: number | null;
  /** Blocks that one sequence may hold at once: bounded for windowed models only. */
  private readonly maxLiveBlocks: number;
  private readonly pool: BlockPool;
  private readonly cache: PrefixCache | null;
  private numReusable = 0;
  private miss: MatchMiss = null;

  constructor(options: KVCacheOptions) {
    this.numBlocks = options.numBlocks;
    this.blockSize = options.blockSize;
    this.slidingWindow = options.slidingWindow;
    // Behind the next position to be booked: the window. Before it: the chunks of two launches under way.
    this.maxLiveBlocks =
      options.slidingWindow === null
        ? Infinity
        : Math.ceil(
            (options.slidingWindow + 2 * options.maxNumBatchedTokens) /
              options.blockSize,
          ) + 1;
    this.pool = new BlockPool(options.numBlocks);
    this.cache = options.enablePrefixCaching
      ? new PrefixCache(options.numBlocks, {
          blockSize: options.blockSize,
          ...(options.hash && { hash: options.hash }),
        })
      : null;
  }

  get cachesPrefixes(): boolean {
    return this.cache !== null;
  }

  /** Blocks without references, cached ones included. */
  get numFreeBlocks(): number {
    return this.pool.numFree;
  }

  get numCachedBlocks(): number {
    return this.cache?.size ?? 0;
  }

  /** Free blocks whose content is cached: what later prompts may find. */
  get numCachedFreeBlocks(): number {
    return this.numReusable;
  }

  /** 0..1 */
  get usage(): number {
    return 1 - this.pool.numFree / this.numBlocks;
  }

  /** Whether the content of `block` can still be asked for: it is referenced, or cached. */
  isLive(block: number): boolean {
    return this.pool.refCount(block) > 0 || this.isCached(block);
  }

  refCount(block: number): number {
    return this.pool.refCount(block);
  }

  /** Why the last `match` ended where it did. */
  get lastMiss(): MatchMiss {
    return this.miss;
  }

  /**
   * Takes references to the cached blocks of the longest known prefix of the sequence's tokens, and returns its length
   * in tokens: a multiple of the block size, less than numTokens, so that the last token is always computed and never
   * written into a shared block. The sequence has an empty table. 0 with the prefix cache off.
   */
  match(sequence: Sequence): number {
    this.miss = null;
    const { cache, blockSize } = this;
    if (!cache) return 0;
    const table = blockTableOf(sequence);
    const { cacheSalt } = sequence.request;
    const most = Math.floor((sequence.numTokens - 1) / blockSize);
    if (most === 0) this.miss = "tooShort";
    let parent = -1;
    for (let i = 0; i < most; i++) {
      const block = cache.find(
        parent,
        cacheSalt,
        sequence.tokens,
        i * blockSize,
      );
      if (block < 0) {
        this.miss = cache.missReason(cacheSalt);
        break;
      }
      this.touch(block);
      table.push(block);
      parent = block;
    }
    this.startChain(table, table.length);
    const matched = table.length * blockSize;
    this.releaseBeforeWindow(table, matched);
    return matched;
  }

  /**
   * References to the first `numBlocks` blocks of a sequence, for siblings that continue the same prompt; entries that
   * lie before the window are not held. Give it back with `releaseTable`.
   */
  hold(sequence: Sequence, numBlocks: number): BlockTable {
    const held = new BlockTable();
    this.share(blockTableOf(sequence), numBlocks, held);
    return held;
  }

  /** Fills the empty table of `sequence` with the blocks of `held`; returns the tokens they cover. */
  shareFrom(held: BlockTable, sequence: Sequence): number {
    const table = blockTableOf(sequence);
    this.share(held, held.length, table);
    this.startChain(table, table.length);
    return table.length * this.blockSize;
  }

  /** Most blocks that a sequence of `numTokens` tokens holds at once. */
  numNeeded(numTokens: number): number {
    return Math.min(Math.ceil(numTokens / this.blockSize), this.maxLiveBlocks);
  }

  /** Free blocks that the sequence will have taken when it has computed `numTokens` tokens. */
  numMissing(sequence: Sequence, numTokens: number): number {
    const table = blockTableOf(sequence);
    const uncovered = Math.ceil(numTokens / this.blockSize) - table.length;
    const live = table.length - table.numReleased;
    return Math.max(0, Math.min(uncovered, this.maxLiveBlocks - live));
  }

  /** Makes the table cover [0, numTokens). False, and nothing changes, when too few blocks are free. */
  allocate(sequence: Sequence, numTokens: number): boolean {
    const table = blockTableOf(sequence);
    const missing = Math.ceil(numTokens / this.blockSize) - table.length;
    if (missing <= 0) return true;
    if (missing > this.pool.numFree) return false;
    for (let i = 0; i < missing; i++) {
      const block = this.pool.take();
      if (this.isCached(block)) {
        this.cache?.evict(block);
        this.numReusable--;
      }
      table.push(block);
    }
    return true;
  }

  /**
   * The KV of [0, numComputed) is written (in launch order) and its tokens are booked: full blocks enter the prefix
   * cache, and blocks that no position from `nextPosition` on sees are given back.
   */
  commit(sequence: Sequence, numComputed: number, nextPosition: number): void {
    const table = blockTableOf(sequence);
    if (this.cache !== null) {
      const full = Math.floor(numComputed / this.blockSize);
      if (full > table.numCommitted)
        this.commitBlocks(this.cache, sequence, table, full);
    }
    if (this.slidingWindow !== null)
      this.releaseBeforeWindow(table, nextPosition);
  }

  /** Gives back the blocks that lie beyond [0, numTokens): what drafts took that were refused. None is committed. */
  truncate(sequence: Sequence, numTokens: number): void {
    const table = blockTableOf(sequence);
    const kept = Math.ceil(numTokens / this.blockSize);
    while (table.length > kept) this.releaseBlock(table.pop());
  }

  /** Gives all blocks of the sequence back and empties its table. */
  release(sequence: Sequence): void {
    this.releaseTable(blockTableOf(sequence));
  }

  releaseTable(table: BlockTable): void {
    for (let i = table.length - 1; i >= table.numReleased; i--)
      this.releaseBlock(table.block(i));
    table.clear();
  }

  /** Forgets all cached prefixes. Blocks in use stay so; sequences that run commit no more blocks. */
  resetPrefixCache(): void {
    this.cache?.clear();
    this.numReusable = 0;
  }

  /**
   * O(blocks). Throws internal_error when counts, free list and index disagree, or when `holders` (all tables that hold
   * references) do not account for every reference.
   */
  checkIntegrity(holders: Iterable<BlockTable>): void {
    this.pool.checkIntegrity();
    this.cache?.checkIntegrity();
    const held = new Int32Array(this.numBlocks);
    for (const table of holders)
      for (let i = table.numReleased; i < table.length; i++) {
        const block = table.block(i);
        held[block] = (held[block] as number) + 1;
      }
    let reusable = 0;
    for (let block = 0; block < this.numBlocks; block++) {
      assert(
        held[block] === this.pool.refCount(block),
        `block ${block} has ${this.pool.refCount(block)} references and ${held[block]} holders`,
      );
      if (held[block] === 0 && this.isCached(block)) reusable++;
    }
    assert(
      reusable === this.numReusable,
      `${reusable} free blocks are cached, ${this.numReusable} are counted`,
    );
  }

  private isCached(block: number): boolean {
    return this.cache !== null && this.cache.entryOf(block) !== 0;
  }

  private touch(block: number): void {
    if (this.pool.refCount(block) === 0 && this.isCached(block))
      this.numReusable--;
    this.pool.touch(block);
  }

  private releaseBlock(block: number): void {
    const cached = this.isCached(block);
    this.pool.release(block, !cached);
    if (cached && this.pool.refCount(block) === 0) this.numReusable++;
  }

  private share(from: BlockTable, numBlocks: number, to: BlockTable): void {
    for (let i = 0; i < numBlocks; i++) {
      if (i >= from.numReleased) this.touch(from.block(i));
      to.push(i < from.numReleased ? 0 : from.block(i));
    }
    to.numReleased = Math.min(from.numReleased, numBlocks);
  }

  /** The first `numBlocks` blocks of the table are what they will be: committing goes on after them. */
  private startChain(table: BlockTable, numBlocks: number): void {
    table.numCommitted = numBlocks;
    if (numBlocks === 0) return;
    table.parentBlock = table.block(numBlocks - 1);
    table.parentEntry = this.cache?.entryOf(table.parentBlock) ?? 0;
    table.chainBroken = table.parentEntry === 0;
  }

  private commitBlocks(
    cache: PrefixCache,
    sequence: Sequence,
    table: BlockTable,
    full: number,
  ): void {
    const { cacheSalt } = sequence.request;
    while (table.numCommitted < full) {
      const i = table.numCommitted++;
      const parent = table.parentBlock;
      if (parent >= 0 && cache.entryOf(parent) !== table.parentEntry)
        table.chainBroken = true;
      if (table.chainBroken) continue;
      const own = table.block(i);
      const at = i * this.blockSize;
      const named = cache.insert(own, parent, cacheSalt, sequence.tokens, at);
      if (named !== own) this.replace(table, i, named);
      table.parentBlock = named;
      table.parentEntry = cache.entryOf(named);
    }
  }

  /** The same tokens after the same prefix are cached in `block`: one copy is enough. */
  private replace(table: BlockTable, i: number, block: number): void {
    const own = table.block(i);
    this.touch(block);
    table.ids[i] = block;
    this.releaseBlock(own);
  }

  private releaseBeforeWindow(table: BlockTable, nextPosition: number): void {
    if (this.slidingWindow === null) return;
    const firstSeen = Math.max(0, nextPosition - this.slidingWindow + 1);
    const end = Math.min(Math.floor(firstSeen / this.blockSize), table.length);
    while (table.numReleased < end) {
      this.releaseBlock(table.block(table.numReleased));
      table.ids[table.numReleased++] = 0;
    }
  }
}
