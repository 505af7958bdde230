import type { EngineConfig } from "../core/config.js";
import { BLOCK_SIZE } from "../core/config.js";
import type { DeviceInfo, KvCacheDType } from "../runner/addon.js";
import { openDevice } from "./devices.js";
import type { OpenDevice } from "./devices.js";
import { planMemory } from "./memory-plan.js";
import type { MemoryPlan } from "./memory-plan.js";
import type { EngineInfo } from "./messages.js";
import type { PreparedModel } from "./prepare-model.js";

export interface PlannedEngine {
  device: OpenDevice;
  plan: MemoryPlan;
  info: EngineInfo;
}

/**
 * Which device, and what the model takes and leaves on it; nothing is loaded. Throws OctavoError: device_error,
 * invalid_config, out_of_memory.
 */
export function planEngine(
  config: EngineConfig,
  model: PreparedModel,
): PlannedEngine {
  const device = openDevice(config, model);
  const { kvCacheDtype, description, weightBytes } = device;
  const plan = planMemory({
    config,
    program: device.footprint,
    maxPositionEmbeddings: model.maxPositionEmbeddings,
    kvCacheDtype,
    weightBytes,
    device: device.memory,
  });
  const info = describe(config, model, description, device.reason, plan, {
    kvCacheDtype,
    weightBytes,
  });
  return { device, plan, info };
}

function describe(
  config: EngineConfig,
  model: PreparedModel,
  device: DeviceInfo,
  reason: string | null,
  { sizes, kvBytesPerBlock, workspaceBytes }: MemoryPlan,
  chosen: { kvCacheDtype: KvCacheDType; weightBytes: number },
): EngineInfo {
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
    availableMemory: device.availableMemory,
    eosTokenIds: model.eosTokenIds,
    bosTokenId: model.bosTokenId,
    generationDefaults: model.generationDefaults,
  };
}
