import { BLOCK_SIZE } from "../core/config.js";
import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import { MAX_BIAS_PER_ROW, MAX_LOGPROBS } from "../core/sampling-params.js";
import type { Program } from "../program/program.js";
import type { KvCacheDType, RunnerSizes } from "../runner/addon.js";
import { ARENA_ARRAYS } from "../runner/step-arena.js";

const GIB = 2 ** 30;
/** Of logits, rope tables, histories. */
const WORD_BYTES = 4;
/** Of a number in a page; and of what a page keeps beside a token's numbers, for each KV head: its scale. */
const KV_BYTES = { f32: 4, f16: 2, int8: 1 } as const;
const KV_SCALE_BYTES = { f32: 0, f16: 0, int8: 4 } as const;
/** KV cache that the host gives by default: it has other uses for its memory. --num-gpu-blocks-override asks for more. */
const DEFAULT_HOST_KV_BYTES = 4 * GIB;
/** Sample rows of a small batch, so that prompt_logprobs get through a prompt in reasonable steps. */
const MIN_SAMPLES = 64;
/** Sample rows for drafts: beyond, every row costs as much as the first on any device, and drafts no longer pay. */
const MAX_DRAFTED_SAMPLES = 512;
/** Rows of logits held at once: [64, vocabSize] floats. On a device each slice of rows reads all of lm_head's weights. */
const MAX_HOST_LOGITS_ROWS = 64;
const MAX_DEVICE_LOGITS_ROWS = 256;
/** Rows that the host computes together: kPassRows of native/passes.h. */
const PASS_ROWS = 512;
/** On the device: the inputs that kernels read, and a staged copy with outputs for each of two slots. */
const DEVICE_ARENAS = 3;
/** Where that is the host: besides, two that are packed, native's checked copy of each, and two blocks to stage. */
const HOST_ARENAS = DEVICE_ARENAS + 6;
/** Beyond it a GPU has nothing left for graphs and the driver. */
const MAX_UTILIZATION = 0.97;
/** Each of an arena's arrays begins on a cache line. */
const ARENA_PADDING = 64 * Object.keys(ARENA_ARRAYS).length;
/** kBlockSize * numBlocks is an int32. */
const MAX_BLOCKS = Math.floor(0x7fffffff / BLOCK_SIZE);

export interface MemoryPlanInput {
  config: Pick<
    EngineConfig,
    | "maxModelLen"
    | "maxNumSeqs"
    | "maxNumBatchedTokens"
    | "gpuMemoryUtilization"
    | "speculativeConfig"
    | "numGpuBlocksOverride"
  >;
  program: Pick<
    Program,
    "vocabSize" | "tokenColumns" | "sampleColumns" | "ropes" | "kvLayers"
  >;
  /** The longest context that the model is made for. */
  maxPositionEmbeddings: number;
  kvCacheDtype: KvCacheDType;
  /** Bytes. */
  weightBytes: number;
  device: DeviceMemory;
  /** A model that drafts for this one, on the same device. */
  draft?: DraftFootprint | undefined;
}

/** Its KV cache has as many blocks as the one that it drafts for: whatever runs there has room here. */
export interface DraftFootprint {
  program: MemoryPlanInput["program"];
  /** The longest sequence that it takes. */
  maxModelLen: number;
  /** Bytes. */
  weightBytes: number;
  device: DeviceMemory;
}

/** What a device's memory is, and what its kernels take of it. */
export interface DeviceMemory {
  /** Bytes. */
  totalMemory: number;
  availableMemory: number;
  /** The host's own memory, which has other uses. */
  hostMemory: boolean;
  activationBytes: number;
  /** Values that a head takes in a page; 0: no kernels for it. */
  pageHeadDim(headDim: number): number;
  /** Bytes that kernels take beside weights, pages and activations. */
  scratchBytes(sizes: RunnerSizes): number;
}

export interface MemoryPlan {
  sizes: RunnerSizes;
  /** Bytes. */
  kvBytesPerBlock: number;
  workspaceBytes: number;
  /** Of the model that drafts. */
  draft: Omit<MemoryPlan, "draft"> | null;
}

