import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  Epilogue,
  floatBits,
  Opcode,
  PROGRAM_VERSION,
} from "../../src/program/program.js";
import type {
  BufferPlan,
  LinearPlan,
  Program,
  TensorSource,
} from "../../src/program/program.js";

/** Deterministic uniform numbers in [-1, 1). */
export function randomValues(length: number, seed: number): Float32Array {
  const values = new Float32Array(length);
  let state = (seed * 2654435761 + 12345) >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2 ** 31 - 1;
  }
  return values;
}

/** Tensors of a made-up model, gathered into one file of f32. */
export class WeightFile {
  readonly values = new Map<string, Float32Array>();
  private bytes = 0;

  add(name: string, shape: number[], values: Float32Array): TensorSource {
    const source: TensorSource = {
      name,
      file: 0,
      offset: this.bytes,
      dtype: "f32",
      shape,
    };
    this.values.set(name, values);
    this.bytes += values.byteLength;
    return source;
  }

  write(file: string): void {
    writeFileSync(
      file,
      Buffer.concat(
        [...this.values.values()].map((v) =>
          Buffer.from(v.buffer, v.byteOffset, v.byteLength),
        ),
      ),
    );
  }
}

/** Builds programs by hand, one op a call; lower.ts is not needed to test the native side. */
export class ProgramBuilder {
  readonly weights = new WeightFile();
  readonly program: Program;
  private readonly code: number[] = [];
  private seed = 1;

  constructor(vocabSize: number) {
    this.program = {
      version: PROGRAM_VERSION,
      architecture: "test",
      vocabSize,
      code: new Int32Array(0),
      headStart: 0,
      buffers: [],
      tokenColumns: 0,
      sampleColumns: 0,
      logits: -1,
      dense: [],
      linears: [],
      ropes: [],
      kvLayers: [],
    };
  }

  buffer(name: string, rows: BufferPlan["rows"], width: number): number {
    const total = rows === "tokens" ? "tokenColumns" : "sampleColumns";
    this.program.buffers.push({
      name,
      rows,
      width,
      column: this.program[total],
    });
    this.program[total] += Math.ceil(width / 16) * 16;
    return this.program.buffers.length - 1;
  }

  tensor(name: string, shape: number[], scale = 0.5, mean = 0): TensorSource {
    const values = randomValues(
      shape.reduce((a, b) => a * b, 1),
      this.seed++,
    ).map((v) => v * scale + mean);
    return this.weights.add(name, shape, values);
  }

  dense(
    name: string,
    shape: number[],
    scale = 0.5,
    mean = 0,
    keep = false,
  ): number {
    this.program.dense.push({
      name,
      source: this.tensor(name, shape, scale, mean),
      keep,
    });
    return this.program.dense.length - 1;
  }

  linear(
    name: string,
    k: number,
    parts: number[],
    options: { bias?: boolean; pairs?: boolean } = {},
  ): number {
    const plan: LinearPlan = {
      name,
      scheme: "dense",
      k,
      n: parts.reduce((a, b) => a + b, 0),
      groupSize: 0,
      zeroOffset: 0,
      siluMulPairs: options.pairs ?? false,
      parts: parts.map((n, i) => ({
        n,
        weight: this.tensor(`${name}.${i}`, [n, k]),
        scales: null,
        zeros: null,
        bias: options.bias ? this.tensor(`${name}.${i}.bias`, [n]) : null,
      })),
    };
    this.program.linears.push(plan);
    return this.program.linears.length - 1;
  }

  op(name: keyof typeof Opcode, ...args: number[]): void {
    this.code.push(Opcode[name], args.length, ...args);
  }

  startHead(): void {
    this.program.headStart = this.code.length;
  }

  finish(logits: number): Program {
    this.program.logits = logits;
    this.program.code = Int32Array.from(this.code);
    return this.program;
  }
}

export interface TinyLlama {
  program: Program;
  values: Map<string, Float32Array>;
  file: string;
  shape: {
    vocab: number;
    hidden: number;
    heads: number;
    kvHeads: number;
    headDim: number;
    inter: number;
    layers: number;
  };
}

