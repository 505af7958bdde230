import { randomInt } from "node:crypto";
import { assert } from "../core/errors.js";
import type { MissReason } from "../core/sequence.js";

/** 32 bits out of a seed (the parent's hash) and one block of tokens, tokens[start] .. tokens[start + blockSize). */
export type BlockHash = (
  seed: number,
  tokens: Int32Array,
  start: number,
  blockSize: number,
) => number;

export interface PrefixCacheOptions {
  blockSize: number;
  /** For tests: a weak hash makes collisions common. */
  hash?: BlockHash;
  /** Keeps hash values from being guessed; drawn when missing. Results never depend on it. */
  hashSeed?: number;
}

/**
 * Which full block holds which tokens after which prefix: a trie whose nodes are blocks.
 *
 * A cached block has an entry number that is never used again. A node is named by (entry of its parent, its tokens),
 * and both are compared on lookup. By induction from the root, which stands for the salt, a found block holds the KV of
 * exactly these tokens after exactly this prefix: hashes only speed the search, and a collision can't serve another
 * tenant's KV. Hashes are of content alone (the prefix without its salt), in two lanes of 32 bits.
 *
 *   buckets [hash] -> block -> block -> ...      (chained by `following`)
 *
 * All per-block data lies in typed arrays; the cache knows neither reference counts nor sequences.
 */
export class PrefixCache {
  private readonly blockSize: number;
  private readonly hash: BlockHash;
  private readonly seed: number;
  /** Int32 [numBuckets] first block, or -1; a power of two. */
  private readonly buckets: Int32Array;
  /** Int32 [numBlocks] next block of the bucket, or -1. */
  private readonly following: Int32Array;
  /** Float64 [numBlocks] (integers beyond 2^31); 0: not cached. */
  private readonly entries: Float64Array;
  private readonly parentEntries: Float64Array;
  /** Float64 [numBlocks] entry of the root above. */
  private readonly roots: Float64Array;
  /** Int32 [numBlocks] content hash, two lanes. */
  private readonly hashA: Int32Array;
  private readonly hashB: Int32Array;
  /** Int32 [numBlocks] hash of the salt. */
  private readonly saltHash: Int32Array;
  /** Int32 [numBlocks * blockSize] */
  private readonly tokens: Int32Array;
  /** Roots in use by at least one block. */
  private readonly salts = new Map<string, Root>();
  private readonly rootOfEntry = new Map<number, Root>();
  /** Direct-mapped by hash, newest wins: evicted blocks (lanes with the salt), and the block last committed. */
  private readonly evictedA: Int32Array;
  private readonly evictedB: Int32Array;
  private readonly lastCommitted: Int32Array;
  private lastEntry = 0;
  private count = 0;
  /** Content hash of the block that `find` looked for last. */
  private soughtA = 0;
  private soughtB = 0;

  constructor(
    readonly numBlocks: number,
    options: PrefixCacheOptions,
  ) {
    this.blockSize = options.blockSize;
    this.hash = options.hash ?? hashBlock;
    this.seed = options.hashSeed ?? randomInt(2 ** 31);
    const numBuckets = powerOfTwo(numBlocks * 2);
    this.buckets = new Int32Array(numBuckets).fill(-1);
    this.following = new Int32Array(numBlocks).fill(-1);
    this.entries = new Float64Array(numBlocks);
    this.parentEntries = new Float64Array(numBlocks);
    this.roots = new Float64Array(numBlocks);
    this.hashA = new Int32Array(numBlocks);
    this.hashB = new Int32Array(numBlocks);
    this.saltHash = new Int32Array(numBlocks);
    this.tokens = new Int32Array(numBlocks * options.blockSize);
    this.evictedA = new Int32Array(Math.max(4096, numBuckets));
    this.evictedB = new Int32Array(this.evictedA.length);
    this.lastCommitted = new Int32Array(this.evictedA.length).fill(-1);
  }

  /** Blocks that are cached. */
  get size(): number {
    return this.count;
  }

