import { describe, expect, it } from "vitest";
import {
  kernelFigures,
  OPS,
  runKernelBench,
  type KernelBenchOptions,
} from "../../bench/kernels/kernel-bench.js";
import {
  findShape,
  linearShapes,
  NAMED_SHAPES,
} from "../../bench/kernels/shapes.js";

const STORIES = findShape("stories260k");

function run(options: Partial<KernelBenchOptions>) {
  const lines: string[] = [];
  const result = runKernelBench(
    {
      shape: STORIES,
      device: "cpu",
      threads: 1,
      ops: ["linear"],
      schemes: ["f32"],
      groupSize: 128,
      rows: [1, 2],
      contextLens: [32],
      kvCacheDtype: "f32",
      seconds: 0,
      workingSet: 0,
      ...options,
    },
    (line) => void lines.push(line),
  );
  return { result, lines };
}

describe("shapes", () => {
  it("are the layers of a transformer", () => {
    const linears = linearShapes(findShape("llama-1b"));
    expect(linears.map(({ layer, k, n }) => [layer, k, n])).toEqual([
      ["qkv", 2048, 3072],
      ["o", 2048, 2048],
      ["gate_up", 2048, 16384],
      ["down", 8192, 2048],
      ["lm_head", 2048, 32000],
    ]);
    // 16 layers and a head: the weights of a model of 1.1 billion without its embedding.
    const weights = linears.reduce(
      (sum, { k, n, count }) => sum + k * n * count,
      0,
    );
    expect(weights / 1e9).toBeCloseTo(1.04, 2);
  });

  it("have names that are told when another is asked for", () => {
    expect(() => findShape("gpt-9")).toThrow(
      new RegExp(NAMED_SHAPES.map(({ name }) => name).join(", ")),
    );
  });
});

const CEILINGS = {
  ceilings: {
    readBytesPerSecond: 60,
    flopPerSecond: 100,
    int8OpPerSecond: 400,
    threads: 1,
  },
};

describe("figures", () => {
  it("are shares of the ceilings", () => {
    const row = { rows: 1, calls: 9, bestSeconds: 1, bytes: 30, flop: 40 };
    const [figures] = kernelFigures(
      "linear",
      "x",
      {
        rows: [{ ...row, medianSeconds: 2 }],
        copies: 1,
        threads: 1,
        error: 0,
      },
      CEILINGS,
    );
    expect(figures).toMatchObject({
      bytesPerSecond: 15,
      readShare: 0.25,
      flopPerSecond: 20,
      flopShare: 0.2,
      // 0.5 s of reading against 0.4 s of computing, in 2 s.
      floorShare: 0.25,
    });
  });

  it("of 8-bit inputs are shares of the integer ceiling", () => {
    const [figures] = kernelFigures(
      "linear",
      "x",
      {
        rows: [
          {
            rows: 1,
            calls: 9,
            bestSeconds: 1,
            medianSeconds: 1,
            bytes: 6,
            flop: 200,
          },
        ],
        copies: 1,
        threads: 1,
        error: 0,
      },
      CEILINGS,
      true,
    );
    expect(figures).toMatchObject({ flopShare: 0.5, floorShare: 0.5 });
  });
});

describe("the kernel bench", () => {
  it("prints machine and ceilings first, then each op, and adds up the linears", () => {
    const { result, lines } = run({
      ops: [...OPS],
    });
    expect(lines[0]).toMatch(/^Model: stories260k \(hidden 64, 5 layers, 8\/4/);
    expect(lines[1]).toMatch(/^Device: cpu .* node v\d.*; seed 0$/);
    expect(lines[2]).toMatch(
      /^Ceilings, .* GB\/s, .* GFLOP\/s, int8 .* GOP\/s$/,
    );
    const of = (op: string) => result.kernels.filter((one) => one.op === op);
    expect(of("linear")).toHaveLength(5 * 2);
    expect(of("attention").map(({ variant, rows }) => [variant, rows])).toEqual(
      [
        ["decode f32, context 32", 1],
        ["decode f32, context 32", 2],
        ["prefill f32, last 32 of 32", 32],
      ],
    );
    expect(of("sample")).toHaveLength(2 * 2);
    for (const op of OPS) expect(of(op).length).toBeGreaterThanOrEqual(2);
    for (const { error } of result.kernels) expect(error).toBeLessThan(1e-5);
    const [pass] = result.passes;
    const seconds = linearShapes(STORIES).reduce((sum, { layer, count }) => {
      const linear = of("linear").find(
        ({ variant, rows }) => variant === `${layer} f32` && rows === 1,
      );
      return sum + count * (linear?.medianSeconds ?? NaN);
    }, 0);
    expect(pass?.seconds).toBeCloseTo(seconds, 12);
    expect(pass?.tokensPerSecond).toBeCloseTo(1 / seconds, 6);
  });

  it("says which layers a group size cannot hold", () => {
    const { result } = run({ schemes: ["int4"], groupSize: 64, rows: [1] });
    expect(result.kernels.map(({ variant }) => variant)).toEqual([
      "qkv int4 g64",
      "o int4 g64",
      "lm_head int4 g64",
    ]);
    expect(result.notes).toHaveLength(2);
    expect(result.notes[1]).toMatch(/^down \(172 x 64\) is left out in int4/);
    expect(result.passes).toEqual([]);
  });

  it("times 8-bit inputs against a reference that rounds alike, bit for bit", () => {
    const { result } = run({ schemes: ["int4-a8"], groupSize: 4, rows: [1] });
    const qkv = result.kernels.find(
      ({ variant }) => variant === "qkv int4 g4 a8",
    );
    expect(qkv).toMatchObject({ error: 0, int8: true });
    for (const { error } of result.kernels) expect(error).toBeLessThan(1e-6);
  });
});