/**
 * Sizes of the runner, so that weights + workspace + KV cache fit a budget: gpuMemoryUtilization of the host's available
 * memory, or of a GPU's whole memory less what others have taken of it.
 *
 * The KV cache has as many blocks as maxNumSeqs sequences of maxModelLen can use, within what is left. On a GPU it takes
 * all that is left; on the host by default at most 4 GiB and half of what is left, whichever is less (explicit --max-model-len: at least one such sequence; or
 * --num-gpu-blocks-override). maxModelLen is the model's own limit, lowered to what fits, unless it was asked for.
 * A draft model's weights, workspace and blocks count as the model's own.
 * Throws invalid_config and out_of_memory, which name the flag to change and the value that works.
 */
export function planMemory(input: MemoryPlanInput): MemoryPlan {
  const wantedLen = wantedModelLen(input);
  const kvBytesPerBlock = kvBlockBytes(input);
  const room = roomForKv(input, wantedLen);
  const blocksOfOne = blocksFor(wantedLen);
  const fitting = clampBlocks(room / kvBytesPerBlock);
  const blocks =
    input.config.numGpuBlocksOverride ??
    Math.min(
      blocksOfOne * input.config.maxNumSeqs,
      defaultBlocks(input, room, kvBytesPerBlock, blocksOfOne),
      MAX_BLOCKS,
    );
  checkFits(input, blocks, fitting, kvBytesPerBlock);
  if (blocks < blocksOfOne && input.config.maxModelLen !== null)
    throw tooLong(input, wantedLen, blocks, kvBytesPerBlock);
  const maxModelLen = Math.min(wantedLen, blocks * BLOCK_SIZE);
  const draft = draftInput(input);
  return {
    ...planOne(input, maxModelLen, blocks),
    draft: draft && planOne(draft, draftLen(draft, maxModelLen), blocks),
  };
}

function planOne(
  input: MemoryPlanInput,
  maxModelLen: number,
  blocks: number,
): Omit<MemoryPlan, "draft"> {
  return {
    sizes: sizesOf(input, maxModelLen, blocks),
    kvBytesPerBlock: ownBlockBytes(input),
    workspaceBytes: ownWorkspaceBytes(input, maxModelLen),
  };
}

/** The draft model as a model of its own; it verifies nothing. */
function draftInput(input: MemoryPlanInput): MemoryPlanInput | null {
  if (!input.draft) return null;
  const { maxModelLen, ...model } = input.draft;
  return {
    ...input,
    ...model,
    config: { ...input.config, speculativeConfig: null },
    maxPositionEmbeddings: maxModelLen,
    draft: undefined,
  };
}

function draftLen(draft: MemoryPlanInput, modelLen: number): number {
  return Math.min(draft.maxPositionEmbeddings, modelLen);
}

function weightBytes(input: MemoryPlanInput): number {
  return input.weightBytes + (input.draft?.weightBytes ?? 0);
}

function kvBlockBytes(input: MemoryPlanInput): number {
  const draft = draftInput(input);
  return ownBlockBytes(input) + (draft ? ownBlockBytes(draft) : 0);
}

function workspaceBytes(input: MemoryPlanInput, modelLen: number): number {
  const draft = draftInput(input);
  return (
    ownWorkspaceBytes(input, modelLen) +
    (draft ? ownWorkspaceBytes(draft, draftLen(draft, modelLen)) : 0)
  );
}

function wantedModelLen({
  config,
  maxPositionEmbeddings,
}: MemoryPlanInput): number {
  const { maxModelLen } = config;
  if (maxModelLen !== null && maxModelLen > maxPositionEmbeddings)
    throw new OctavoError(
      "invalid_config",
      `--max-model-len: expected at most ${maxPositionEmbeddings}, the model's own limit, got ${maxModelLen}.`,
      "max-model-len",
    );
  return maxModelLen ?? maxPositionEmbeddings;
}

/** Each layer's K and V, [2, numKvHeads, 16, headDim]; kvHeadBytes of kernels/ops.h. */
function ownBlockBytes({
  program,
  kvCacheDtype,
  device,
}: MemoryPlanInput): number {
  let bytes = 0;
  for (const { numKvHeads, headDim } of program.kvLayers) {
    const numbers = device.pageHeadDim(headDim) * KV_BYTES[kvCacheDtype];
    const token = numbers + KV_SCALE_BYTES[kvCacheDtype];
    bytes += 2 * numKvHeads * BLOCK_SIZE * token;
  }
  return bytes;
}