  /** The entry number of a cached block, 0 for one that is not cached. */
  entryOf(block: number): number {
    return this.entries[block] as number;
  }

  /**
   * The block that holds tokens[start] .. tokens[start + blockSize) after `parent` (a cached block, or -1 for the start
   * of a prompt), or -1.
   */
  find(
    parent: number,
    salt: string,
    tokens: Int32Array,
    start: number,
  ): number {
    this.seek(parent, tokens, start);
    const root = parent < 0 ? this.salts.get(salt) : this.rootAbove(parent);
    if (!root) return -1;
    const parentEntry = parent < 0 ? root.entry : this.entryOf(parent);
    return this.findChild(parentEntry, root.saltHash, tokens, start);
  }

  /** Why the last `find`, which found nothing, did not. */
  missReason(salt: string): MissReason {
    const saltHash = hashSalt(salt);
    const a = mix(this.soughtA, saltHash);
    const slot = this.memorySlot(a);
    if (
      this.evictedA[slot] === a &&
      this.evictedB[slot] === mix(this.soughtB, saltHash)
    )
      return "evicted";
    const other = this.lastCommitted[this.memorySlot(this.soughtA)] as number;
    return other >= 0 &&
      this.entries[other] !== 0 &&
      this.hashA[other] === this.soughtA &&
      this.hashB[other] === this.soughtB &&
      this.saltHash[other] !== saltHash
      ? "salt"
      : "cold";
  }

  /**
   * Names `block`, which is not cached, as the one that holds these tokens after `parent`. Returns `block`; or the block
   * that already does, and then nothing changes.
   */
  insert(
    block: number,
    parent: number,
    salt: string,
    tokens: Int32Array,
    start: number,
  ): number {
    assert(this.entries[block] === 0, `block ${block} is cached once`);
    this.seek(parent, tokens, start);
    const root = parent < 0 ? this.root(salt) : this.rootAbove(parent);
    const parentEntry = parent < 0 ? root.entry : this.entryOf(parent);
    const known = this.findChild(parentEntry, root.saltHash, tokens, start);
    if (known >= 0) return known;
    this.entries[block] = ++this.lastEntry;
    this.parentEntries[block] = parentEntry;
    this.roots[block] = root.entry;
    root.numBlocks++;
    this.hashA[block] = this.soughtA;
    this.hashB[block] = this.soughtB;
    this.saltHash[block] = root.saltHash;
    const at = block * this.blockSize;
    for (let i = 0; i < this.blockSize; i++)
      this.tokens[at + i] = tokens[start + i] as number;
    const bucket = this.bucketOf(this.soughtA, this.soughtB, root.saltHash);
    this.following[block] = this.buckets[bucket] as number;
    this.buckets[bucket] = block;
    this.lastCommitted[this.memorySlot(this.soughtA)] = block;
    this.count++;
    return block;
  }

  /** Forgets a cached block because it is about to be overwritten. */
  evict(block: number): void {
    const saltHash = this.saltHash[block] as number;
    const a = mix(this.hashA[block] as number, saltHash);
    const slot = this.memorySlot(a);
    this.evictedA[slot] = a;
    this.evictedB[slot] = mix(this.hashB[block] as number, saltHash);
    this.remove(block);
  }

  /** Forgets everything, what was evicted included. */
  clear(): void {
    this.buckets.fill(-1);
    this.following.fill(-1);
    this.entries.fill(0);
    this.evictedA.fill(0);
    this.evictedB.fill(0);
    this.lastCommitted.fill(-1);
    this.salts.clear();
    this.rootOfEntry.clear();
    this.count = 0;
  }

