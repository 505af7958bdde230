import { loadAddon } from "../runner/addon.js";

/**
 * Threads that a number of CPU threads stands for: 0 is one for each physical core that the process may use, quotas of
 * its groups included.
 */
export function cpuThreads(threads: number): number {
  return threads > 0 ? threads : loadAddon().describeDevice("cpu", 0).threads;
}
