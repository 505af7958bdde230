import { createRequire } from "node:module";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { OctavoError } from "../core/errors.js";
import type {
  LinearPlan,
  Program,
  RopePlan,
  TensorSource,
} from "../program/program.js";

/** What one device offers, before anything is loaded. */
export interface DeviceInfo {
  device: string;
  /** e.g. the processor's name. */
  description: string;
  /** Bytes. */
  totalMemory: number;
  availableMemory: number;
  /** Threads that compute: as many as asked for, or for 0 one per physical core. */
  threads: number;
  /** Threads of this process that can run at once: by its affinity and its container's quota. */
  processors: number;
  /** Instruction set that the kernels use here, e.g. "avx2", "generic", "sm_90". */
  isa: string;
  /** Version of the driver and its interface; empty for the processor. */
  driver: string;
  /** Whether its memory is the host's. */
  hostMemory: boolean;
  /** Whether steps can be captured once and replayed (RunnerSpec.graphRows). */
  graphs: boolean;
  /** Whether its linears have tiles to choose among, and a clock that tells which is faster (LinearTuner). */
  tunes: boolean;
  activationBytes: number;
  /** Type of KV pages where none is asked for. */
  kvCacheDtype: KvCacheDType;
}

export type KvCacheDType = "f32" | "f16" | "int8";

/** What the host's backends round the inputs of INT4 linears to. */
export type CpuActivations = "int8" | "f32";

export interface RunnerSizes {
  /** Token budget of one step (max-num-batched-tokens). */
  maxNumTokens: number;
  maxNumSeqs: number;
  /** Rows that one step samples, at least maxNumSeqs: drafts and prompt_logprobs share what is beyond. */
  maxNumSamples: number;
  maxModelLen: number;
  /** ceil(maxModelLen / blockSize). */
  maxBlocksPerSeq: number;
  numBlocks: number;
  /** Sample rows whose logits are computed at once. */
  logitsRows: number;
}

export interface RunnerSpec {
  device: string;
  /** 0: one per physical core. */
  threads: number;
  program: Program;
  /** Paths that TensorSource.file indexes; mapped read-only. */
  files: string[];
  sizes: RunnerSizes;
  kvCacheDtype: KvCacheDType;
  /** Devices with memory of their own take no notice. */
  cpuActivations: CpuActivations;
  /** Tests and golden comparisons: adds the output array `logits` Float32 [maxNumSamples, vocabSize]. */
  keepLogits: boolean;
  /** Seed of made-up weights (TensorSource.file -1). */
  dummySeed: number;
  /** Rows of the graphs captured for decoding, ascending, at most maxNumSeqs and logitsRows; empty: every step is launched op by op. */
  graphRows: Int32Array;
  /** Tiles that were chosen, by ascending mostRows of each shape; the backend's own choice where there is none. */
  tiles: TileChoice[];
  /** A matmul library may compute calls of many rows: a row's result then depends on how many there are. */
  useMatmulLibrary: boolean;
}

/** How linears of one shape are computed for up to that many rows: a choice of speed, which changes no bit. */
export interface TileChoice {
  /** LinearShape.name */
  shape: string;
  mostRows: number;
  /** LinearTuner.candidates */
  tile: string;
}

/** A distinct shape of a program's linears. */
export interface LinearShape {
  name: string;
  /** Most rows of one call. */
  maxRows: number;
}

/** Measures a program's linears on a device before anything is loaded there. Errors: as NativeRunnerHandle's. */
export interface LinearTunerHandle {
  /** Tiles worth measuring for calls of that many rows. */
  candidates(shape: string, rows: number): string[];
  /** Microseconds of one call among others like it, on made-up weights that no cache holds; waits for the device. */
  time(shape: string, rows: number, tile: string): number;
  /** Gives its memory back. Idempotent. */
  close(): void;
}

/** All tiles that a device has; a change of either makes what was measured before worthless. */
export interface TileSet {
  revision: number;
  names: string[];
}

export type ArrayKind = "i32" | "u32" | "f32" | "f64";

/** Where each array of the arena lies: the same in every slot. `offset` in bytes (64-byte aligned), `length` in elements. */
export type ArenaLayout = Record<
  string,
  { offset: number; length: number; type: ArrayKind }
>;

/** Bytes by purpose, as taken by the runner. */
export interface RunnerMemory {
  weights: number;
  kvCache: number;
  workspace: number;
  graphs: RunnerGraphs;
}

/** Of a runner that takes nothing. */
export const NO_MEMORY: RunnerMemory = {
  weights: 0,
  kvCache: 0,
  workspace: 0,
  graphs: { count: 0, seconds: 0, bytes: 0 },
};

/** What capturing decode graphs took; all 0 where there are none. */
export interface RunnerGraphs {
  /** Two for each number of rows: up to the logits, and with sampling. */
  count: number;
  seconds: number;
  /** By which the device's free memory fell meanwhile. */
  bytes: number;
}

