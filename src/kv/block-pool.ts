import { assert } from "../core/errors.js";

/**
 * Reference counts of the KV blocks [0, numBlocks) and the order in which free ones are reused. A block with no
 * references is in the free list, a ring through `next` and `prev` with a sentinel at index numBlocks:
 *
 *   sentinel -> reused next ... -> reused last -> sentinel        (least to most recently used)
 *
 * A free block keeps its content until it is taken, so what is cached in it can be touched back to life.
 * Every method is O(1) and makes no garbage.
 */
export class BlockPool {
  /** Int32 [numBlocks] */
  private readonly refCounts: Int32Array;
  /** Int32 [numBlocks + 1]; -1 for blocks in use. */
  private readonly next: Int32Array;
  private readonly prev: Int32Array;
  private freeCount = 0;

  constructor(readonly numBlocks: number) {
    this.refCounts = new Int32Array(numBlocks);
    this.next = new Int32Array(numBlocks + 1).fill(-1);
    this.prev = new Int32Array(numBlocks + 1).fill(-1);
    this.next[numBlocks] = numBlocks;
    this.prev[numBlocks] = numBlocks;
    for (let block = 0; block < numBlocks; block++) this.insertLast(block);
  }

  get numFree(): number {
    return this.freeCount;
  }

  refCount(block: number): number {
    return this.refCounts[block] as number;
  }

  /** Removes the least recently used free block and returns it with one reference; -1 when none is free. */
  take(): number {
    const block = this.next[this.numBlocks] as number;
    if (block === this.numBlocks) return -1;
    this.remove(block);
    this.refCounts[block] = 1;
    return block;
  }

  /** Adds a reference to a block in use or free. */
  touch(block: number): void {
    if (this.refCounts[block] === 0) this.remove(block);
    this.refCounts[block] = this.refCount(block) + 1;
  }

  /**
   * Drops a reference. The last one frees the block: to be reused after all free ones, or, when its content is of no
   * use (`forgotten`), before them.
   */
  release(block: number, forgotten: boolean): void {
    const count = this.refCount(block) - 1;
    assert(count >= 0, `block ${block} is released once per reference`);
    this.refCounts[block] = count;
    if (count > 0) return;
    if (forgotten) this.insertFirst(block);
    else this.insertLast(block);
  }

  /** Walks the whole pool: O(numBlocks). Throws internal_error when counts and free list disagree. */
  checkIntegrity(): void {
    let listed = 0;
    let last = this.numBlocks;
    for (
      let block = this.next[last] as number;
      block !== this.numBlocks;
      block = this.next[block] as number
    ) {
      assert(this.prev[block] === last, `free list links at block ${block}`);
      assert(this.refCount(block) === 0, `block ${block} is free and in use`);
      assert(++listed <= this.numBlocks, "the free list is a ring");
      last = block;
    }
    assert(listed === this.freeCount, "the free list is as long as counted");
    let free = 0;
    for (let block = 0; block < this.numBlocks; block++)
      if (this.refCount(block) === 0) free++;
    assert(free === listed, "every block without references is in the list");
  }

  private insertLast(block: number): void {
    this.insertAfter(this.prev[this.numBlocks] as number, block);
  }

  private insertFirst(block: number): void {
    this.insertAfter(this.numBlocks, block);
  }

  private insertAfter(before: number, block: number): void {
    const after = this.next[before] as number;
    this.next[before] = block;
    this.prev[block] = before;
    this.next[block] = after;
    this.prev[after] = block;
    this.freeCount++;
  }

  private remove(block: number): void {
    const before = this.prev[block] as number;
    const after = this.next[block] as number;
    this.next[before] = after;
    this.prev[after] = before;
    this.next[block] = -1;
    this.prev[block] = -1;
    this.freeCount--;
  }
}
