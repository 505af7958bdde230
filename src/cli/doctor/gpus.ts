import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { SystemFiles } from "./files.js";

export interface Gpu {
  name: string;
  /** Bytes; null where only nvidia-smi could tell. */
  totalMemory: number | null;
  freeMemory: number | null;
  /** "9.0" */
  capability: string | null;
}

export interface GpuFacts {
  /** Version of the kernel's driver. */
  driver: string | null;
  gpus: Gpu[];
  /** Why there is no GPU to use, in one line; null where there is one. */
  reason: string | null;
}

/** Text that `nvidia-smi ARGS` prints, or null where it is not there or fails. */
export type NvidiaSmi = (args: string[]) => Promise<string | null>;

const run = promisify(execFile);

export const nvidiaSmi: NvidiaSmi = async (args) => {
  try {
    const { stdout } = await run("nvidia-smi", args, { timeout: 20_000 });
    return stdout;
  } catch {
    return null;
  }
};

const QUERY = ["name", "memory.total", "memory.free", "compute_cap"];
const MIB = 2 ** 20;
/** The kernels use cp.async and bf16/fp16 mma of this generation. */
const MIN_CAPABILITY = 8;

/** From nvidia-smi where it works, else from what the driver and the PCI bus show under /proc and /sys. */
export async function gpuFacts(
  files: SystemFiles,
  smi: NvidiaSmi = nvidiaSmi,
): Promise<GpuFacts> {
  const driver = driverVersion(files);
  const table = await smi([
    `--query-gpu=${QUERY.join(",")}`,
    "--format=csv,noheader,nounits",
  ]);
  const gpus = table === null ? gpusOfDriver(files) : parseTable(table);
  return { driver, gpus, reason: reasonAgainst(files, driver, gpus) };
}

function driverVersion(files: SystemFiles): string | null {
  const text = files.text("proc/driver/nvidia/version") ?? "";
  return (
    /Module\S*\s+(?:for \S+\s+)?(\d+\.\d+(?:\.\d+)?)/.exec(text)?.[1] ?? null
  );
}

function parseTable(table: string): Gpu[] {
  return table
    .split("\n")
    .filter((line) => line.includes(","))
    .map((line) => {
      const [name = "", total, free, capability] = line
        .split(",")
        .map((cell) => cell.trim());
      return {
        name,
        totalMemory: mebibytes(total),
        freeMemory: mebibytes(free),
        capability: /^\d+\.\d+$/.test(capability ?? "")
          ? (capability ?? null)
          : null,
      };
    });
}

/** "[N/A]" where the driver does not say. */
function mebibytes(cell: string | undefined): number | null {
  return cell !== undefined && /^\d+$/.test(cell) ? Number(cell) * MIB : null;
}

function gpusOfDriver(files: SystemFiles): Gpu[] {
  const folder = "proc/driver/nvidia/gpus";
  return files.names(folder).map((bus) => {
    const text = files.text(`${folder}/${bus}/information`) ?? "";
    const name = /^Model:\s+(.+)$/m.exec(text)?.[1] ?? bus;
    return { name, totalMemory: null, freeMemory: null, capability: null };
  });
}

function reasonAgainst(
  files: SystemFiles,
  driver: string | null,
  gpus: Gpu[],
): string | null {
  const [bus] = cardsOnBus(files);
  if (driver === null && gpus.length === 0)
    return bus === undefined
      ? "no NVIDIA GPU on the PCI bus"
      : `an NVIDIA GPU is on the PCI bus (${bus}), but its driver is not loaded`;
  if (gpus.length === 0)
    return `the driver (${driver ?? "unknown"}) is loaded and finds no GPU`;
  if (!files.names("dev").some((name) => /^nvidia\d+$/.test(name)))
    return "the driver is loaded, but there is no /dev/nvidia0 here: in a container, start it with --gpus all (NVIDIA container toolkit)";
  const known = gpus.filter(({ capability }) => capability !== null);
  if (
    known.length === gpus.length &&
    known.every(({ capability }) => Number(capability) < MIN_CAPABILITY)
  )
    return `compute capability ${known[0]?.capability ?? ""}: the kernels need ${MIN_CAPABILITY}.0 or above`;
  return null;
}

/** PCI addresses of NVIDIA's display and 3D controllers. */
function cardsOnBus(files: SystemFiles): string[] {
  const folder = "sys/bus/pci/devices";
  return files
    .names(folder)
    .filter(
      (address) =>
        files.text(`${folder}/${address}/vendor`) === "0x10de" &&
        (files.text(`${folder}/${address}/class`) ?? "").startsWith("0x03"),
    );
}
