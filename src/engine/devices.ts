import { totalmem } from "node:os";
import type { EngineConfig } from "../core/config.js";
import { loadAddon } from "../runner/addon.js";
import type { DeviceInfo, KvCacheDType, RunnerSpec } from "../runner/addon.js";
import { FaultPlan, NO_FAULTS } from "../runner/fault-plan.js";
import { NativeRunner, translated } from "../runner/native-runner.js";
import { NullRunner } from "../runner/null-runner.js";
import type { ModelRunner } from "../runner/runner.js";
import type { MemoryPlan, MemoryPlanInput } from "./memory-plan.js";
import type { PreparedModel } from "./prepare-model.js";

/** A device and what the model takes on it. */
export interface OpenDevice {
  description: DeviceInfo;
  /** Why this one, where none was asked for. */
  reason: string | null;
  kvCacheDtype: KvCacheDType;
  /** Bytes. */
  weightBytes: number;
  /** What the memory is planned by. */
  footprint: MemoryPlanInput["program"];
  /** Takes all memory; may be called again after the runner was closed. */
  load(
    plan: MemoryPlan,
    progress?: (done: number, total: number) => void,
  ): ModelRunner;
}

/** Throws device_error or invalid_config for a device that is not there. */
export function openDevice(
  config: EngineConfig,
  model: PreparedModel,
): OpenDevice {
  const { device } = config;
  return device === "null"
    ? openNullDevice(model)
    : openNativeDevice(device, config, model);
}

function openNativeDevice(
  device: Exclude<EngineConfig["device"], "null">,
  config: EngineConfig,
  model: PreparedModel,
): OpenDevice {
  const addon = loadAddon();
  const { name, reason } = chooseDevice(device);
  const { program, files } = model;
  return translated(() => {
    const kvCacheDtype = chooseKvCacheDtype(config.kvCacheDtype);
    return {
      description: addon.describeDevice(name, config.threads),
      reason,
      kvCacheDtype,
      weightBytes: addon.weightBytes(name, program),
      footprint: program,
      load: ({ sizes }, progress) => {
        const spec: RunnerSpec = {
          device: name,
          threads: config.threads,
          program,
          files,
          sizes,
          kvCacheDtype,
          keepLogits: false,
          dummySeed: config.seed,
          graphRows: new Int32Array(0),
        };
        return NativeRunner.load(addon.Runner, spec, progress);
      },
    };
  });
}

/** Device errors to order on the null device, to see what a server does: see FaultPlan.parse. */
const NULL_FAULTS = "OCTAVO_NULL_FAULTS";

/** Computes nothing, so it keeps neither weights nor pages nor activations, and any number of blocks fits. */
function openNullDevice({ vocabSize }: PreparedModel): OpenDevice {
  const plan = process.env[NULL_FAULTS];
  const faults = plan ? FaultPlan.parse(plan, NULL_FAULTS) : NO_FAULTS;
  return {
    description: {
      device: "null",
      description: "computes nothing",
      totalMemory: totalmem(),
      availableMemory: process.availableMemory(),
      threads: 0,
      isa: "none",
      driver: "",
      hostMemory: true,
      graphs: false,
      activationBytes: 4,
      kvCacheDtype: "f32",
    },
    reason: null,
    kvCacheDtype: "f32",
    weightBytes: 0,
    footprint: {
      vocabSize,
      tokenColumns: 0,
      sampleColumns: 0,
      ropes: [],
      kvLayers: [],
    },
    load: ({ sizes }) => new NullRunner({ ...sizes, vocabSize }, faults),
  };
}

export interface ChosenDevice {
  name: "cpu" | "reference";
  /** Why, where it was not asked for. */
  reason: string | null;
}

/** What `auto` stands for, and why. */
export function chooseDevice(
  device: Exclude<EngineConfig["device"], "null">,
): ChosenDevice {
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
