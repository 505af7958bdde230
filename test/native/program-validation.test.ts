import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Epilogue, floatBits, Opcode } from "../../src/program/program.js";
import type {
  LinearPlan,
  Program,
  TensorSource,
} from "../../src/program/program.js";
import { loadAddon } from "../../src/runner/addon.js";
import type { RunnerSpec } from "../../src/runner/addon.js";
import {
  errorOf,
  removeTemporaryFolders,
  runOnce,
  specOf,
  tinyLlama,
} from "./support.js";
import type { TinyLlama } from "./support.js";

let model: TinyLlama;
beforeAll(() => {
  model = tinyLlama();
});
afterAll(removeTemporaryFolders);

const fresh = (): RunnerSpec => structuredClone(specOf(model));
const make = (spec: unknown) => new (loadAddon().Runner)(spec as RunnerSpec);

/** The llama's tape with another body or head. */
function withCode(
  edit: (code: number[], program: Program) => number[],
): RunnerSpec {
  const spec = fresh();
  spec.program.code = Int32Array.from(
    edit(Array.from(spec.program.code), spec.program),
  );
  return spec;
}

describe("instructions that do not fit their buffers", () => {
  const EMBED = [Opcode.embed, 3, 0, 0, floatBits(1)];
  const insert = (...op: number[]) =>
    withCode((code, program) => {
      program.headStart += op.length;
      return [...op, ...code];
    });
  const append = (...op: number[]) => withCode((code) => [...code, ...op]);
  // Buffers: 0 x, 1 normed, 2 qkv, 3 attention, 4 act; 5 last, 6 lastNormed, 7 logits.
  const CASES: [string, () => RunnerSpec, RegExp][] = [
    [
      "embed into samples",
      () => insert(Opcode.embed, 3, 5, 0, floatBits(1)),
      /\(embed\)\.out: expected a token buffer, got last$/,
    ],
    [
      "embed in the head",
      () => append(...EMBED),
      /\(embed\): expected an instruction of the body/,
    ],
    [
      "embed of a missing table",
      () => insert(Opcode.embed, 3, 0, 99, floatBits(1)),
      /table: expected an integer in/,
    ],
    [
      "NaN scale",
      () => insert(Opcode.embed, 3, 0, 0, floatBits(NaN)),
      /\(embed\)\.scale: expected a finite number/,
    ],
    [
      "norm of another width",
      () => insert(Opcode.rmsNorm, 5, 1, 2, 1, 0, -1),
      /\(rmsNorm\)\.in: expected a buffer of width 16, got qkv of width 32$/,
    ],
    [
      "norm over its residual",
      () => insert(Opcode.rmsNorm, 5, 1, 0, 1, 0, 1),
      /\(rmsNorm\)\.residual: expected buffers that do not overlap/,
    ],
    [
      "negative eps",
      () => insert(Opcode.rmsNorm, 5, 1, 0, 1, floatBits(-1), -1),
      /\(rmsNorm\)\.eps: expected a finite number >= 0, got -1$/,
    ],
    [
      "linear in place",
      () => insert(Opcode.linear, 5, 0, 0, 0, 1, Epilogue.none),
      /\(linear\)\.out: expected buffers that do not overlap/,
    ],
    [
      "linear beyond its buffer",
      () => insert(Opcode.linear, 5, 2, 17, 3, 1, Epilogue.none),
      /\(linear\)\.outColumn: expected an integer in \[0, 16\], got 17$/,
    ],
    [
      "linear of another K",
      () => insert(Opcode.linear, 5, 2, 0, 4, 1, Epilogue.none),
      /\(linear\)\.in: expected a buffer of width 16/,
    ],
    [
      "unknown epilogue",
      () => insert(Opcode.linear, 5, 2, 0, 3, 1, 3),
      /\(linear\)\.epilogue: /,
    ],
    [
      "attention in the head",
      () => append(Opcode.attention, 9, 3, 2, 0, 2, 1, 8, 0, 0, 0),
      /\(attention\): expected an instruction of the body/,
    ],
    [
      "heads that do not divide",
      () => insert(Opcode.attention, 9, 3, 2, 0, 0, 1, 8, 0, 0, 0),
      /numHeads: /,
    ],
    [
      "wrong head count",
      () => insert(Opcode.attention, 9, 3, 2, 0, 3, 1, 8, 0, 0, 0),
      /qkv: expected a buffer of width 40/,
    ],
    [
      "negative window",
      () => insert(Opcode.attention, 9, 3, 2, 0, 2, 1, 8, 0, -1, 0),
      /slidingWindow: /,
    ],
    [
      "qNorm of another width",
      () => insert(Opcode.ropeStoreKv, 9, 2, 0, 0, 2, 1, 8, 1, -1, 0),
      /qNorm: expected a vector of 8/,
    ],
    [
      "siluMul of another width",
      () => insert(Opcode.siluMul, 2, 1, 0),
      /\(siluMul\)\.in: expected a buffer of width 32/,
    ],
    [
      "add of another width",
      () => insert(Opcode.add, 3, 1, 0, 2),
      /\(add\)\.b: expected a buffer of width 16/,
    ],
    [
      "gather in the body",
      () => insert(Opcode.gatherRows, 2, 5, 0),
      /\(gatherRows\): expected an instruction of the head/,
    ],
    [
      "gather of another width",
      () => append(Opcode.gatherRows, 2, 5, 2),
      /\(gatherRows\)\.in: expected a buffer of width 16/,
    ],
    [
      "softcap of 0",
      () => append(Opcode.softcap, 2, 7, 0),
      /\(softcap\)\.cap: expected a number > 0, got 0$/,
    ],
    [
      "a head that does not gather first",
      () =>
        withCode((code, program) => [
          ...code.slice(0, program.headStart),
          Opcode.softcap,
          2,
          7,
          floatBits(1),
          ...code.slice(program.headStart),
        ]),
      /expected gatherRows as the first instruction of the head, got softcap$/,
    ],
    [
      "a head that writes no logits",
      () => withCode((code, program) => code.slice(0, program.headStart + 4)),
      /^program\.logits: expected a buffer that the head writes, got 7$/,
    ],
  ];
  it.each(CASES)("%s", (_, spec, message) => {
    const error = errorOf(() => make(spec()));
    expect(error.message).toMatch(message);
    expect(error.code).toBe("ERR_OCTAVO_ARGUMENT");
  });
});

