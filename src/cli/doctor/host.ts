import os from "node:os";
import type { SystemFiles } from "./files.js";

export interface HostFacts {
  system: string;
  node: string;
  processor: string;
  logicalCores: number;
  numaNodes: number;
  /** Bytes, of the machine and of what this process may still take. */
  totalMemory: number;
  availableMemory: number;
  /** What a container is bound to; null: no bound. */
  memoryLimit: number | null;
  cpuLimit: number | null;
  /** Soft limit of open files; null: unlimited or unknown. */
  openFiles: number | null;
}

export function hostFacts(files: SystemFiles): HostFacts {
  const total = os.totalmem();
  // Above the machine's memory it bounds nothing (0 on some systems, 2^63 with cgroup v1).
  const constrained = process.constrainedMemory();
  return {
    system: `${os.type()} ${os.release()} ${process.arch}`,
    node: process.versions.node,
    processor: os.cpus()[0]?.model ?? "unknown",
    logicalCores: os.cpus().length,
    numaNodes: numaNodes(files),
    totalMemory: total,
    availableMemory: process.availableMemory(),
    memoryLimit: constrained > 0 && constrained < total ? constrained : null,
    cpuLimit: cpuLimit(files),
    openFiles: openFiles(files),
  };
}

function numaNodes(files: SystemFiles): number {
  const nodes = files
    .names("sys/devices/system/node")
    .filter((name) => /^node\d+$/.test(name));
  return Math.max(1, nodes.length);
}

/** CPUs that the control group may use: quota / period, of version 2, then 1. */
export function cpuLimit(files: SystemFiles): number | null {
  const group = "sys/fs/cgroup";
  const [quota, period] = (files.text(`${group}/cpu.max`) ?? "").split(" ");
  if (quota && period)
    return quota === "max" ? null : Number(quota) / Number(period);
  const old = files.number(`${group}/cpu/cpu.cfs_quota_us`);
  const oldPeriod = files.number(`${group}/cpu/cpu.cfs_period_us`);
  return old !== null && oldPeriod ? old / oldPeriod : null;
}

function openFiles(files: SystemFiles): number | null {
  const limits = files.text("proc/self/limits") ?? "";
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? null : Number(soft);
}
