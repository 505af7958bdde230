import { formatBytes } from "../format.js";
import { planTable } from "../serve-report.js";
import type { BuildFacts } from "./build.js";
import type { DeviceFacts } from "./devices.js";
import type { Fit } from "./fit.js";
import type { Gpu, GpuFacts } from "./gpus.js";
import type { HostFacts } from "./host.js";

/** Everything that `octavo doctor` found; what --json prints. */
export interface Diagnosis {
  /** Something can run here: a device, and with a model, that model on it. */
  ok: boolean;
  host: HostFacts;
  gpu: GpuFacts;
  build: BuildFacts;
  devices: DeviceFacts[];
  /** What --device auto takes; null where nothing works. */
  auto: { name: string; reason: string | null } | null;
  model: { directory: string; fits: Fit[] } | null;
  warnings: string[];
}

export function reportText(diagnosis: Diagnosis): string {
  const { host, gpu, build, devices, auto, model, warnings, ok } = diagnosis;
  const parts = [
    section("Machine", hostRows(host)),
    section("GPU", gpuRows(gpu)),
    section("Octavo", buildRows(build)),
    section("Devices", deviceRows(devices, auto)),
  ];
  if (model)
    for (const fit of model.fits)
      parts.push(`On ${fit.device}\n${fitText(model.directory, fit)}`);
  if (warnings.length > 0)
    parts.push(`Warnings\n${warnings.map((text) => `  ! ${text}`).join("\n")}`);
  parts.push(verdict(ok, model !== null));
  return parts.join("\n\n");
}

type Row = [name: string, value: string];

function section(title: string, rows: Row[]): string {
  const lines = rows.map(([name, value]) => `  ${name.padEnd(12)} ${value}`);
  return [title, ...lines].join("\n");
}

function hostRows(host: HostFacts): Row[] {
  const limits: string[] = [];
  if (host.memoryLimit !== null) limits.push(formatBytes(host.memoryLimit));
  if (host.cpuLimit !== null) limits.push(`${host.cpuLimit} CPUs`);
  const rows: Row[] = [
    ["system", host.system],
    [
      "processor",
      `${host.processor}, ${host.logicalCores} logical cores, ${host.numaNodes} NUMA node${host.numaNodes > 1 ? "s" : ""}`,
    ],
    [
      "memory",
      `${formatBytes(host.totalMemory)}, ${formatBytes(host.availableMemory)} available`,
    ],
    [
      "open files",
      host.openFiles === null ? "unlimited" : String(host.openFiles),
    ],
    ["node", host.node],
  ];
  if (limits.length > 0)
    rows.splice(3, 0, ["container", `limited to ${limits.join(", ")}`]);
  return rows;
}

function gpuRows({ driver, gpus, reason }: GpuFacts): Row[] {
  const rows: Row[] = gpus.map((gpu, i) => [String(i), gpuText(gpu)]);
  rows.unshift(["driver", driver ?? "none"]);
  if (reason !== null) rows.push(["unusable", reason]);
  return rows;
}

function gpuText({ name, totalMemory, freeMemory, capability }: Gpu): string {
  const facts = [name];
  if (capability !== null) facts.push(`compute capability ${capability}`);
  if (totalMemory !== null)
    facts.push(
      `${formatBytes(totalMemory)}${freeMemory === null ? "" : `, ${formatBytes(freeMemory)} free`}`,
    );
  return facts.join(", ");
}

function buildRows({
  octavo,
  addon,
  cuda,
  optionalPackages,
}: BuildFacts): Row[] {
  const packages = Object.entries(optionalPackages).map(
    ([name, version]) => `${name} ${version ?? "(not installed)"}`,
  );
  return [
    ["version", octavo],
    [
      "addon",
      "reason" in addon ? addon.reason : `${addon.version}, ${addon.file}`,
    ],
    [
      "CUDA library",
      "reason" in cuda
        ? cuda.reason
        : `${cuda.file} for ${cuda.architectures.join(", ") || "no known architecture"}`,
    ],
    ["optional", packages.join(", ") || "none"],
  ];
}

function deviceRows(devices: DeviceFacts[], auto: Diagnosis["auto"]): Row[] {
  const rows: Row[] = devices.map(({ name, info, reason }) => [
    name,
    info
      ? `${info.description}, ${info.isa}, ${info.threads} threads, ${formatBytes(info.availableMemory)} available`
      : `no: ${reason ?? ""}`,
  ]);
  rows.push([
    "auto",
    auto ? `${auto.name}${auto.reason ? ` (${auto.reason})` : ""}` : "nothing",
  ]);
  return rows;
}

function fitText(directory: string, { info, reason }: Fit): string {
  return info ? planTable(directory, info) : `  no: ${reason ?? ""}`;
}

function verdict(ok: boolean, withModel: boolean): string {
  if (ok)
    return withModel
      ? "The model can be served here."
      : "Models can be served here.";
  return withModel
    ? "The model cannot be served here: see the reasons above."
    : "Nothing can be served here: see the reasons above.";
}
