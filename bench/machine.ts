import { cpus, totalmem } from "node:os";
import { VERSION } from "../src/cli/version.js";
import { probeDevice } from "../src/engine/choose-device.js";
import { loadAddon, type Ceilings } from "../src/runner/addon.js";

/** What a figure was measured on, for every result: a figure without it can't be compared with anything. */
export interface Machine {
  device: string;
  processor: string;
  logicalCores: number;
  memoryBytes: number;
  isa: string;
  /** The device where it isn't the processor. */
  gpu: {
    name: string;
    isa: string;
    driver: string;
    memoryBytes: number;
  } | null;
  threads: number;
  versions: { octavo: string; node: string; v8: string };
  ceilings: Ceilings;
}

/** Seconds for each of the two ceilings: enough for the best of several runs. */
const CEILING_SECONDS = 0.3;
/** Threads -> ceilings: a process measures them once. */
const measured = new Map<number, Ceilings>();

/**
 * The machine and, measured now, the most that its processor can do.
 * @param device of --device; auto: what it stands for here
 * @param threads 0: one per physical core
 */
export function measureMachine(device: string, threads: number): Machine {
  const addon = loadAddon();
  // Devices that compute nothing or slowly run on the same processor.
  const { isa } = addon.describeDevice(
    device === "reference" ? "reference" : "cpu",
    threads,
  );
  const gpu = gpuOf(device, threads);
  const ceilings =
    measured.get(threads) ?? addon.measureCeilings(threads, CEILING_SECONDS);
  measured.set(threads, ceilings);
  return {
    device: device !== "auto" ? device : gpu ? "cuda" : "cpu",
    processor: cpus()[0]?.model.trim() ?? "unknown processor",
    logicalCores: cpus().length,
    memoryBytes: totalmem(),
    isa,
    gpu,
    threads: ceilings.threads,
    versions: {
      octavo: VERSION,
      node: process.version,
      v8: process.versions.v8,
    },
    ceilings,
  };
}

function gpuOf(device: string, threads: number): Machine["gpu"] {
  if (["cpu", "reference", "null"].includes(device)) return null;
  const found = probeDevice(
    loadAddon(),
    device === "auto" ? "cuda" : device,
    threads,
  );
  // Where it was asked for, the engine says why it can't be used.
  if (typeof found === "string") return null;
  const { description, isa, driver, totalMemory } = found;
  return { name: description, isa, driver, memoryBytes: totalMemory };
}

/** The lines that head every bench's output. */
export function machineLines(machine: Machine, seed: number): string[] {
  const { ceilings, versions, gpu } = machine;
  return [
    ...(gpu
      ? [
          `GPU: ${gpu.name}, ${gpu.isa}, driver ${gpu.driver}, ${(gpu.memoryBytes / 2 ** 30).toFixed(0)} GiB`,
        ]
      : []),
    `Device: ${machine.device} (${machine.processor}, ${machine.isa}, ${machine.threads} threads of ${machine.logicalCores} logical cores); octavo ${versions.octavo}, node ${versions.node}; seed ${seed}`,
    `Ceilings, measured in this run: read ${(ceilings.readBytesPerSecond / 1e9).toFixed(1)} GB/s, f32 multiply-add ${(ceilings.flopPerSecond / 1e9).toFixed(0)} GFLOP/s, int8 multiply-add ${(ceilings.int8OpPerSecond / 1e9).toFixed(0)} GOP/s`,
  ];
}
