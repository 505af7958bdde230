import type { EngineConfig } from "../core/config.js";
import { BLOCK_SIZE } from "../core/config.js";
import type { DeviceInfo } from "../runner/addon.js";
import { openDevice } from "./devices.js";
import type { OpenDevice } from "./devices.js";
import { planMemory } from "./memory-plan.js";
import type { MemoryPlan } from "./memory-plan.js";
import { draftFootprint } from "./draft-model.js";
import type { PreparedDraft } from "./draft-model.js";
import type { DraftInfo, EngineInfo } from "./messages.js";
import type { PreparedModel } from "./prepare-model.js";
import { checkWholePrompts } from "./whole-prompts.js";

export interface PlannedEngine {
  device: OpenDevice;
  /** The same one, for the model that drafts. */
  draftDevice: OpenDevice | null;
  plan: MemoryPlan;
  info: EngineInfo;
}

/**
 * Which device, and what the model, and the one that drafts for it, take and leave on it; nothing is loaded. Throws OctavoError: device_error,
 * invalid_config, out_of_memory.
 */
export function planEngine(
  config: EngineConfig,
  model: PreparedModel,
  draft: PreparedDraft | null,
): PlannedEngine {
  const device = openDevice(config, model);
  const draftDevice = draft && openDraftDevice(config, draft, device);
  const { kvCacheDtype, description, weightBytes } = device;
  const plan = planMemory({
    config,
    program: device.footprint,
    maxPositionEmbeddings: model.maxPositionEmbeddings,
    kvCacheDtype,
    weightBytes,
    device: device.memory,
    draft:
      draft && draftDevice ? draftFootprint(draft, draftDevice) : undefined,
  });
  checkWholePrompts(config, plan.sizes.maxModelLen);
  const info = describe(config, model, description, device.reason, plan, {
    kvCacheDtype,
    weightBytes,
    linearKernels: device.describeLinears(plan),
  });
  return {
    device,
    draftDevice,
    plan,
    info: { ...info, draft: describeDraft(draft, draftDevice, plan) },
  };
}

function openDraftDevice(
  config: EngineConfig,
  draft: PreparedDraft,
  { description, kvCacheDtype }: OpenDevice,
): OpenDevice {
  const device = description.device as EngineConfig["device"];
  return openDevice({ ...config, device, kvCacheDtype }, draft);
}

function describeDraft(
  draft: PreparedDraft | null,
  device: OpenDevice | null,
  { draft: plan }: MemoryPlan,
): DraftInfo | null {
  if (!draft || !device || !plan) return null;
  return {
    model: draft.directory,
    architecture: draft.architecture,
    quantization: draft.quantization,
    maxModelLen: plan.sizes.maxModelLen,
    numBlocks: plan.sizes.numBlocks,
    weightBytes: device.weightBytes,
    kvBytesPerBlock: plan.kvBytesPerBlock,
    workspaceBytes: plan.workspaceBytes,
    linearKernels: device.describeLinears(plan),
  };
}

function describe(
  config: EngineConfig,
  model: PreparedModel,
  device: DeviceInfo,
  reason: string | null,
  { sizes, kvBytesPerBlock, workspaceBytes }: MemoryPlan,
  chosen: Pick<EngineInfo, "kvCacheDtype" | "weightBytes" | "linearKernels">,
): Omit<EngineInfo, "draft"> {
  return {
    architecture: model.architecture,
    device: device.device,
    deviceDescription: reason
      ? `${device.description} (${reason})`
      : device.description,
    isa: device.isa,
    threads: device.threads,
    quantization: model.quantization,
    vocabSize: model.vocabSize,
    maxModelLen: sizes.maxModelLen,
    numBlocks: sizes.numBlocks,
    blockSize: BLOCK_SIZE,
    kvCacheDtype: chosen.kvCacheDtype,
    maxNumSeqs: config.maxNumSeqs,
    maxNumSamples: sizes.maxNumSamples,
    maxNumBatchedTokens: config.maxNumBatchedTokens,
    speculation: config.speculativeConfig && {
      method: config.speculativeConfig.method,
      numSpeculativeTokens: config.speculativeConfig.numSpeculativeTokens,
    },
    weightBytes: chosen.weightBytes,
    kvBytesPerBlock,
    workspaceBytes,
    linearKernels: chosen.linearKernels,
    availableMemory: device.availableMemory,
    eosTokenIds: model.eosTokenIds,
    bosTokenId: model.bosTokenId,
    generationDefaults: model.generationDefaults,
  };
}
