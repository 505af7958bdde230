import { describe, expect, it } from "vitest";
import { loadAddon, type OpBenchSpec } from "../../src/runner/addon.js";

const addon = loadAddon();

const COMMON = {
  device: "cpu",
  threads: 1,
  rows: Int32Array.of(1, 3),
  seconds: 0,
  workingSet: 0,
};
const LINEAR = {
  ...COMMON,
  op: "linear",
  scheme: "f16",
  k: 64,
  n: 48,
} as const;

function bench(spec: object): ReturnType<typeof addon.benchOp> {
  return addon.benchOp({ ...COMMON, ...spec } as OpBenchSpec);
}

describe("benchOp", () => {
  it("counts the work of a linear and the bytes of its weights once", () => {
    const { rows, copies, threads } = bench(LINEAR);
    expect(rows.map(({ rows: count }) => count)).toEqual([1, 3]);
    expect(rows.map(({ flop }) => flop)).toEqual([
      2 * 64 * 48,
      3 * 2 * 64 * 48,
    ]);
    const [one, three] = rows.map(({ bytes }) => bytes);
    // Two rows more: 2 x (64 in, 48 out) floats.
    expect((three ?? 0) - (one ?? 0)).toBe(2 * (64 + 48) * 4);
    expect(one).toBeGreaterThanOrEqual(64 * 48 * 2);
    expect(copies).toBe(1);
    expect(threads).toBe(1);
    for (const { calls, medianSeconds, bestSeconds } of rows) {
      expect(calls).toBeGreaterThanOrEqual(5);
      expect(medianSeconds).toBeGreaterThanOrEqual(bestSeconds);
      expect(bestSeconds).toBeGreaterThan(0);
    }
  });

  it("walks through as many copies of the weights as fill the working set", () => {
    const { copies } = bench({ ...LINEAR, workingSet: 100_000 });
    // 64 x 48 halves are 6,144 bytes; the backend may pad.
    expect(copies).toBeGreaterThan(8);
    expect(copies).toBeLessThanOrEqual(17);
  });

  it.each([
    { op: "linear", scheme: "int4", k: 128, n: 64, groupSize: 32 },
    { op: "linear", scheme: "bf16", k: 33, n: 20, epilogue: "add" },
    {
      op: "linear",
      scheme: "int4",
      k: 64,
      n: 96,
      groupSize: 64,
      epilogue: "silu_mul",
    },
    { op: "linear", scheme: "f32", k: 40, n: 24, epilogue: "silu_mul" },
    {
      op: "attention",
      numHeads: 4,
      numKvHeads: 2,
      headDim: 16,
      contextLen: 700,
    },
    {
      op: "attention",
      numHeads: 4,
      numKvHeads: 4,
      headDim: 8,
      contextLen: 40,
      queryLen: 20,
      rows: Int32Array.of(20, 40),
      kvCacheDtype: "f16",
    },
    {
      op: "attention",
      numHeads: 6,
      numKvHeads: 2,
      headDim: 24,
      contextLen: 50,
      kvCacheDtype: "int8",
    },
    { op: "embed", vocabSize: 100, width: 37 },
    { op: "rms_norm", width: 65 },
    { op: "silu_mul", width: 33 },
    { op: "add", width: 17 },
    { op: "rope_store_kv", numHeads: 3, numKvHeads: 1, headDim: 10 },
    { op: "gather_rows", width: 19 },
    { op: "softcap", vocabSize: 333 },
    { op: "sample", vocabSize: 1000 },
    { op: "sample", vocabSize: 1000, topKTopP: true },
  ])("agrees with the reference backend on %o", (spec) => {
    const { error, rows } = bench(spec);
    expect(error).toBeLessThan(1e-5);
    expect(rows).toHaveLength(2);
  });

  it("finds no difference of the reference backend from itself", () => {
    expect(bench({ ...LINEAR, device: "reference" }).error).toBe(0);
  });

  it("counts the positions that attention's queries see", () => {
    const { rows } = bench({
      op: "attention",
      numHeads: 2,
      numKvHeads: 1,
      headDim: 4,
      contextLen: 10,
      queryLen: 4,
      rows: Int32Array.of(4),
    });
    // 7 + 8 + 9 + 10 positions, 2 heads of 4, q . k and p . v, a multiplication and an addition each.
    expect(rows[0]?.flop).toBe((7 + 8 + 9 + 10) * 2 * 4 * 2 * 2);
  });

  it.each([
    [{ op: "matmul" }, /spec\.op: expected linear, .*"matmul"/],
    [{ ...LINEAR, rows: new Int32Array(0) }, /spec\.rows: expected 1 to 64/],
    [{ ...LINEAR, rows: Int32Array.of(1, 0) }, /spec\.rows\[1\].*got 0/],
    [{ ...LINEAR, rows: [1] }, /spec\.rows: expected an Int32Array/],
    [{ ...LINEAR, threads: -1 }, /spec\.threads/],
    [{ ...LINEAR, seconds: NaN }, /spec\.seconds/],
    [{ ...LINEAR, workingSet: -1 }, /spec\.workingSet/],
    [{ ...LINEAR, k: 0 }, /spec\.k/],
    [{ ...LINEAR, n: 1 << 21 }, /spec\.n/],
    [{ ...LINEAR, scheme: "int3" }, /spec\.scheme.*int3/],
    [{ ...LINEAR, scheme: "int4", groupSize: 0 }, /spec\.groupSize/],
    [{ ...LINEAR, scheme: "int4", groupSize: 48 }, /a divisor of k, got 48/],
    [
      { ...LINEAR, scheme: "int4", groupSize: 64, n: 44 },
      /spec\.n.*multiple of 8/,
    ],
    [{ ...LINEAR, n: 47, epilogue: "silu_mul" }, /spec\.n.*multiple of 2/],
    [{ ...LINEAR, epilogue: "gelu" }, /spec\.epilogue/],
    [{ ...LINEAR, device: "tpu" }, /device/],
    [
      {
        op: "attention",
        numHeads: 3,
        numKvHeads: 2,
        headDim: 4,
        contextLen: 4,
      },
      /spec\.numKvHeads: expected a divisor/,
    ],
    [
      {
        op: "attention",
        numHeads: 2,
        numKvHeads: 2,
        headDim: 4,
        contextLen: 4,
        queryLen: 2,
      },
      /spec\.rows\[0\]: expected a multiple of queryLen, got 1/,
    ],
    [
      { op: "attention", numHeads: 2, numKvHeads: 2, headDim: 4 },
      /spec\.contextLen/,
    ],
    [
      { op: "rope_store_kv", numHeads: 2, numKvHeads: 2, headDim: 5 },
      /spec\.headDim: expected an even/,
    ],
    [{ op: "sample" }, /spec\.vocabSize/],
    [{ op: "softcap", vocabSize: 1 << 25 }, /spec\.vocabSize/],
    [{ op: "embed", width: 8 }, /spec\.vocabSize/],
    [{ op: "embed", vocabSize: 8 }, /spec\.width/],
    [{ op: "gather_rows" }, /spec\.width/],
    [{ op: "add", width: -4 }, /spec\.width/],
    [{ ...LINEAR, scheme: "f32", k: 1 << 20, n: 1 << 20 }, /available/],
  ])("refuses %o", (spec, message) => {
    expect(() => bench(spec)).toThrow(message);
  });
});

describe("measureCeilings", () => {
  it("measures something of the size of a processor", () => {
    const ceilings = addon.measureCeilings(1, 0);
    expect(ceilings.threads).toBe(1);
    expect(ceilings.readBytesPerSecond).toBeGreaterThan(1e8);
    expect(ceilings.readBytesPerSecond).toBeLessThan(1e13);
    expect(ceilings.flopPerSecond).toBeGreaterThan(1e8);
    expect(ceilings.flopPerSecond).toBeLessThan(1e14);
    expect(ceilings.int8OpPerSecond).toBeGreaterThan(1e8);
    expect(ceilings.int8OpPerSecond).toBeLessThan(1e15);
  });

  it.each([
    [-1, 0],
    [5000, 0],
    [1, -1],
    [1, Infinity],
  ])("refuses threads %d and seconds %d", (threads, seconds) => {
    expect(() => addon.measureCeilings(threads, seconds)).toThrow(/expected/);
  });
});
