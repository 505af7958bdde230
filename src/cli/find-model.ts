import { constants } from "node:os";
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

let numSearches = 0;

/**
 * What every command's MODEL stands for (locateModel), with progress of a download on stderr and Ctrl-C leaving a state
 * to go on from. Errors: `invalid_config`, `not_found`, `download_failed`.
 */
export async function findModel(
  model: string | undefined,
  options: FindOptions = {},
): Promise<FoundModel> {
  const stop = new AbortController();
  let code = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    code = 128 + constants.signals[signal];
    stop.abort();
  };
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
  numSearches++;
  const bars = new Map<DownloadPhase, ProgressBar>();
  try {
    const found = await locateModel(model, {
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
    if (!stop.signal.aborted) return found;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    process.stderr.write(`\noctavo: ${(error as Error).message}\n`);
  } finally {
    numSearches--;
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
  process.exit(code);
}

/** While a model is being found, findModel itself ends the process at a signal, with a word on what has been downloaded. */
export function isFindingModel(): boolean {
  return numSearches > 0;
}
