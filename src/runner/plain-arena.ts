import { MAX_BIAS_PER_ROW, MAX_LOGPROBS } from "../core/sampling-params.js";
import { Timing } from "./step-arena.js";
import type { StepArena } from "./step-arena.js";

export interface PlainArenaSizes {
  maxNumTokens: number;
  maxNumSeqs: number;
  maxNumSamples: number;
  maxBlocksPerSeq: number;
  vocabSize: number;
}

/** An arena over ordinary memory, with the arrays and lengths of the native one: for runners written in TypeScript. */
export function createPlainArena(sizes: PlainArenaSizes): StepArena {
  const {
    maxNumTokens,
    maxNumSeqs,
    maxNumSamples,
    maxBlocksPerSeq,
    vocabSize,
  } = sizes;
  const ints = (length: number): Int32Array => new Int32Array(length);
  const floats = (length: number): Float32Array => new Float32Array(length);
  return {
    inputIds: ints(maxNumTokens),
    positions: ints(maxNumTokens),
    slotMapping: ints(maxNumTokens),
    queryStart: ints(maxNumSeqs + 1),
    contextLens: ints(maxNumSeqs),
    seqSlot: ints(maxNumSeqs),
    numPromptTokens: ints(maxNumSeqs),
    blockTables: ints(maxNumSeqs * maxBlocksPerSeq),
    sampleRows: ints(maxNumSamples),
    rowSlot: ints(maxNumSamples),
    rowPosition: ints(maxNumSamples),
    temperature: floats(maxNumSamples),
    topP: floats(maxNumSamples),
    minP: floats(maxNumSamples),
    repetition: floats(maxNumSamples),
    presence: floats(maxNumSamples),
    frequency: floats(maxNumSamples),
    topK: ints(maxNumSamples),
    seedLo: ints(maxNumSamples),
    seedHi: ints(maxNumSamples),
    targetId: ints(maxNumSamples),
    numTop: ints(maxNumSamples),
    biasStart: ints(maxNumSamples + 1),
    biasId: ints(maxNumSamples * MAX_BIAS_PER_ROW),
    biasValue: floats(maxNumSamples * MAX_BIAS_PER_ROW),
    maskRow: ints(maxNumSamples),
    masks: new Uint32Array(maxNumSamples * Math.ceil(vocabSize / 32)),
    sampledIds: ints(maxNumSamples),
    logprob: floats(maxNumSamples),
    rank: ints(maxNumSamples),
    targetLogprob: floats(maxNumSamples),
    targetRank: ints(maxNumSamples),
    topIds: ints(maxNumSamples * MAX_LOGPROBS),
    topLogprobs: floats(maxNumSamples * MAX_LOGPROBS),
    timings: new Float64Array(Object.keys(Timing).length),
  };
}