function roomForKv(input: MemoryPlanInput, modelLen: number): number {
  const budget = memoryBudget(input);
  const least = kvBlockBytes(input);
  // A GPU's memory is planned to the byte for the whole context, where that leaves anything.
  const whole = budget - weightBytes(input) - workspaceBytes(input, modelLen);
  if (!input.device.hostMemory && whole >= least) return whole;
  const workspace = workspaceBytes(input, shortestLen(input, modelLen));
  const room = budget - weightBytes(input) - workspace;
  if (room < least) throw noRoom(input, budget, workspace);
  return room;
}

function memoryBudget({ config, device }: MemoryPlanInput): number {
  const { totalMemory, availableMemory } = device;
  if (device.hostMemory)
    return Math.floor(config.gpuMemoryUtilization * availableMemory);
  const others = totalMemory - availableMemory;
  return Math.floor(config.gpuMemoryUtilization * totalMemory) - others;
}

/** Names the flag that helps: a larger share where that is enough, else fewer tokens a step. */
function noRoom(
  input: MemoryPlanInput,
  budget: number,
  workspace: number,
): OctavoError {
  const { config, device } = input;
  const weights = weightBytes(input);
  const missing = weights + workspace + kvBlockBytes(input) - budget;
  const base = device.hostMemory ? device.availableMemory : device.totalMemory;
  const share =
    Math.ceil((config.gpuMemoryUtilization + missing / base) * 100) / 100;
  const flag =
    share <= MAX_UTILIZATION
      ? "gpu-memory-utilization"
      : "max-num-batched-tokens";
  const advice =
    share <= MAX_UTILIZATION
      ? `Set --gpu-memory-utilization ${share}`
      : `Lower --max-num-batched-tokens (${config.maxNumBatchedTokens})`;
  return new OctavoError(
    "out_of_memory",
    `The weights (${mib(weights)}) and the workspace (${mib(workspace)}) leave no room for a KV cache in ` +
      `${mib(Math.max(0, budget))} (--gpu-memory-utilization ${config.gpuMemoryUtilization}; ${mib(device.availableMemory)} of ${mib(device.totalMemory)} available). ` +
      `${advice} or take a smaller model.`,
    flag,
  );
}

/** The context that is sure to be kept: what was not asked for is shortened rather than refused. */
function shortestLen({ config }: MemoryPlanInput, modelLen: number): number {
  if (config.maxModelLen !== null) return modelLen;
  return Math.min(modelLen, (config.numGpuBlocksOverride ?? 1) * BLOCK_SIZE);
}

function defaultBlocks(
  { config, device }: MemoryPlanInput,
  room: number,
  bytesPerBlock: number,
  blocksOfOne: number,
): number {
  if (!device.hostMemory) return clampBlocks(room / bytesPerBlock);
  const usual = clampBlocks(
    Math.min(DEFAULT_HOST_KV_BYTES, room / 2) / bytesPerBlock,
  );
  if (config.maxModelLen === null) return Math.max(usual, 1);
  return Math.max(
    usual,
    Math.min(blocksOfOne, clampBlocks(room / bytesPerBlock)),
  );
}

function checkFits(
  { config }: MemoryPlanInput,
  blocks: number,
  fitting: number,
  bytesPerBlock: number,
): void {
  if (blocks <= fitting) return;
  throw new OctavoError(
    "out_of_memory",
    `--num-gpu-blocks-override ${blocks} takes ${mib(blocks * bytesPerBlock)} of KV cache; ` +
      `--gpu-memory-utilization ${config.gpuMemoryUtilization} leaves room for ${fitting} blocks (${mib(fitting * bytesPerBlock)}). ` +
      `Set --num-gpu-blocks-override ${fitting} or less.`,
    "num-gpu-blocks-override",
  );
}

