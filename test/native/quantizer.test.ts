/** What the addon makes of weights, against the same sums written out in TypeScript. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { LinearPlan } from "../../src/program/program.js";
import { loadAddon } from "../../src/runner/addon.js";
import type { NativeQuantizer } from "../../src/runner/addon.js";
import {
  randomFloats,
  removeTemporaryFolders,
  temporaryFolder,
  writeFloats,
} from "../quantize/support.js";
import { errorOf } from "./support.js";

afterAll(removeTemporaryFolders);

const open = (files: string[] = []): NativeQuantizer =>
  new (loadAddon().Quantizer)(files, 2);
/** Nibble i of a word is this column of its eight. */
const ORDER = [0, 2, 4, 6, 1, 3, 5, 7];

const half = (value: number): number => {
  const out = new Uint16Array(1);
  open().toHalf(Float32Array.of(value), out);
  return halfValue(out[0] ?? 0);
};

/** IEEE binary16. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The same (low, high) for every group. */
function pairs(count: number, ends: number[]): Float32Array {
  return Float32Array.from({ length: 2 * count }, (_, i) => ends[i % 2] ?? 1);
}

interface Group {
  scale: number;
  zero: number;
  codes: number[];
}

/** Ties to even, as the hardware rounds. */
function round(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

/** The rule of kernels/cpu/group_quantize.h, in f32 where that is in f32. */
function quantizeGroup(
  weights: readonly number[],
  [lowClip = 1, highClip = 1]: number[] = [],
): Group {
  const f = Math.fround;
  const low = f(Math.min(0, ...weights) * f(lowClip));
  const high = f(Math.max(0, ...weights) * f(highClip));
  const scale = Math.max(half(f(f(high - low) / 15)), 2 ** -24);
  const inverse = f(1 / scale);
  const zero = Math.min(15, round(f(0 - low * inverse)));
  const codes = weights.map((w) => {
    const code = round(Math.max(-32, Math.min(32, f(w * inverse)))) + zero;
    return Math.max(0, Math.min(15, code));
  });
  return { scale, zero, codes };
}

function packed(
  w: Float32Array,
  n: number,
  k: number,
  g: number,
  clip: Float32Array | null,
): { qweight: Int32Array; qzeros: Int32Array; scales: Uint16Array } {
  const result = {
    qweight: new Int32Array((k * n) / 8),
    qzeros: new Int32Array(((k / g) * n) / 8),
    scales: new Uint16Array((k / g) * n),
  };
  const { qweight, qzeros, scales } = result;
  open().packAwq(w, k, clip, g, qweight, qzeros, scales);
  return result;
}

function nibble(words: Int32Array, row: number, n: number, column: number) {
  const word = words[row * (n / 8) + Math.floor(column / 8)] ?? 0;
  return (word >>> (4 * ORDER.indexOf(column % 8))) & 15;
}

describe("packAwq", () => {
  it.each([
    [32, null],
    [64, [0.75, 0.5]],
    [128, null],
  ])("rounds and places every number (group %i, clip %j)", (g, ends) => {
    const n = 24;
    const k = 128;
    const w = randomFloats(n * k, g);
    w.fill(0, 0, g); // a group of zeros
    for (let i = 0; i < g; i++) w[k + i] = 5 + (w[k + i] ?? 0); // one far from 0
    const clip = ends && pairs((n * k) / g, ends);
    const { qweight, qzeros, scales } = packed(w, n, k, g, clip);
    for (let row = 0; row < n; row++)
      for (let group = 0; group < k / g; group++) {
        const start = row * k + group * g;
        const expected = quantizeGroup(
          [...w.subarray(start, start + g)],
          ends ?? undefined,
        );
        const scale = halfValue(scales[group * n + row] ?? 0);
        expect(scale).toBe(expected.scale);
        expect(nibble(qzeros, group, n, row)).toBe(expected.zero);
        const codes = expected.codes.map((_, i) =>
          nibble(qweight, group * g + i, n, row),
        );
        expect(codes).toEqual(expected.codes);
      }
  });

  it("is read by the loader bit for bit", () => {
    const n = 16;
    const k = 96;
    const g = 32;
    const w = randomFloats(n * k, 5);
    const { qweight, qzeros, scales } = packed(w, n, k, g, null);
    const file = path.join(temporaryFolder(), "packed.bin");
    writeFileSync(
      file,
      Buffer.concat(
        [qweight, qzeros, scales].map((a) => Buffer.from(a.buffer)),
      ),
    );
    const zerosAt = qweight.byteLength;
    const scalesAt = zerosAt + qzeros.byteLength;
    const ints = { file: 0, dtype: "i32" as const };
    const plan: LinearPlan = {
      name: "linear",
      scheme: "awq-int4",
      ...{ k, n, groupSize: g, zeroOffset: 0, siluMulPairs: false },
      parts: [
        {
          n,
          weight: { ...ints, name: "w", offset: 0, shape: [k, n / 8] },
          zeros: { ...ints, name: "z", offset: zerosAt, shape: [k / g, n / 8] },
          scales: {
            ...{ file: 0, dtype: "f16", name: "s" },
            ...{ offset: scalesAt, shape: [k / g, n] },
          },
          bias: null,
        },
      ],
    };
    // Rows of the identity bring out the weights themselves.
    const identity = new Float32Array(k * k);
    for (let i = 0; i < k; i++) identity[i * k + i] = 1;
    const out = new Float32Array(k * n);
    open([file]).linear(plan, identity, out);
    for (let row = 0; row < n; row++)
      for (let i = 0; i < k; i++) {
        const group = Math.floor(i / g);
        const start = row * k + group * g;
        const { scale, zero, codes } = quantizeGroup([
          ...w.subarray(start, start + g),
        ]);
        expect(out[i * n + row]).toBe(
          Math.fround(((codes[i % g] ?? 0) - zero) * scale),
        );
      }
  });
});

describe("quantizationError", () => {
  const n = 8;
  const k = 64;
  const g = 32;
  const x = randomFloats(20 * k, 1);
  const w = randomFloats(n * k, 2);

  it.each([
    ["plain", null, null],
    ["scaled", randomFloats(k, 3).map((v) => 1.5 + v), null],
    ["clipped", null, pairs((n * k) / g, [0.75, 0.5])],
  ])("is the change of the outputs (%s)", (_, scale, clip) => {
    const native = open();
    let expected = 0;
    for (let row = 0; row < n; row++) {
      const weights = Array.from(w.subarray(row * k, (row + 1) * k));
      const scaled = weights.map((v, i) => Math.fround(v * (scale?.[i] ?? 1)));
      const stored = [0, 1].flatMap((group) => {
        const part = scaled.slice(group * g, (group + 1) * g);
        const made = quantizeGroup(part, clip ? [0.75, 0.5] : undefined);
        return made.codes.map((code) => (code - made.zero) * made.scale);
      });
      for (let r = 0; r < 20; r++) {
        let change = 0;
        for (let i = 0; i < k; i++)
          change +=
            (x[r * k + i] ?? 0) *
            ((stored[i] ?? 0) / (scale?.[i] ?? 1) - (weights[i] ?? 0));
        expected += change ** 2;
      }
    }
    const error = native.quantizationError(x, w, k, scale, clip, g);
    expect(error / expected).toBeCloseTo(1, 4);
  });

  it("is a share of the outputs' own energy", () => {
    let expected = 0;
    for (let r = 0; r < 20; r++)
      for (let row = 0; row < n; row++) {
        let sum = 0;
        for (let i = 0; i < k; i++)
          sum += (x[r * k + i] ?? 0) * (w[row * k + i] ?? 0);
        expected += sum ** 2;
      }
    expect(open().outputEnergy(x, w, k) / expected).toBeCloseTo(1, 5);
  });
});

it("searchClip gives up range that hardly matters, and never loses by it", () => {
  const native = open();
  const [rows, n, k, g] = [64, 16, 64, 32];
  const x = randomFloats(rows * k, 7);
  const w = randomFloats(n * k, 8, 0.1);
  // A large weight on a channel that is nearly always 0.
  for (let row = 0; row < rows; row++) x[row * k + 5] = 1e-4;
  for (let row = 0; row < n; row++) w[row * k + 5] = 1;
  const clip = new Float32Array((2 * n * k) / g);
  native.searchClip(x, w, k, g, clip);
  for (let row = 0; row < n; row++)
    expect(clip[2 * row * (k / g) + 1]).toBeLessThan(0.7);
  const before = native.quantizationError(x, w, k, null, null, g);
  const after = native.quantizationError(x, w, k, null, clip, g);
  expect(after).toBeLessThan(0.5 * before);
});

describe("refuses", () => {
  const file = path.join(temporaryFolder(), "weights.safetensors");
  const sources = writeFloats(file, {
    norm: { shape: [16], values: randomFloats(16, 1) },
    matrix: { shape: [16, 16], values: randomFloats(256, 2) },
  });
  const tensor = (name: string) => sources.get(name) ?? null;
  const native = open([file]);
  const f = (length: number): Float32Array => new Float32Array(length);
  const call = (method: string, ...values: unknown[]) => {
    const methods = native as unknown as Record<
      string,
      (...values: unknown[]) => unknown
    >;
    return errorOf(() => methods[method]?.(...values));
  };
  const heads = {
    ...{ numHeads: 2, numKvHeads: 1, headDim: 8, rope: null },
    ...{ qNorm: null, kNorm: null, normEps: 0, scale: 1 },
    ...{ slidingWindow: 0, softcap: 0 },
  };
  const attend = (spec: object, lengths = Int32Array.of(2)) => [
    ...[spec, lengths, f(32), f(16), f(16), f(32)],
  ];
  const pack = [Int32Array.of(0), Int32Array.of(0), Uint16Array.of(0)];

  it.each<[method: string, values: unknown[], message: RegExp]>([
    ["readFloats", [tensor("matrix"), f(3)], /out: expected 16 rows of 16/],
    ["readFloats", [null, f(3)], /expected a tensor, got null/],
    [
      "readFloats",
      [{ ...tensor("matrix"), file: 1 }, f(256)],
      /file: expected an integer in \[0, 0\]/,
    ],
    [
      "readFloats",
      [{ ...tensor("matrix"), offset: 1e9 }, f(256)],
      /expected bytes/,
    ],
    ["readFloats", [tensor("norm"), new Float64Array(16)], /Float32Array/],
    [
      "readFloats",
      [tensor("norm"), new Float32Array(new SharedArrayBuffer(64))],
      /shared memory/,
    ],
    [
      "embed",
      [tensor("matrix"), 1, Int32Array.of(16), f(16)],
      /ids: expected an integer in \[0, 15\]/,
    ],
    ["embed", [tensor("matrix"), 1, Int32Array.of(1, 2), f(16)], /1 of them/],
    ["rmsNorm", [tensor("norm"), 0, f(17), f(17)], /whole rows of 16/],
    ["rmsNorm", [tensor("norm"), NaN, f(16), f(16)], /eps: expected a finite/],
    ["rmsNorm", [tensor("norm"), 0, f(32), f(16)], /out: expected 2 rows/],
    ["attention", attend({ ...heads, numHeads: 3 }), /q: expected whole rows/],
    ["attention", attend({ ...heads, numKvHeads: 0 }), /numKvHeads/],
    ["attention", attend({ ...heads, headDim: -8 }), /headDim/],
    ["attention", attend(heads, Int32Array.of(1)), /lengths: expected a sum/],
    ["attention", attend(heads, Int32Array.of(3, -1)), /lengths/],
    [
      "attention",
      attend(heads, new Int32Array()),
      /lengths: expected at least/,
    ],
    [
      "attention",
      attend({ ...heads, qNorm: tensor("norm") }),
      /norm: expected \[headDim\]/,
    ],
    ["siluMul", [0, f(4), f(4), f(4)], /whole rows of 0/],
    ["siluMul", [4, f(4), f(8), f(4)], /up: expected 1 rows/],
    ["quantizationError", [f(32), f(32), 32, null, null, 24], /groupSize/],
    ["quantizationError", [f(32), f(32), 32, null, null, 0], /groupSize/],
    ["quantizationError", [f(32), f(32), 32, f(32), null, 32], /above 0/],
    ["quantizationError", [f(32), f(32), 32, null, f(3), 32], /0 or 2 values/],
    ["quantizationError", [f(32), f(32), 0, null, null, 32], /whole rows of 0/],
    ["searchClip", [f(32), f(32), 32, 32, f(1)], /out: expected 2 values/],
    ["packAwq", [f(96), 32, null, 32, ...pack], /that 8 divides/],
    ["packAwq", [f(256), 32, null, 32, ...pack], /qweight: expected 32 words/],
    ["toHalf", [f(2), new Uint16Array(1)], /out: expected 2 values/],
    ["linear", [{}, f(1), f(1)], /expected a string/],
  ])("%s %#", (method, values, message) => {
    const error = call(method, ...values);
    expect(error.code).toMatch(/^ERR_OCTAVO_(ARGUMENT|FILE)$/);
    expect(error.message).toMatch(message);
  });

  it("files that are missing, and too many threads", () => {
    const { Quantizer } = loadAddon();
    expect(errorOf(() => new Quantizer(["/nonexistent"], 1)).code).toBe(
      "ERR_OCTAVO_FILE",
    );
    expect(errorOf(() => new Quantizer([], -1)).message).toMatch(/threads/);
  });

  it("numbers that are not finite, by their place", () => {
    const values = randomFloats(8, 1);
    values[5] = NaN;
    const broken = path.join(temporaryFolder(), "broken.safetensors");
    const source = writeFloats(broken, { t: { shape: [8], values } }).get("t");
    expect(source && open([broken]).readFloats(source, f(8))).toBe(5);
    const out = new Uint16Array(3);
    expect(open().toHalf(Float32Array.of(1, 65520, NaN), out)).toBe(1);
    expect(open().toHalf(Float32Array.of(1, 65519, 0), out)).toBe(-1);
  });
});
