import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  MAX_BIAS_PER_ROW,
  MAX_LOGPROBS,
} from "../../src/core/sampling-params.js";
import { Epilogue, floatBits } from "../../src/program/program.js";
import { loadAddon } from "../../src/runner/addon.js";
import { ARENA_ARRAYS } from "../../src/runner/step-arena.js";
import {
  logitsOf,
  open,
  ProgramBuilder,
  removeTemporaryFolders,
  SIZES,
  specOf,
  step,
  temporaryFolder,
} from "../native/support.js";

afterAll(removeTemporaryFolders);

const WIDTH = 8;
const VOCAB = 2 * WIDTH;

/**
 * Plays `body` between an embedding of width 8 (buffer 0) and a head whose logits are the 16 values of the buffer that
 * `body` returns (an identity as lm_head); gives them for token 3 beside its embedding.
 */
function play(
  device: string,
  body: (build: ProgramBuilder, x: number) => number,
  head?: (build: ProgramBuilder, logits: number) => void,
) {
  const build = new ProgramBuilder(VOCAB);
  const x = build.buffer("x", "tokens", WIDTH);
  build.op("embed", x, build.dense("embed", [VOCAB, WIDTH]), floatBits(2));
  const result = body(build, x);
  build.startHead();
  const gathered = build.buffer("gathered", "samples", VOCAB);
  const logits = build.buffer("logits", "samples", VOCAB);
  build.op("gatherRows", gathered, result);
  const identity = build.linear("identity", VOCAB, [VOCAB]);
  (build.weights.values.get("identity.0") ?? new Float32Array(0)).forEach(
    (_, i, all) => {
      all[i] = i % (VOCAB + 1) === 0 ? 1 : 0;
    },
  );
  build.op("linear", logits, 0, gathered, identity, Epilogue.none);
  head?.(build, logits);
  const program = build.finish(logits);
  const file = path.join(temporaryFolder(), "weights.bin");
  build.weights.write(file);
  const opened = open(specOf({ program, file }, { device }));
  // The row of interest is not the first one, and rows of other tokens surround it.
  const arena = step(opened, 0, [
    { slot: 0, start: 0, ids: [1, 3], blocks: [0], samples: 1 },
  ]);
  const values = Array.from(logitsOf(opened, arena, 0));
  opened.runner.close();
  const tensor = (name: string) =>
    Array.from(build.weights.values.get(name) ?? []);
  const input = tensor("embed")
    .slice(3 * WIDTH, 4 * WIDTH)
    .map((v) => 2 * v);
  return { values, input, tensor };
}

function expectClose(values: number[], expected: number[]): void {
  expect(values.length).toBe(expected.length);
  values.forEach((value, i) =>
    expect(value).toBeCloseTo(expected[i] ?? NaN, 4),
  );
}

const silu = (v: number) => v / (1 + Math.exp(-v));
const matmul = (weight: number[], row: number[]) =>
  Array.from({ length: weight.length / row.length }, (_, n) =>
    row.reduce((sum, v, k) => sum + v * (weight[n * row.length + k] ?? 0), 0),
  );
const normed = (row: number[], weight: number[], eps: number) => {
  const mean = row.reduce((sum, v) => sum + v * v, 0) / row.length;
  return row.map((v, i) => (v / Math.sqrt(mean + eps)) * (weight[i] ?? 0));
};

