import type { EngineConfig } from "../core/config.js";
import type { SpeculativeConfig } from "../core/speculative-config.js";
import type { ErrorCode } from "../core/errors.js";
import type { EventArrays } from "../core/events.js";
import type { FinishReason, Request } from "../core/request.js";
import type { ChannelSizes } from "../grammar/channel.js";
import type { MissReason } from "../core/sequence.js";
import type { GenerationDefaults } from "../loader/generation-config.js";
import type { KvCacheDType, RunnerMemory } from "../runner/addon.js";
import type { EngineStats } from "./stats.js";

/** Main thread -> engine thread. After posting, the sender rings the doorbell (Int32 [1] in shared memory). */
export type ToEngine =
  | { type: "add"; request: Request }
  /** choice -1: all of them. */
  | { type: "abort"; handle: number; choice: number; reason: AbortReason }
  | { type: "call"; id: number; method: EngineCall }
  /** Memory shared with a grammar worker (src/grammar/channel.ts), before any of its grammars is used. */
  | {
      type: "grammars";
      channel: number;
      memory: SharedArrayBuffer;
      sizes: ChannelSizes;
    }
  /** Finish nothing more: drop what is left and exit. */
  | { type: "close" };

/** stop: a stop string matched. abort: the rest was wanted no longer. */
export type AbortReason = "abort" | "stop";

export type EngineCall = "resetPrefixCache" | "checkIntegrity";

/** Engine thread -> main thread. */
export type FromEngine =
  | { type: "plan"; info: EngineInfo }
  /** One line for people, before `ready`: what was found missing, or chosen. */
  | { type: "notice"; text: string }
  | { type: "progress"; phase: LoadPhase; done: number; total: number }
  | { type: "ready"; info: EngineInfo; memory: RunnerMemory }
  | StepMessage
  | { type: "rejected"; handle: number; error: WireError }
  | { type: "reply"; id: number; result: unknown; error: WireError | null }
  /** The engine ended: at start (bad model, no memory) or later (device lost). */
  | { type: "fatal"; error: WireError };

export type LoadPhase = "tiles" | "weights";

export interface WireError {
  code: ErrorCode;
  message: string;
  param: string | null;
}

/** One post per step. */
export interface StepMessage {
  type: "step";
  events: EventArrays;
  /** Choices that ended in this step, one entry each, in the order of their last events. */
  finished: FinishedChoice[];
  /** Requests that were scheduled for the first time in this step. */
  admitted: AdmittedRequest[];
  /** Choices that lost their place to others in this step. Engines that never preempt leave it out. */
  preempted?: PreemptedChoice[] | undefined;
  stats: EngineStats;
}

export interface AdmittedRequest {
  handle: number;
  numCachedTokens: number;
  /** Why the prefix cache did not have more of the prompt; null where it had all it could, or was not asked. */
  missReason: MissReason | null;
  /** Milliseconds; Request.arrivalTime's clock. */
  scheduledTime: number;
}

export interface PreemptedChoice {
  handle: number;
  choice: number;
  /** Milliseconds; Request.arrivalTime's clock. */
  time: number;
}

export interface FinishedChoice {
  handle: number;
  choice: number;
  finish: FinishReason;
  numOutputTokens: number;
  /** Prompt tokens computed rather than found in the cache (recomputation after preemption not counted). */
  numComputedPromptTokens: number;
  numPreemptions: number;
  firstScheduledTime: number;
  firstTokenTime: number;
  lastTokenTime: number;
}

/** What was decided at start; the table of what fits is printed from it. */
export interface EngineInfo {
  architecture: string;
  device: string;
  deviceDescription: string;
  isa: string;
  threads: number;
  quantization: string;
  vocabSize: number;
  maxModelLen: number;
  numBlocks: number;
  blockSize: number;
  kvCacheDtype: KvCacheDType;
  maxNumSeqs: number;
  /** Most rows that a step samples. */
  maxNumSamples: number;
  maxNumBatchedTokens: number;
  /** Null: nothing is speculated. */
  speculation: Pick<
    SpeculativeConfig,
    "method" | "numSpeculativeTokens"
  > | null;
  /** Bytes. */
  weightBytes: number;
  kvBytesPerBlock: number;
  workspaceBytes: number;
  /** Where the linears' tiles come from, for people; null: the device has one way of computing them. */
  linearKernels: string | null;
  availableMemory: number;
  /** From generation_config.json and config.json. */
  eosTokenIds: number[];
  bosTokenId: number | null;
  generationDefaults: GenerationDefaults;
  /** The model that drafts for it; null: none does. */
  draft: DraftInfo | null;
}

/** Sizes in bytes. */
export interface DraftInfo {
  /** Directory. */
  model: string;
  architecture: string;
  quantization: string;
  maxModelLen: number;
  numBlocks: number;
  weightBytes: number;
  kvBytesPerBlock: number;
  workspaceBytes: number;
  /** As EngineInfo.linearKernels. */
  linearKernels: string | null;
}

/** workerData of the engine thread. */
export interface EngineWorkerData {
  config: EngineConfig;
  doorbell: SharedArrayBuffer;
}
