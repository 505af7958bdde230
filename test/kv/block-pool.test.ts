import { describe, expect, it } from "vitest";
import { BlockPool } from "../../src/kv/block-pool.js";

describe("BlockPool", () => {
  it("hands out free blocks, least recently used first, until none is left", () => {
    const pool = new BlockPool(3);
    expect([pool.take(), pool.take(), pool.take(), pool.take()]).toEqual([
      0, 1, 2, -1,
    ]);
    for (const block of [1, 0, 2]) pool.release(block, false);
    expect(pool.numFree).toBe(3);
    expect([pool.take(), pool.take(), pool.take()]).toEqual([1, 0, 2]);
  });

  it("reuses forgotten blocks before all others", () => {
    const pool = new BlockPool(3);
    const [a, b] = [pool.take(), pool.take()];
    pool.release(a, false);
    pool.release(b, true);
    expect([pool.take(), pool.take(), pool.take()]).toEqual([b, 2, a]);
  });

  it("keeps a block in use until its last reference goes", () => {
    const pool = new BlockPool(1);
    const block = pool.take();
    pool.touch(block);
    pool.release(block, false);
    expect(pool.numFree).toBe(0);
    pool.release(block, false);
    expect(pool.numFree).toBe(1);
    pool.checkIntegrity();
  });

  it("brings a free block back from the middle of the list", () => {
    const pool = new BlockPool(3);
    pool.touch(1);
    expect(pool.refCount(1)).toBe(1);
    expect([pool.take(), pool.take(), pool.take()]).toEqual([0, 2, -1]);
    pool.checkIntegrity();
  });

  it("refuses a release too many", () => {
    const pool = new BlockPool(1);
    expect(() => pool.release(0, false)).toThrow(/once per reference/);
  });
});
