import { existsSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { chooseDevice, probeDevice } from "../../src/engine/choose-device.js";
import { addonFile, loadAddon } from "../../src/runner/addon.js";
import type { DeviceInfo } from "../../src/runner/addon.js";

const GPU = { device: "cuda", description: "a GPU" } as DeviceInfo;
const CPU = { device: "cpu", description: "a processor" } as DeviceInfo;

/** An addon whose cuda backend ends with this error, as backend.cc throws it. */
function without(code: string, message: string) {
  return {
    describeDevice: (device: string): DeviceInfo => {
      if (device !== "cuda") return CPU;
      throw Object.assign(new Error(message), { code });
    },
  };
}

const here = { describeDevice: (d: string) => (d === "cuda" ? GPU : CPU) };

describe("chooseDevice", () => {
  it("takes the GPU under auto, and what was asked for otherwise", () => {
    expect(chooseDevice(here, "auto", 0).description).toBe(GPU);
    expect(chooseDevice(here, "cpu", 0)).toEqual({
      description: CPU,
      reason: null,
    });
    expect(chooseDevice(here, "cuda", 0)).toEqual({
      description: GPU,
      reason: null,
    });
  });

  it.each([
    [
      "ERR_OCTAVO_ARGUMENT",
      'device: expected one of cpu, reference, got "cuda"',
      "this build has no cuda library (npm run build:cuda makes it)",
    ],
    [
      "ERR_OCTAVO_DEVICE",
      "device cuda: no NVIDIA driver was found (libcuda.so.1)",
      "no NVIDIA driver was found (libcuda.so.1)",
    ],
    [
      "ERR_OCTAVO_DEVICE",
      "device cuda: the driver supports CUDA 12.2, this build needs 13.0 or newer",
      "the driver supports CUDA 12.2, this build needs 13.0 or newer",
    ],
    [
      "ERR_OCTAVO_DEVICE",
      "device cuda: Tesla T4 has compute capability 7.5, expected 8.0 or newer",
      "Tesla T4 has compute capability 7.5, expected 8.0 or newer",
    ],
  ])("%s: one line says why there is no GPU", (code, message, reason) => {
    const addon = without(code, message);
    expect(chooseDevice(addon, "auto", 0)).toEqual({
      description: CPU,
      reason: `--device auto: not cuda: ${reason}`,
    });
    expect(() => chooseDevice(addon, "cuda", 0)).toThrow(
      `--device cuda: ${reason}.`,
    );
    expect(probeDevice(addon, "cuda", 0)).toBe(reason);
  });

  const library = path.join(path.dirname(addonFile()), "liboctavo_cuda.so");
  it.runIf(existsSync(library))("the real library says it too", () => {
    const found = probeDevice(loadAddon(), "cuda", 0);
    if (typeof found !== "string") expect(found.isa).toMatch(/^sm_\d+$/);
    else expect(found).toMatch(/^[^\n]*(driver|device|capability)[^\n]*$/);
  });

  it("does not take a mistake for a missing device", () => {
    const addon = without("ERR_OCTAVO_MEMORY", "host memory: none");
    expect(() => chooseDevice(addon, "auto", 0)).toThrow("host memory: none");
  });
});