/**
 * The native runner. States: open (after construction) -> ready (load) -> busy (a launch not collected) -> ready;
 * failed after a device error; closed. A method in the wrong state throws an Error whose `code` is ERR_OCTAVO_STATE;
 * bad arguments throw ERR_OCTAVO_ARGUMENT with what was expected and what came; device trouble ERR_OCTAVO_DEVICE;
 * memory ERR_OCTAVO_MEMORY; files ERR_OCTAVO_FILE.
 */
export interface NativeRunnerHandle {
  readonly state: "open" | "ready" | "busy" | "failed" | "closed";
  /** Maps files, repacks weights, takes all memory. `progress(doneBytes, totalBytes)` is called on this thread. */
  load(
    progress?: (doneBytes: number, totalBytes: number) => void,
  ): RunnerMemory;
  readonly layout: ArenaLayout;
  /** Two arenas, so that one is packed while the other computes. */
  arena(slot: 0 | 1): ArrayBuffer;
  /**
   * Tokens [0, tokens.length) of sequence slot `seqSlot`, taken when arena `slot` is next launched, before its rows are
   * computed. Needed when a sequence starts on a prefix that it did not compute itself: penalties read the history,
   * which launches otherwise fill from inputIds.
   */
  setHistory(slot: 0 | 1, seqSlot: number, tokens: Int32Array): void;
  /**
   * Validates, then starts computing arena `slot` and returns. At most two launches may be uncollected; they run in order.
   * With onCollect (default false) it is computed when it is collected, or one behind it, on the thread that collects:
   * for a caller with nothing to do in the meantime.
   */
  launch(
    slot: 0 | 1,
    numTokens: number,
    numSeqs: number,
    numSamples: number,
    deferSampling: boolean,
    onCollect?: boolean,
  ): void;
  /** For a launch with deferSampling: masks and sampling parameters of `slot` are in place now. */
  sample(slot: 0 | 1): void;
  /** Waits for the launch of `slot`; the output arrays of the arena are then valid until its next launch. */
  collect(slot: 0 | 1): void;
  /** Detaches the arenas and frees everything. Waits for launches. Idempotent. */
  close(): void;
}

/** One op at given shapes, to be timed. Fields that the op has no use for are left out. */
export interface OpBenchSpec {
  device: string;
  /** 0: one per physical core. */
  threads: number;
  op:
    | "linear"
    | "attention"
    | "embed"
    | "rms_norm"
    | "silu_mul"
    | "add"
    | "rope_store_kv"
    | "gather_rows"
    | "softcap"
    | "sample";
  /** Token rows of one call; each number is timed in turn. */
  rows: Int32Array;
  /** For each number of rows. */
  seconds: number;
  /** Bytes of weights or KV pages that calls walk through, so that no cache holds them. */
  workingSet: number;
  scheme?: "int4" | "f16" | "bf16" | "f32";
  k?: number;
  n?: number;
  groupSize?: number;
  epilogue?: "none" | "silu_mul" | "add";
  cpuActivations?: CpuActivations;
  /** Of embed, rms_norm, silu_mul, add, gather_rows. */
  width?: number;
  numHeads?: number;
  numKvHeads?: number;
  headDim?: number;
  /** Positions of each sequence, the new ones included, and how many are new (rows is a multiple of it). */
  contextLen?: number;
  queryLen?: number;
  kvCacheDtype?: KvCacheDType;
  /** Of embed, softcap, sample. */
  vocabSize?: number;
  /** Sampling with temperature, top-k and top-p rather than greedily. */
  topKTopP?: boolean;
}

export interface OpBenchResult {
  rows: {
    rows: number;
    calls: number;
    medianSeconds: number;
    bestSeconds: number;
    /** What one call has to read and write, each byte once; multiplications and additions. */
    bytes: number;
    flop: number;
  }[];
  /** Of the weights or KV pages, used in turn. */
  copies: number;
  threads: number;
  /** RMS of the difference from the reference backend, relative; sample: the share of rows with another token. */
  error: number;
}

/** What the processor can do at most: reads of memory larger than any cache, multiply-adds of f32 and of bytes in registers. */
export interface Ceilings {
  readBytesPerSecond: number;
  flopPerSecond: number;
  /** Multiplications and additions of 8-bit integers. */
  int8OpPerSecond: number;
  threads: number;
}

/** What attention does besides its weights: the fields of AttentionNode, with tensors for modules. */
export interface AttentionSpec {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  rope: RopePlan | null;
  /** [headDim] */
  qNorm: TensorSource | null;
  kNorm: TensorSource | null;
  normEps: number;
  scale: number;
  slidingWindow: number;
  softcap: number;
}

/**
 * One op at a time on whole arrays, with weights read from their files, and what INT4 makes of a linear's weights.
 * Activations are f32 [rows, width]; `out` overlaps no input. Errors: as NativeRunnerHandle's.
 */
