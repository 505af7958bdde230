import type { SpeculativeConfig } from "./speculative-config.js";

/** Everything the engine thread needs to start; plain data, validated by the command line layer. Names are vLLM's. */
export interface EngineConfig {
  /** Directory in the Hugging Face layout. */
  model: string;
  /** Path of a model file (.ts or .js) that describes the architecture, or null for the built-in ones. */
  modelFile: string | null;
  loadFormat: "auto" | "dummy";
  /** null computes nothing: for tests and for measuring what is around the model. */
  device: "auto" | "cpu" | "cuda" | "cuda-sim" | "reference" | "null";
  /** 0: one per physical core. */
  threads: number;
  /** Of activations. */
  dtype: "auto" | "half" | "float16" | "float" | "float32";
  kvCacheDtype: "auto" | "f32" | "float32" | "f16" | "float16" | "int8";
  /** What INT4 linears' inputs are rounded to on the host's devices; f32: not at all. */
  cpuActivations: "auto" | "int8" | "f32";
  /** null: the model's own limit (bounded by what fits). */
  maxModelLen: number | null;
  gpuMemoryUtilization: number;
  numGpuBlocksOverride: number | null;
  blockSize: 16;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  /** 0: no limit of its own. */
  longPrefillTokenThreshold: number;
  /** False: the tokens of a prompt are all computed in one step (see checkWholePrompts). */
  enableChunkedPrefill: boolean;
  enablePrefixCaching: boolean;
  asyncScheduling: boolean;
  /** No decode graphs: each op of each step is launched. */
  enforceEager: boolean;
  /** False: a matmul library may compute steps of many tokens (GPU), and a token may depend on its batch. */
  batchInvariant: boolean;
  /** Measure which tiles of the kernels are the fastest, once for a device (GPU). */
  tileTuning: boolean;
  schedulingPolicy: "fcfs" | "priority";
  /** How tokens are guessed ahead and verified together; null: they are not. */
  speculativeConfig: SpeculativeConfig | null;
  /** 0: unbounded. Requests waiting (not running). */
  maxNumQueuedReqs: number;
  /** 0: unbounded. Prompt tokens of waiting requests. */
  maxNumQueuedTokens: number;
  /** Of made-up weights (loadFormat dummy). Seeds of requests are drawn by the server. */
  seed: number;
}

export const BLOCK_SIZE = 16;

export const ENGINE_DEFAULTS: Omit<EngineConfig, "model"> = {
  modelFile: null,
  loadFormat: "auto",
  device: "auto",
  threads: 0,
  dtype: "auto",
  kvCacheDtype: "auto",
  cpuActivations: "auto",
  maxModelLen: null,
  gpuMemoryUtilization: 0.9,
  numGpuBlocksOverride: null,
  blockSize: BLOCK_SIZE,
  maxNumSeqs: 64,
  maxNumBatchedTokens: 2048,
  longPrefillTokenThreshold: 0,
  enableChunkedPrefill: true,
  enablePrefixCaching: true,
  asyncScheduling: true,
  enforceEager: false,
  batchInvariant: true,
  tileTuning: true,
  schedulingPolicy: "fcfs",
  speculativeConfig: null,
  maxNumQueuedReqs: 0,
  maxNumQueuedTokens: 0,
  seed: 0,
};

/** Milliseconds on the clock of Request.arrivalTime, the same in every thread. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}
