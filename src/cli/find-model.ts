import type { DownloadPhase } from "../loader/hub.js";
import {
  locateModel,
  type FoundModel,
  type LocateOptions,
} from "../loader/locate-model.js";
import { formatBytes, ProgressBar } from "./format.js";

export type FindOptions = Omit<
  LocateOptions,
  "onProgress" | "onNotice" | "signal"
>;

/**
 * What every command's MODEL stands for (locateModel), with progress of a download on stderr and Ctrl-C leaving a state
 * to go on from. Errors: `invalid_config`, `not_found`, `download_failed`.
 */
export async function findModel(
  model: string | undefined,
  options: FindOptions = {},
): Promise<FoundModel> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
  const bars = new Map<DownloadPhase, ProgressBar>();
  try {
    return await locateModel(model, {
      ...options,
      onProgress: (phase, done, total) => {
        let bar = bars.get(phase);
        if (!bar) {
          const size = formatBytes(total);
          bar = new ProgressBar(`Downloading ${model}: ${phase} (${size})`);
          bars.set(phase, bar);
        }
        bar.update(done, total);
      },
      onNotice: (text) => process.stderr.write(`${text}\n`),
      signal: stop.signal,
    });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    process.stderr.write(`\noctavo: ${(error as Error).message}\n`);
    process.exit(130);
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
}
