import type { DeviceInfo } from "../runner/addon.js";

/** One line for people where more threads were asked for than can run at once; null where all can. */
export function threadsWarning(
  threads: number,
  device: Pick<DeviceInfo, "device" | "hostMemory" | "processors">,
): string | null {
  // Elsewhere the device computes, not the host's threads.
  if (!device.hostMemory || device.device === "null") return null;
  if (threads <= device.processors) return null;
  const processors =
    device.processors === 1 ? "1 processor" : `${device.processors} processors`;
  return `--threads ${threads}: this process may use ${processors} at once, and each step waits for threads that have to take turns. Set --threads ${device.processors} or less, or 0 for one per physical core.`;
}
