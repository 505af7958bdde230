import { loadAddon } from "../../runner/addon.js";
import type { DeviceInfo } from "../../runner/addon.js";
import { translated } from "../../runner/native-runner.js";
import { chooseDevice } from "../../engine/choose-device.js";
import { SERVE_FLAGS } from "../serve-flags.js";
import type { BuildFacts } from "./build.js";
import { messageOf } from "./build.js";
import type { GpuFacts } from "./gpus.js";

export interface DeviceFacts {
  name: string;
  /** What `--device` of this name would compute on; null where it can't. */
  info: DeviceInfo | null;
  /** Why it can't. */
  reason: string | null;
}

/** What serves people, the fastest first; the rest of --device is for tests. */
const DEVICES = ["cuda", "cpu", "reference"];

export function deviceFacts(build: BuildFacts, gpu: GpuFacts): DeviceFacts[] {
  return DEVICES.map((name) => {
    const reason = reasonAgainst(name, build, gpu);
    if (reason !== null) return { name, info: null, reason };
    try {
      const info = translated(() => loadAddon().describeDevice(name, 0));
      return { name, info, reason: null };
    } catch (error) {
      return { name, info: null, reason: messageOf(error) };
    }
  });
}

/** Reasons that are known before the device is asked: clearer than what it would say. */
function reasonAgainst(
  name: string,
  { addon, cuda }: BuildFacts,
  gpu: GpuFacts,
): string | null {
  if ("reason" in addon) return addon.reason;
  if (name !== "cuda") return null;
  if (gpu.reason !== null) return gpu.reason;
  const served = SERVE_FLAGS.find((flag) => flag.name === "device")?.choices;
  if (!served?.includes(name)) return "this version does not serve with it";
  return "reason" in cuda ? cuda.reason : null;
}

/** What `--device auto` would take, and why. */
export function autoDevice(): { name: string; reason: string | null } | null {
  try {
    const { description, reason } = chooseDevice(loadAddon(), "auto", 0);
    return { name: description.device, reason };
  } catch {
    return null;
  }
}