describe("INT4 layouts", () => {
  const tensor = (
    name: string,
    dtype: TensorSource["dtype"],
    shape: number[],
  ): TensorSource => ({ name, file: -1, offset: 0, dtype, shape });
  const K = 16;
  const N = 32;
  const GOOD: Record<
    string,
    Pick<LinearPlan, "scheme"> & {
      weight: number[];
      scales: number[];
      zeros: number[] | null;
    }
  > = {
    awq: {
      scheme: "awq-int4",
      weight: [K, N / 8],
      scales: [2, N],
      zeros: [2, N / 8],
    },
    gptq: {
      scheme: "gptq-int4",
      weight: [K / 8, N],
      scales: [2, N],
      zeros: [2, N / 8],
    },
    "gptq, symmetric": {
      scheme: "gptq-int4",
      weight: [K / 8, N],
      scales: [2, N],
      zeros: null,
    },
    compressed: {
      scheme: "compressed-int4",
      weight: [N, K / 8],
      scales: [N, 2],
      zeros: [N / 8, 2],
    },
    "compressed, symmetric": {
      scheme: "compressed-int4",
      weight: [N, K / 8],
      scales: [N, 2],
      zeros: null,
    },
  };
  const quantized = (
    name: string,
    edit: (plan: LinearPlan) => void = () => undefined,
  ): RunnerSpec => {
    const spec = fresh();
    const good = GOOD[name];
    if (!good) throw new Error(name);
    const plan: LinearPlan = {
      name: "q",
      scheme: good.scheme,
      k: K,
      n: N,
      groupSize: 8,
      zeroOffset: 0,
      siluMulPairs: false,
      parts: [
        {
          n: N,
          weight: tensor("qweight", "i32", good.weight),
          scales: tensor("scales", "f16", good.scales),
          zeros: good.zeros && tensor("qzeros", "i32", good.zeros),
          bias: null,
        },
      ],
    };
    edit(plan);
    spec.program.linears[0] = plan;
    return spec;
  };
  it.each(Object.keys(GOOD))("%s loads and runs", (name) => {
    runOnce(make(quantized(name)), quantized(name));
    expect(
      loadAddon().weightBytes("reference", quantized(name).program),
    ).toBeGreaterThan(0);
  });
  const first = (plan: LinearPlan) => {
    const [part] = plan.parts;
    if (!part) throw new Error("no part");
    return part;
  };
  const WRONG: [string, string, (plan: LinearPlan) => void, RegExp][] = [
    [
      "awq",
      "no zeros",
      (p) => (first(p).zeros = null),
      /zeros: expected a tensor, got null$/,
    ],
    [
      "awq",
      "no scales",
      (p) => (first(p).scales = null),
      /scales: expected a tensor, got null$/,
    ],
    [
      "awq",
      "float weights",
      (p) => (first(p).weight.dtype = "f16"),
      /weight \(qweight\)\.dtype: expected i32/,
    ],
    [
      "awq",
      "transposed weights",
      (p) => first(p).weight.shape.reverse(),
      /weight \(qweight\): expected shape \[16, 4\], got \[4, 16\]$/,
    ],
    [
      "awq",
      "integer scales",
      (p) =>
        p.parts.forEach((part) => part.scales && (part.scales.dtype = "i32")),
      /scales \(scales\)\.dtype/,
    ],
    ["awq", "zeroOffset", (p) => (p.zeroOffset = 1), /zeroOffset: /],
    ["gptq", "zeroOffset", (p) => (p.zeroOffset = 2), /zeroOffset: /],
    [
      "gptq",
      "group of 7",
      (p) => (p.groupSize = 7),
      /groupSize: expected a divisor of k, got 7$/,
    ],
    ["gptq", "group of 0", (p) => (p.groupSize = 0), /groupSize: /],
    [
      "gptq",
      "groups of another count",
      (p) => (p.groupSize = 16),
      /zeros \(qzeros\): expected shape \[1, 4\], got \[2, 4\]$/,
    ],
    [
      "compressed",
      "scales transposed",
      (p) => first(p).scales?.shape.reverse(),
      /scales \(scales\): expected shape \[32, 2\], got \[2, 32\]$/,
    ],
  ];
  it.each(WRONG)("%s with %s is refused", (name, _, edit, message) => {
    const error = errorOf(() => make(quantized(name, edit)));
    expect(error.code).toBe("ERR_OCTAVO_ARGUMENT");
    expect(error.message).toMatch(message);
  });
});