export const EPS = 1e-5;
export const ROPE_BASE = 10000;
const folders: string[] = [];

export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "octavo-native-"));
  folders.push(folder);
  return folder;
}

/** Call in afterAll. */
export function removeTemporaryFolders(): void {
  for (const folder of folders.splice(0))
    rmSync(folder, { recursive: true, force: true });
}

/** A llama of random f32 weights: its program, and the file that holds them. */
export function tinyLlama(): TinyLlama {
  const shape = {
    vocab: 40,
    hidden: 16,
    heads: 2,
    kvHeads: 1,
    headDim: 8,
    inter: 24,
    layers: 2,
  };
  const { vocab, hidden, heads, kvHeads, headDim, inter } = shape;
  const build = new ProgramBuilder(vocab);
  const x = build.buffer("x", "tokens", hidden);
  const normed = build.buffer("normed", "tokens", hidden);
  const qkv = build.buffer("qkv", "tokens", (heads + 2 * kvHeads) * headDim);
  const attention = build.buffer("attention", "tokens", heads * headDim);
  const act = build.buffer("act", "tokens", inter);
  build.program.ropes.push({
    inverseFrequencies: Float64Array.from(
      { length: headDim / 2 },
      (_, i) => ROPE_BASE ** ((-2 * i) / headDim),
    ),
    scale: 1,
    interleaved: false,
  });
  build.op(
    "embed",
    x,
    build.dense("embed", [vocab, hidden], 1, 0, true),
    floatBits(1),
  );
  for (let l = 0; l < shape.layers; l++) {
    build.program.kvLayers.push({ numKvHeads: kvHeads, headDim });
    build.op(
      "rmsNorm",
      normed,
      x,
      build.dense(`norm1.${l}`, [hidden], 0.2, 1),
      floatBits(EPS),
      -1,
    );
    const qkvLinear = build.linear(
      `qkv.${l}`,
      hidden,
      [heads * headDim, kvHeads * headDim, kvHeads * headDim],
      { bias: true },
    );
    build.op("linear", qkv, 0, normed, qkvLinear, Epilogue.none);
    build.op(
      "ropeStoreKv",
      qkv,
      l,
      0,
      heads,
      kvHeads,
      headDim,
      -1,
      -1,
      floatBits(EPS),
    );
    build.op(
      "attention",
      attention,
      qkv,
      l,
      heads,
      kvHeads,
      headDim,
      floatBits(headDim ** -0.5),
      0,
      floatBits(0),
    );
    build.op(
      "linear",
      x,
      0,
      attention,
      build.linear(`o.${l}`, heads * headDim, [hidden]),
      Epilogue.add,
    );
    build.op(
      "rmsNorm",
      normed,
      x,
      build.dense(`norm2.${l}`, [hidden], 0.2, 1),
      floatBits(EPS),
      -1,
    );
    build.op(
      "linear",
      act,
      0,
      normed,
      build.linear(`gateUp.${l}`, hidden, [inter, inter], { pairs: true }),
      Epilogue.siluMul,
    );
    build.op(
      "linear",
      x,
      0,
      act,
      build.linear(`down.${l}`, inter, [hidden]),
      Epilogue.add,
    );
  }
  build.startHead();
  const last = build.buffer("last", "samples", hidden);
  const lastNormed = build.buffer("lastNormed", "samples", hidden);
  const logits = build.buffer("logits", "samples", vocab);
  build.op("gatherRows", last, x);
  build.op(
    "rmsNorm",
    lastNormed,
    last,
    build.dense("norm", [hidden], 0.2, 1),
    floatBits(EPS),
    -1,
  );
  build.op(
    "linear",
    logits,
    0,
    lastNormed,
    build.linear("lmHead", hidden, [vocab]),
    Epilogue.none,
  );
  const program = build.finish(logits);
  const file = path.join(temporaryFolder(), "weights.bin");
  build.weights.write(file);
  return { program, values: build.weights.values, file, shape };
}
