import type { EngineConfig } from "../core/config.js";
import { BLOCK_SIZE } from "../core/config.js";
import { loadAddon } from "../runner/addon.js";
import type { DeviceInfo, KvCacheDType, RunnerSpec } from "../runner/addon.js";
import { NativeRunner, translated } from "../runner/native-runner.js";
import { Engine } from "./engine.js";
import { planMemory } from "./memory-plan.js";
import type { MemoryPlan } from "./memory-plan.js";
import type { EngineInfo, FromEngine } from "./messages.js";
import { prepareModel } from "./prepare-model.js";
import type { PreparedModel } from "./prepare-model.js";
import { slidingWindowOf } from "./sliding-window.js";

export interface StartedEngine {
  engine: Engine;
  runner: NativeRunner;
}

/**
 * Reads the model's description, plans memory, loads the weights and makes the engine. Emits `plan` before loading,
 * `progress` while, `ready` after. Throws OctavoError: invalid_config, invalid_model, unsupported_model, out_of_memory,
 * device_error.
 */
export async function startEngine(
  config: EngineConfig,
  emit: (message: FromEngine) => void,
): Promise<StartedEngine> {
  const model = await prepareModel(config);
  const addon = loadAddon();
  const device = chooseDevice(config.device);
  const { kvCacheDtype, description, weightBytes } = translated(() => ({
    kvCacheDtype: chooseKvCacheDtype(config.kvCacheDtype),
    description: addon.describeDevice(device.name, config.threads),
    weightBytes: addon.weightBytes(device.name, model.program),
  }));
  const plan = planMemory({
    config,
    program: model.program,
    maxPositionEmbeddings: model.maxPositionEmbeddings,
    kvCacheDtype,
    weightBytes,
    availableMemory: description.availableMemory,
  });
  const info = describe(config, model, description, device.reason, plan, {
    kvCacheDtype,
    weightBytes,
  });
  emit({ type: "plan", info });
  const spec: RunnerSpec = {
    device: device.name,
    threads: config.threads,
    program: model.program,
    files: model.files,
    sizes: plan.sizes,
    kvCacheDtype,
    keepLogits: false,
    dummySeed: config.seed,
  };
  const runner = NativeRunner.load(addon.Runner, spec, (done, total) =>
    emit({ type: "progress", phase: "weights", done, total }),
  );
  try {
    const engine = new Engine(runner, config, {
      slidingWindow: slidingWindowOf(model.program),
    });
    emit({ type: "ready", info, memory: runner.memory });
    return { engine, runner };
  } catch (error) {
    runner.close();
    throw error;
  }
}

interface ChosenDevice {
  name: "cpu" | "reference";
  /** Why, where it was not asked for. */
  reason: string | null;
}

function chooseDevice(device: EngineConfig["device"]): ChosenDevice {
  if (device !== "auto") return { name: device, reason: null };
  return {
    name: "cpu",
    reason:
      "--device auto: the processor is the only fast device of this build",
  };
}

/** Both backends keep pages in f32 unless told otherwise: exact, and the host has the room. */
function chooseKvCacheDtype(dtype: EngineConfig["kvCacheDtype"]): KvCacheDType {
  return dtype === "auto" ? "f32" : dtype;
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
    maxNumBatchedTokens: config.maxNumBatchedTokens,
    weightBytes: chosen.weightBytes,
    kvBytesPerBlock,
    workspaceBytes,
    availableMemory: device.availableMemory,
    eosTokenIds: model.eosTokenIds,
    bosTokenId: model.bosTokenId,
    generationDefaults: model.generationDefaults,
  };
}