export interface NativeQuantizer {
  /** A float tensor as f32. Returns the index of its first value that is not finite, or -1. */
  readFloats(tensor: TensorSource, out: Float32Array): number;
  embed(
    table: TensorSource,
    scale: number,
    ids: Int32Array,
    out: Float32Array,
  ): void;
  rmsNorm(
    weight: TensorSource,
    eps: number,
    x: Float32Array,
    out: Float32Array,
  ): void;
  linear(plan: LinearPlan, x: Float32Array, out: Float32Array): void;
  /** Causal, over sequences of `lengths` rows that each start at position 0. */
  attention(
    spec: AttentionSpec,
    lengths: Int32Array,
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    out: Float32Array,
  ): void;
  siluMul(
    width: number,
    gate: Float32Array,
    up: Float32Array,
    out: Float32Array,
  ): void;
  /**
   * ||X (W' - W)^T||^2 with W' = Q(W diag(scale)) diag(1 / scale), x [rows, k], w [n, k], scale [k] or null (ones), clip
   * [n, k / groupSize, 2] or null (ones).
   */
  quantizationError(
    x: Float32Array,
    w: Float32Array,
    k: number,
    scale: Float32Array | null,
    clip: Float32Array | null,
    groupSize: number,
  ): number;
  /** ||X W^T||^2 */
  outputEnergy(x: Float32Array, w: Float32Array, k: number): number;
  /** Shares of the low and high end of each group's range to keep; out [n, k / groupSize, 2]. */
  searchClip(
    x: Float32Array,
    w: Float32Array,
    k: number,
    groupSize: number,
    out: Float32Array,
  ): void;
  /** AWQ's gemm layout (LinearPart in kernels/ops.h): qweight [k, n / 8], qzeros [k / groupSize, n / 8], scales [k / groupSize, n] as binary16. */
  packAwq(
    w: Float32Array,
    k: number,
    clip: Float32Array | null,
    groupSize: number,
    qweight: Int32Array,
    qzeros: Int32Array,
    scales: Uint16Array,
  ): void;
  /** Rounds to binary16. Returns the index of the first value that is too large for it (or not finite), or -1. */
  toHalf(values: Float32Array, out: Uint16Array): number;
}

export interface Addon {
  readonly version: string;
  describeDevice(device: string, threads: number): DeviceInfo;
  /** Device bytes that the linears of `program` take on `device`, summed. */
  weightBytes(device: string, program: Program): number;
  /** Device bytes that the kernels take beside weights, KV pages and activations. */
  scratchBytes(
    device: string,
    program: Program,
    sizes: RunnerSizes,
    useMatmulLibrary: boolean,
  ): number;
  linearShapes(program: Program, sizes: RunnerSizes): LinearShape[];
  /** No names: its linears have one way of being computed. */
  tileSet(device: string): TileSet;
  /** The version of the library that useMatmulLibrary would use on `device`, or in one line why there is none. */
  matmulLibrary(device: string): { found: boolean; text: string };
  LinearTuner: new (
    device: string,
    program: Program,
    sizes: RunnerSizes,
    useMatmulLibrary: boolean,
  ) => LinearTunerHandle;
  /** Values that a head takes in a KV page of `device`, at least headDim; 0: it has no kernels for such heads. */
  pageHeadDim(device: string, headDim: number): number;
  /**
   * For a thread that answers others and does not compute: Linux lets it in as soon as it wakes, rather than at the end of
   * a computing thread's time slice (4 ms). False where the system has no such thing.
   */
  shortenTimeSlice(): boolean;
  benchOp(spec: OpBenchSpec): OpBenchResult;
  /** Measured for about `seconds` each. */
  measureCeilings(threads: number, seconds: number): Ceilings;
  Runner: new (spec: RunnerSpec) => NativeRunnerHandle;
  /** `threads` 0: one per physical core. */
  Quantizer: new (files: string[], threads: number) => NativeQuantizer;
}

let loaded: Addon | null = null;

/** Loads the N-API addon (the only place that does). */
export function loadAddon(): Addon {
  if (loaded) return loaded;
  const file = addonFile();
  loaded = createRequire(import.meta.url)(file) as Addon;
  return loaded;
}

/** Path of the built addon, or of another build (sanitizers) that OCTAVO_ADDON names. Throws internal_error where there is none. */
export function addonFile(): string {
  const override = process.env["OCTAVO_ADDON"];
  if (override) return path.resolve(override);
  let directory = path.dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = path.join(directory, "build", "Release", "octavo.node");
    if (existsSync(file)) return file;
    const parent = path.dirname(directory);
    if (parent === directory) break;
    directory = parent;
  }
  throw new OctavoError(
    "internal_error",
    "The native addon build/Release/octavo.node is missing. Expected: built by `npm ci` or `npm run build:native`.",
  );
}
