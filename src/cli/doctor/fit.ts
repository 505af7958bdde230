import type { EngineConfig } from "../../core/config.js";
import type { EngineInfo } from "../../engine/messages.js";
import type { PreparedDraft } from "../../engine/draft-model.js";
import { planEngine } from "../../engine/plan-engine.js";
import type { PreparedModel } from "../../engine/prepare-model.js";
import { messageOf } from "./build.js";
import type { DeviceFacts } from "./devices.js";

/** What a model takes and leaves on one device. */
export interface Fit {
  device: string;
  info: EngineInfo | null;
  /** Why it does not fit, with the flag to change. */
  reason: string | null;
}

/** The plan that `serve` would make with the same flags on each device. */
export function fitOn(
  devices: DeviceFacts[],
  config: EngineConfig,
  model: PreparedModel,
  draft: PreparedDraft | null,
): Fit[] {
  return devices.map(({ name, reason }) => {
    if (reason !== null) return { device: name, info: null, reason };
    try {
      const device = name as EngineConfig["device"];
      const { info } = planEngine({ ...config, device }, model, draft);
      return { device: name, info, reason: null };
    } catch (error) {
      return { device: name, info: null, reason: messageOf(error) };
    }
  });
}
