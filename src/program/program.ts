/**
 * The lowered model: a flat tape of instructions over planned buffers and weights, made once at load by `lower.ts` and
 * played back each step by `native/program.cc`. The numbers here and in `native/program.h` are the same.
 */

export const PROGRAM_VERSION = 1;

/**
 * Instruction = [opcode, argc, ...args]. Arguments are int32; a float argument is its IEEE bits (`floatBits`).
 * "buffer" is an index into `Program.buffers`, "dense"/"linear"/"rope" into the lists of the same name; -1 is absent.
 */
export const Opcode = {
  /** out: buffer, table: dense, scale: float */
  embed: 1,
  /** out: buffer, in: buffer, weight: dense, eps: float, residual: buffer | -1 (residual += in; out = norm(residual)) */
  rmsNorm: 2,
  /** out: buffer, outColumn: int, in: buffer, linear, epilogue (Epilogue) */
  linear: 3,
  /** qkv: buffer, kvLayer, rope | -1, numHeads, numKvHeads, headDim, qNorm: dense | -1, kNorm: dense | -1, eps: float */
  ropeStoreKv: 4,
  /** out: buffer, qkv: buffer (q first), kvLayer, numHeads, numKvHeads, headDim, scale: float, slidingWindow, softcap: float */
  attention: 5,
  /** out: buffer [w], in: buffer [2w] (gate, up) */
  siluMul: 6,
  /** out: buffer, a: buffer, b: buffer */
  add: 7,
  /** out: buffer (samples), in: buffer (tokens): the rows whose logits are needed */
  gatherRows: 8,
  /** x: buffer, cap: float; in place */
  softcap: 9,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

export const Epilogue = { none: 0, siluMul: 1, add: 2 } as const;

export type DTypeName = "f32" | "f16" | "bf16" | "i32";

/** Bytes of a tensor in one of the model's files (`offset` from the start of the file). `file: -1`: made-up weights. */
export interface TensorSource {
  name: string;
  file: number;
  offset: number;
  dtype: DTypeName;
  shape: number[];
  /** For file -1 and float types: uniform in mean +- spread. (i32: random bits.) */
  dummy?: { mean: number; spread: number };
}

/** A buffer of `width` activations per row. Token buffers have a row per token, sample buffers one per logits row. */
export interface BufferPlan {
  name: string;
  rows: "tokens" | "samples";
  width: number;
  /** Start, in columns, within its row class: byte offset = column * maxRows * sizeof(activation). Multiple of 16. */
  column: number;
}

export interface DensePlan {
  name: string;
  source: TensorSource;
  /** Read in place from the mapped file (the embedding) rather than copied. */
  keep: boolean;
}

export type LinearScheme =
  "dense" | "awq-int4" | "gptq-int4" | "compressed-int4";

export interface LinearPartPlan {
  n: number;
  weight: TensorSource;
  scales: TensorSource | null;
  zeros: TensorSource | null;
  bias: TensorSource | null;
}

/** One linear layer; its parts are concatenated along the outputs (layouts: kernels/ops.h, LinearPart). */
export interface LinearPlan {
  name: string;
  scheme: LinearScheme;
  k: number;
  n: number;
  groupSize: number;
  zeroOffset: number;
  siluMulPairs: boolean;
  parts: LinearPartPlan[];
}

/** cos/sin table of one rope variant: angle(position, i) = position * inverseFrequencies[i]; both scaled by `scale`. */
export interface RopePlan {
  inverseFrequencies: Float64Array;
  scale: number;
  interleaved: boolean;
}

export interface KvLayerPlan {
  numKvHeads: number;
  headDim: number;
}

export interface Program {
  version: typeof PROGRAM_VERSION;
  architecture: string;
  vocabSize: number;
  code: Int32Array;
  /** Index into `code` where the head begins: played once per slice of sample rows (gather, final norm, lm_head). */
  headStart: number;
  buffers: BufferPlan[];
  /** Total columns of the two row classes. */
  tokenColumns: number;
  sampleColumns: number;
  /** Buffer [samples, vocabSize] that holds the logits after the head. */
  logits: number;
  dense: DensePlan[];
  linears: LinearPlan[];
  ropes: RopePlan[];
  kvLayers: KvLayerPlan[];
}

const scratch = new DataView(new ArrayBuffer(4));

/** IEEE-754 single precision bits of `value` as int32. */
export function floatBits(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getInt32(0);
}