describe.each(["reference", "cpu"])("ops of the tape on %s", (device) => {
  it("linear writes at outColumn; none and add epilogues", () => {
    const { values, input, tensor } = play(device, (build, x) => {
      const out = build.buffer("out", "tokens", VOCAB);
      const left = build.linear("left", WIDTH, [WIDTH]);
      build.op("linear", out, 0, x, left, Epilogue.none);
      build.op(
        "linear",
        out,
        WIDTH,
        x,
        build.linear("right", WIDTH, [3, 5]),
        Epilogue.none,
      );
      build.op("linear", out, 0, x, left, Epilogue.add);
      return out;
    });
    const left = matmul(tensor("left.0"), input).map((v) => 2 * v);
    expectClose(values, [
      ...left,
      ...matmul(tensor("right.0"), input),
      ...matmul(tensor("right.1"), input),
    ]);
  });

  it("siluMul as an op equals the epilogue", () => {
    const { values, input, tensor } = play(device, (build, x) => {
      const gateUp = build.buffer("gateUp", "tokens", 2 * VOCAB);
      const out = build.buffer("out", "tokens", VOCAB);
      build.op(
        "linear",
        gateUp,
        0,
        x,
        build.linear("gateUp", WIDTH, [VOCAB, VOCAB]),
        Epilogue.none,
      );
      build.op("siluMul", out, gateUp);
      return out;
    });
    const up = matmul(tensor("gateUp.1"), input);
    expectClose(
      values,
      matmul(tensor("gateUp.0"), input).map((v, i) => silu(v) * (up[i] ?? 0)),
    );
  });

  it("rmsNorm adds into the residual first; add; softcap in body and head", () => {
    const { values, input, tensor } = play(
      device,
      (build, x) => {
        const wide = build.buffer("wide", "tokens", VOCAB);
        const residual = build.buffer("residual", "tokens", VOCAB);
        const out = build.buffer("out", "tokens", VOCAB);
        build.op(
          "linear",
          wide,
          0,
          x,
          build.linear("wide", WIDTH, [VOCAB]),
          Epilogue.none,
        );
        build.op(
          "linear",
          residual,
          0,
          x,
          build.linear("residual", WIDTH, [VOCAB]),
          Epilogue.none,
        );
        build.op(
          "rmsNorm",
          out,
          wide,
          build.dense("weight", [VOCAB]),
          floatBits(0.01),
          residual,
        );
        build.op("add", out, out, residual);
        build.op("softcap", out, floatBits(1.5));
        return out;
      },
      (build, logits) => build.op("softcap", logits, floatBits(0.5)),
    );
    const wide = matmul(tensor("wide.0"), input);
    const residual = matmul(tensor("residual.0"), input).map(
      (v, i) => v + (wide[i] ?? 0),
    );
    const sum = normed(residual, tensor("weight"), 0.01).map(
      (v, i) => v + (residual[i] ?? 0),
    );
    expectClose(
      values,
      sum.map((v) => 0.5 * Math.tanh((1.5 * Math.tanh(v / 1.5)) / 0.5)),
    );
  });
});

it("the arena has the arrays, types and lengths that TypeScript expects, in the same order", () => {
  const build = new ProgramBuilder(VOCAB);
  const x = build.buffer("x", "tokens", VOCAB);
  build.op("embed", x, build.dense("embed", [VOCAB, VOCAB]), floatBits(1));
  build.startHead();
  const logits = build.buffer("logits", "samples", VOCAB);
  build.op("gatherRows", logits, x);
  const { layout } = new (loadAddon().Runner)(
    specOf({ program: build.finish(logits), file: "unopened" }),
  );
  expect(
    Object.entries(layout).map(([name, { type }]) => [name, type]),
  ).toEqual([...Object.entries(ARENA_ARRAYS), ["logits", "f32"]]);
  const { maxNumTokens, maxNumSeqs, maxNumSamples, maxBlocksPerSeq } = SIZES;
  const lengths: Record<string, number> = {
    inputIds: maxNumTokens,
    slotMapping: maxNumTokens,
    queryStart: maxNumSeqs + 1,
    blockTables: maxNumSeqs * maxBlocksPerSeq,
    sampleRows: maxNumSamples,
    biasStart: maxNumSamples + 1,
    biasId: maxNumSamples * MAX_BIAS_PER_ROW,
    masks: maxNumSamples * Math.ceil(VOCAB / 32),
    topIds: maxNumSamples * MAX_LOGPROBS,
    timings: 6,
    logits: maxNumSamples * VOCAB,
  };
  let end = 0;
  for (const [name, { offset, length, type }] of Object.entries(layout)) {
    expect(length, name).toBe(lengths[name] ?? length);
    expect(offset % 64, name).toBe(0);
    expect(offset, name).toBeGreaterThanOrEqual(end);
    end = offset + length * (type === "f64" ? 8 : 4);
  }
});
