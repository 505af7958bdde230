import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import type { Addon, DeviceInfo } from "../runner/addon.js";
import { fromNativeError } from "../runner/native-runner.js";

type NativeDevice = Exclude<EngineConfig["device"], "null">;

export interface ChosenDevice {
  description: DeviceInfo;
  /** Why this one, where none was asked for. */
  reason: string | null;
}

/** Devices whose backend is a library of its own beside the addon, and the command that builds it. */
const LIBRARIES: Readonly<Record<string, string>> = {
  cuda: "npm run build:cuda",
  "cuda-sim": "npm run build:cuda-sim",
};

/** What a device is, or one line that says why this process can't compute on it. */
export function probeDevice(
  addon: Pick<Addon, "describeDevice">,
  device: string,
  threads: number,
): DeviceInfo | string {
  try {
    return addon.describeDevice(device, threads);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ERR_OCTAVO_ARGUMENT" && LIBRARIES[device] !== undefined)
      return `this build has no ${device} library (${LIBRARIES[device]} makes it)`;
    if (code === "ERR_OCTAVO_DEVICE")
      return message.replace(`device ${device}: `, "");
    throw fromNativeError(error);
  }
}

/**
 * The device to compute on. `auto` takes a GPU where one can be used and the processor where none can, and says in one
 * line why. Throws device_error when the device that was asked for can't be used.
 */
export function chooseDevice(
  addon: Pick<Addon, "describeDevice">,
  device: NativeDevice,
  threads: number,
): ChosenDevice {
  const wanted = device === "auto" ? "cuda" : device;
  const found = probeDevice(addon, wanted, threads);
  if (typeof found !== "string")
    return {
      description: found,
      reason: device === "auto" ? "--device auto: a GPU is here" : null,
    };
  if (device !== "auto")
    throw new OctavoError(
      "device_error",
      `--device ${device}: ${found}.`,
      "device",
    );
  return {
    description: addon.describeDevice("cpu", threads),
    reason: `--device auto: not cuda: ${found}`,
  };
}
