import { OctavoError } from "../core/errors.js";
import type { ArenaLayout, ArrayKind } from "./addon.js";

/**
 * One step's inputs and outputs: views over one block of memory that native code lays out (native/arena.h).
 * Ids are validated by native before use (native/batch_check.h).
 */
export interface StepArena {
  // in, per token
  /** [maxNumTokens]; -1 - r is the token sampled in row r of the previous launch. */
  inputIds: Int32Array;
  positions: Int32Array;
  /** block * blockSize + offset. */
  slotMapping: Int32Array;
  // in, per sequence
  /** [maxNumSeqs + 1] prefix sums of token counts. */
  queryStart: Int32Array;
  /** [maxNumSeqs] KV length, this step included. */
  contextLens: Int32Array;
  /** [maxNumSeqs] row of the token history that penalties read; unique within a step. */
  seqSlot: Int32Array;
  /** [maxNumSeqs] positions below it are prompt (for penalties). */
  numPromptTokens: Int32Array;
  /** [maxNumSeqs * maxBlocksPerSeq]; entries that the sequence no longer sees (sliding window) are 0. */
  blockTables: Int32Array;
  // in, per sampled row
  /** [maxNumSamples] token rows. */
  sampleRows: Int32Array;
  rowSlot: Int32Array;
  /** Position of the row's input token. */
  rowPosition: Int32Array;
  temperature: Float32Array;
  topP: Float32Array;
  minP: Float32Array;
  repetition: Float32Array;
  presence: Float32Array;
  frequency: Float32Array;
  topK: Int32Array;
  seedLo: Int32Array;
  seedHi: Int32Array;
  /** -1, or a token whose log-probability is wanted beside the sampled one's. */
  targetId: Int32Array;
  /** -1: no log-probabilities; else how many top alternatives (0..20). */
  numTop: Int32Array;
  /** [maxNumSamples + 1] */
  biasStart: Int32Array;
  /** [maxNumSamples * MAX_BIAS_PER_ROW] */
  biasId: Int32Array;
  biasValue: Float32Array;
  /** -1, or a row of `masks`. */
  maskRow: Int32Array;
  /** [maxNumSamples * ceil(vocabSize / 32)] */
  masks: Uint32Array;
  // out, per sampled row
  sampledIds: Int32Array;
  logprob: Float32Array;
  rank: Int32Array;
  targetLogprob: Float32Array;
  targetRank: Int32Array;
  /** [maxNumSamples * 20] */
  topIds: Int32Array;
  topLogprobs: Float32Array;
  /** One for each of Timing, microseconds. */
  timings: Float64Array;
  /** [maxNumSamples * vocabSize] when the runner was made with keepLogits. */
  logits?: Float32Array;
}

/** Launches use the two arenas in turn: 0 1 0 1 ... */
export function slotOf(launch: number): 0 | 1 {
  return (launch & 1) as 0 | 1;
}

/** Index into StepArena.timings, microseconds. A replayed graph is all `forward`: head, and sampling where it is in the graph, are 0. */
export const Timing = {
  copyIn: 0,
  forward: 1,
  head: 2,
  sample: 3,
  copyOut: 4,
  total: 5,
} as const;

/** Every array and its element type, in the order of native/arena.h. */
export const ARENA_ARRAYS = {
  inputIds: "i32",
  positions: "i32",
  slotMapping: "i32",
  queryStart: "i32",
  contextLens: "i32",
  seqSlot: "i32",
  numPromptTokens: "i32",
  blockTables: "i32",
  sampleRows: "i32",
  rowSlot: "i32",
  rowPosition: "i32",
  temperature: "f32",
  topP: "f32",
  minP: "f32",
  repetition: "f32",
  presence: "f32",
  frequency: "f32",
  topK: "i32",
  seedLo: "i32",
  seedHi: "i32",
  targetId: "i32",
  numTop: "i32",
  biasStart: "i32",
  biasId: "i32",
  biasValue: "f32",
  maskRow: "i32",
  masks: "u32",
  sampledIds: "i32",
  logprob: "f32",
  rank: "i32",
  targetLogprob: "f32",
  targetRank: "i32",
  topIds: "i32",
  topLogprobs: "f32",
  timings: "f64",
} as const satisfies Record<string, ArrayKind>;

const VIEWS = {
  i32: Int32Array,
  u32: Uint32Array,
  f32: Float32Array,
  f64: Float64Array,
} as const;

/** Views over `memory` as `layout` says. Throws internal_error when the two sides disagree on names or types. */
export function viewArena(memory: ArrayBuffer, layout: ArenaLayout): StepArena {
  const views: Record<
    string,
    Int32Array | Uint32Array | Float32Array | Float64Array
  > = {};
  const expected: Record<string, ArrayKind> = { ...ARENA_ARRAYS };
  if (layout["logits"]) expected["logits"] = "f32";
  for (const [name, type] of Object.entries(expected)) {
    const entry = layout[name];
    if (!entry || entry.type !== type)
      throw new OctavoError(
        "internal_error",
        `arena array ${name}: expected ${type}, native has ${entry?.type ?? "none"}`,
      );
    views[name] = new VIEWS[type](memory, entry.offset, entry.length);
  }
  return views as unknown as StepArena;
}
