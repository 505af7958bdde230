import { availableParallelism, totalmem } from "node:os";
import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import { loadAddon } from "../runner/addon.js";
import type {
  CpuActivations,
  DeviceInfo,
  KvCacheDType,
  RunnerSpec,
} from "../runner/addon.js";
import { FaultPlan, NO_FAULTS } from "../runner/fault-plan.js";
import { NativeRunner, translated } from "../runner/native-runner.js";
import { NullRunner } from "../runner/null-runner.js";
import type { ModelRunner } from "../runner/runner.js";
import { chooseDevice } from "./choose-device.js";
import { graphRows } from "./graph-rows.js";
import { LinearKernels, noLibraryOn } from "./linear-kernels.js";
import type {
  DeviceMemory,
  MemoryPlan,
  MemoryPlanInput,
} from "./memory-plan.js";
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
  memory: DeviceMemory;
  /** How its linears will be computed, for people; null: there is one way. */
  describeLinears(plan: Pick<MemoryPlan, "sizes">): string | null;
  /** Measures what the linears' tiles are chosen by, where that pays; before any model is loaded on the device. */
  tune(plan: Pick<MemoryPlan, "sizes">, hooks?: TuneHooks): void;
  /** Takes all memory; may be called again after the runner was closed. */
  load(
    plan: Pick<MemoryPlan, "sizes">,
    progress?: (done: number, total: number) => void,
  ): ModelRunner;
}

export interface TuneHooks {
  /** Measurements done, and all of them. */
  progress?: (done: number, total: number) => void;
  /** One line for people: what was found missing, or chosen. */
  notice?: (text: string) => void;
}

/** Throws device_error or invalid_config for a device that is not there. */
export function openDevice(
  config: EngineConfig,
  model: PreparedModel,
): OpenDevice {
  const { device } = config;
  return device === "null"
    ? openNullDevice(config, model)
    : openNativeDevice(device, config, model);
}

function openNativeDevice(
  device: Exclude<EngineConfig["device"], "null">,
  config: EngineConfig,
  model: PreparedModel,
): OpenDevice {
  const addon = loadAddon();
  const { description, reason } = chooseDevice(addon, device, config.threads);
  const { program, files } = model;
  const name = description.device;
  checkDtype(config.dtype, description);
  const kvCacheDtype = kvTypeOf(config.kvCacheDtype, description, model);
  const cpuActivations = chooseActivations(config.cpuActivations, description);
  const linears = new LinearKernels(addon, description, program, config);
  const { useMatmulLibrary } = linears;
  return translated(() => ({
    description,
    reason,
    kvCacheDtype,
    weightBytes: addon.weightBytes(name, program),
    footprint: program,
    memory: {
      ...description,
      pageHeadDim: (headDim) => addon.pageHeadDim(name, headDim),
      scratchBytes: (sizes) =>
        addon.scratchBytes(name, program, sizes, useMatmulLibrary),
    },
    describeLinears: ({ sizes }) => linears.describe(sizes),
    tune: ({ sizes }, hooks) => void linears.choose(sizes, hooks),
    load: ({ sizes }, progress) => {
      const largest = Math.min(
        sizes.maxNumSeqs,
        sizes.maxNumTokens,
        sizes.logitsRows,
      );
      const spec: RunnerSpec = {
        device: name,
        threads: config.threads,
        program,
        files,
        sizes,
        kvCacheDtype,
        cpuActivations,
        keepLogits: false,
        dummySeed: config.seed,
        graphRows: graphRows(
          description.graphs && !config.enforceEager ? largest : 0,
        ),
        tiles: linears.choose(sizes),
        useMatmulLibrary,
      };
      try {
        return NativeRunner.load(addon.Runner, spec, progress);
      } catch (error) {
        throw description.hostMemory
          ? error
          : withAdvice(error, config.gpuMemoryUtilization);
      }
    },
  }));
}

/** A plan that fitted when it was made and fails now: others, or the driver, hold more of the device. */
function withAdvice(error: unknown, utilization: number): unknown {
  if (!(error instanceof OctavoError) || error.code !== "out_of_memory")
    return error;
  const lower = Math.max(0.05, utilization - 0.05).toFixed(2);
  return new OctavoError(
    error.code,
    `${error.message}. Less of the device is free than was planned for: set --gpu-memory-utilization ${lower} or less.`,
    "gpu-memory-utilization",
    { cause: error },
  );
}

/** Device errors to order on the null device, to see what a server does: see FaultPlan.parse. */
const NULL_FAULTS = "OCTAVO_NULL_FAULTS";

/** Computes nothing, so it keeps neither weights nor pages nor activations, and any number of blocks fits. */
function openNullDevice(
  config: EngineConfig,
  { vocabSize }: PreparedModel,
): OpenDevice {
  const plan = process.env[NULL_FAULTS];
  const faults = plan ? FaultPlan.parse(plan, NULL_FAULTS) : NO_FAULTS;
  const description: DeviceInfo = {
    device: "null",
    description: "computes nothing",
    totalMemory: totalmem(),
    availableMemory: process.availableMemory(),
    threads: 0,
    processors: availableParallelism(),
    isa: "none",
    driver: "",
    hostMemory: true,
    graphs: false,
    tunes: false,
    activationBytes: 4,
    kvCacheDtype: "f32",
  };
  return {
    description,
    reason: null,
    memory: {
      ...description,
      pageHeadDim: (headDim) => headDim,
      scratchBytes: () => 0,
    },
    kvCacheDtype: "f32",
    weightBytes: 0,
    footprint: {
      vocabSize,
      tokenColumns: 0,
      sampleColumns: 0,
      ropes: [],
      kvLayers: [],
    },
    describeLinears: () => null,
    tune: (_plan, { notice } = {}) => {
      if (!config.batchInvariant) notice?.(noLibraryOn("null"));
    },
    load: ({ sizes }) => new NullRunner({ ...sizes, vocabSize }, faults),
  };
}

/** docs/decisions/0030-int8-activations.md has why int8 is the default. */
function chooseActivations(
  wanted: EngineConfig["cpuActivations"],
  device: DeviceInfo,
): CpuActivations {
  if (wanted === "auto") return device.hostMemory ? "int8" : "f32";
  if (device.hostMemory) return wanted;
  throw new OctavoError(
    "invalid_config",
    `--cpu-activations ${wanted}: expected auto on ${device.device}, which computes INT4 layers in its own way.`,
    "cpu-activations",
  );
}

/** The processor keeps keys and values of models in 16 bits as they do themselves: half the memory, half to read. */
function kvTypeOf(
  wanted: EngineConfig["kvCacheDtype"],
  { device, kvCacheDtype }: DeviceInfo,
  { dtype }: PreparedModel,
): KvCacheDType {
  switch (wanted) {
    case "auto":
      return device === "cpu" && dtype !== "f32" ? "f16" : kvCacheDtype;
    case "float32":
      return "f32";
    case "float16":
      return "f16";
    default:
      return wanted;
  }
}

const ACTIVATION_BYTES = { half: 2, float16: 2, float: 4, float32: 4 } as const;

/** --dtype states what a device computes in; the device decides. */
function checkDtype(dtype: EngineConfig["dtype"], device: DeviceInfo): void {
  if (dtype === "auto" || ACTIVATION_BYTES[dtype] === device.activationBytes)
    return;
  const own = device.activationBytes === 2 ? "float16" : "float32";
  throw new OctavoError(
    "invalid_config",
    `--dtype ${dtype}: ${device.device} computes in ${own}.`,
    "dtype",
  );
}