  /** O(numBlocks). Throws internal_error when the index and the blocks' data disagree. */
  checkIntegrity(): void {
    let chained = 0;
    for (const first of this.buckets)
      for (let block = first; block >= 0; block = this.next(block)) {
        assert(this.entries[block] !== 0, `indexed block ${block} is cached`);
        assert(++chained <= this.numBlocks, "the buckets hold no rings");
      }
    let cached = 0;
    for (const entry of this.entries) if (entry !== 0) cached++;
    let rooted = 0;
    for (const root of this.salts.values()) rooted += root.numBlocks;
    assert(
      chained === this.count && cached === this.count && rooted === this.count,
      `prefix cache counts agree: ${this.count} blocks, ${chained} indexed, ${cached} named, ${rooted} below roots`,
    );
  }

  private next(block: number): number {
    return this.following[block] as number;
  }

  private remove(block: number): void {
    const root = this.rootAbove(block);
    const bucket = this.bucketOf(
      this.hashA[block] as number,
      this.hashB[block] as number,
      root.saltHash,
    );
    if (this.buckets[bucket] === block) {
      this.buckets[bucket] = this.next(block);
    } else {
      let before = this.buckets[bucket] as number;
      while (this.following[before] !== block) before = this.next(before);
      this.following[before] = this.next(block);
    }
    this.entries[block] = 0;
    this.count--;
    if (--root.numBlocks > 0) return;
    this.salts.delete(root.salt);
    this.rootOfEntry.delete(root.entry);
  }

  /** Sets soughtA and soughtB to the content hash of the block after `parent`. */
  private seek(parent: number, tokens: Int32Array, start: number): void {
    const a = parent < 0 ? this.seed : (this.hashA[parent] as number);
    const b = parent < 0 ? ~this.seed : (this.hashB[parent] as number);
    this.soughtA = this.hash(a, tokens, start, this.blockSize);
    this.soughtB = this.hash(b, tokens, start, this.blockSize);
  }

  /** The child of `parentEntry` that holds the sought tokens; both are compared. */
  private findChild(
    parentEntry: number,
    saltHash: number,
    tokens: Int32Array,
    start: number,
  ): number {
    const bucket = this.bucketOf(this.soughtA, this.soughtB, saltHash);
    let block = this.buckets[bucket] as number;
    while (
      block >= 0 &&
      !(
        this.parentEntries[block] === parentEntry &&
        this.holds(block, tokens, start)
      )
    )
      block = this.next(block);
    return block;
  }

  private holds(block: number, tokens: Int32Array, start: number): boolean {
    const at = block * this.blockSize;
    for (let i = 0; i < this.blockSize; i++)
      if (this.tokens[at + i] !== tokens[start + i]) return false;
    return true;
  }

  private bucketOf(a: number, b: number, saltHash: number): number {
    return mix(a ^ Math.imul(b, 5), saltHash) & (this.buckets.length - 1);
  }

  private memorySlot(hash: number): number {
    return hash & (this.evictedA.length - 1);
  }

  private rootAbove(block: number): Root {
    const root = this.rootOfEntry.get(this.roots[block] as number);
    assert(root !== undefined, `block ${block} is cached below a salt`);
    return root;
  }

  private root(salt: string): Root {
    const known = this.salts.get(salt);
    if (known) return known;
    const entry = ++this.lastEntry;
    const root = { salt, saltHash: hashSalt(salt), entry, numBlocks: 0 };
    this.salts.set(salt, root);
    this.rootOfEntry.set(entry, root);
    return root;
  }
}

interface Root {
  readonly salt: string;
  readonly saltHash: number;
  readonly entry: number;
  /** Cached blocks below. */
  numBlocks: number;
}

/** A multiply and rotate a token (as in MurmurHash3), with its finalizer. */
export const hashBlock: BlockHash = (seed, tokens, start, blockSize) => {
  let hash = seed;
  for (let i = start; i < start + blockSize; i++)
    hash = mix(hash, tokens[i] as number);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
};

function mix(hash: number, value: number): number {
  let k = Math.imul(value, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  const mixed = hash ^ k;
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) | 0;
}

function hashSalt(salt: string): number {
  let hash = salt.length;
  for (let i = 0; i < salt.length; i++) hash = mix(hash, salt.charCodeAt(i));
  return hash;
}

function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, least)));
}