function tooLong(
  { config }: MemoryPlanInput,
  modelLen: number,
  blocks: number,
  bytesPerBlock: number,
): OctavoError {
  const needed = blocksFor(modelLen);
  const fits = blocks * BLOCK_SIZE;
  const what = `A sequence of --max-model-len ${modelLen} takes ${needed} KV blocks (${mib(needed * bytesPerBlock)})`;
  if (config.numGpuBlocksOverride !== null)
    return new OctavoError(
      "invalid_config",
      `${what}, --num-gpu-blocks-override gives ${blocks}. Set --max-model-len ${fits} or --num-gpu-blocks-override ${needed}.`,
      "num-gpu-blocks-override",
    );
  return new OctavoError(
    "out_of_memory",
    `${what}, ${blocks} fit. Set --max-model-len ${fits} or less.`,
    "max-model-len",
  );
}

function sizesOf(
  { config, device }: MemoryPlanInput,
  maxModelLen: number,
  numBlocks: number,
): RunnerSizes {
  const maxNumSamples = numSamples(config);
  return {
    maxNumTokens: config.maxNumBatchedTokens,
    maxNumSeqs: config.maxNumSeqs,
    maxNumSamples,
    maxModelLen,
    maxBlocksPerSeq: blocksFor(maxModelLen),
    numBlocks,
    logitsRows: logitsRows(maxNumSamples, device),
  };
}

function logitsRows(samples: number, { hostMemory }: DeviceMemory): number {
  const most = hostMemory ? MAX_HOST_LOGITS_ROWS : MAX_DEVICE_LOGITS_ROWS;
  return Math.min(samples, most);
}

function numSamples(config: MemoryPlanInput["config"]): number {
  const { maxNumSeqs, maxNumBatchedTokens, speculativeConfig } = config;
  const rowsOfOne = 1 + (speculativeConfig?.numSpeculativeTokens ?? 0);
  const drafted = Math.min(maxNumSeqs * rowsOfOne, MAX_DRAFTED_SAMPLES);
  return Math.max(
    maxNumSeqs,
    Math.min(Math.max(MIN_SAMPLES, drafted), maxNumBatchedTokens),
  );
}

/**
 * Activations, logits, rope tables, token histories, prompt lengths, the arenas, and the kernels' own. Where a step has
 * more rows than the host computes together, also a row for each sample, kept until the step ends.
 */
function ownWorkspaceBytes(input: MemoryPlanInput, modelLen: number): number {
  const { config, program, device } = input;
  const tokens = config.maxNumBatchedTokens;
  const inPasses = device.hostMemory && tokens > PASS_ROWS;
  const rows = inPasses ? PASS_ROWS + numSamples(config) : tokens;
  const activations = program.tokenColumns * rows * device.activationBytes;
  const logits = program.sampleColumns * logitsRows(numSamples(config), device);
  let ropeColumns = 0;
  for (const rope of program.ropes)
    ropeColumns += 2 * rope.inverseFrequencies.length;
  const history = config.maxNumSeqs * (modelLen + 1);
  const words = logits + ropeColumns * modelLen + history;
  const arenas = device.hostMemory ? HOST_ARENAS : DEVICE_ARENAS;
  return (
    activations +
    words * WORD_BYTES +
    arenas * arenaBytes(config, program, modelLen) +
    device.scratchBytes(sizesOf(input, modelLen, 1))
  );
}

/** See step-arena.ts; every element but the timings is 4 bytes. */
function arenaBytes(
  config: MemoryPlanInput["config"],
  program: Pick<Program, "vocabSize">,
  modelLen: number,
): number {
  const perSeq = 4 + blocksFor(modelLen);
  const perSample =
    23 +
    2 * MAX_BIAS_PER_ROW +
    2 * MAX_LOGPROBS +
    Math.ceil(program.vocabSize / 32);
  return (
    ARENA_PADDING +
    4 *
      (3 * config.maxNumBatchedTokens +
        perSeq * config.maxNumSeqs +
        perSample * numSamples(config))
  );
}

function blocksFor(tokens: number): number {
  return Math.ceil(tokens / BLOCK_SIZE);
}

function clampBlocks(blocks: number): number {
  return Math.max(0, Math.min(Math.floor(blocks), MAX_BLOCKS));
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
