import { existsSync, statSync } from "node:fs";
import path from "node:path";
import { OctavoError } from "../core/errors.js";
import { downloadModel, isHubName, type DownloadPhase } from "../loader/hub.js";
import { hubSettings } from "../loader/hub-settings.js";
import { formatBytes, ProgressBar } from "./format.js";
import { packageRoot } from "./version.js";

export interface FoundModel {
  /** Absolute; in the Hugging Face layout. */
  directory: string;
  /** What to call it in requests unless told otherwise: the directory's name, or the hub name. */
  name: string;
}

export interface FindOptions {
  /** Branch, tag or commit of a model by hub name. Default: main. */
  revision?: string | undefined;
  /** False: the weights are not needed. Default true. */
  weights?: boolean | undefined;
  environment?: NodeJS.ProcessEnv;
  /** The built-in model. */
  starterDirectory?: string;
}

/** What requests call the built-in model. */
export const STARTER_NAME = "octavo-starter";

/**
 * What every command's MODEL stands for: a directory; a hub name (OWNER/NAME), downloaded where the cache doesn't have
 * it, with progress on stderr and Ctrl-C leaving a state to go on from; nothing: the model built into Octavo.
 * Errors: `invalid_config`, `download_failed`.
 */
export async function findModel(
  model: string | undefined,
  options: FindOptions = {},
): Promise<FoundModel> {
  const { revision } = options;
  if (model !== undefined && isHubName(model) && !existsSync(model))
    return { directory: await download(model, options), name: model };
  if (revision !== undefined)
    throw new OctavoError(
      "invalid_config",
      `--revision belongs to a model by hub name (OWNER/NAME), got ${model === undefined ? "no model" : `the model "${model}"`}.`,
      "revision",
    );
  if (model === undefined)
    return builtIn(
      options.starterDirectory ?? path.join(packageRoot(), "models/starter"),
    );
  if (!existsSync(model) || !statSync(model).isDirectory())
    throw new OctavoError(
      "invalid_config",
      `No model directory at "${model}". Expected a directory with config.json, *.safetensors and tokenizer.json, or a hub name (OWNER/NAME).`,
      "model",
    );
  const directory = path.resolve(model);
  return { directory, name: path.basename(directory) };
}

function builtIn(directory: string): FoundModel {
  if (existsSync(path.join(directory, "config.json")))
    return { directory, name: STARTER_NAME };
  throw new OctavoError(
    "invalid_config",
    `Name a model: a directory (octavo serve DIR) or a hub name (octavo serve OWNER/NAME). The built-in one is missing from ${directory}.`,
    "model",
  );
}

async function download(repo: string, options: FindOptions): Promise<string> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
  const bars = new Map<DownloadPhase, ProgressBar>();
  try {
    return await downloadModel({
      repo,
      revision: options.revision ?? "main",
      settings: hubSettings(options.environment ?? process.env),
      weights: options.weights ?? true,
      onProgress: (phase, done, total) => {
        let bar = bars.get(phase);
        if (!bar) {
          const size = formatBytes(total);
          bar = new ProgressBar(`Downloading ${repo}: ${phase} (${size})`);
          bars.set(phase, bar);
        }
        bar.update(done, total);
      },
      onNotice: (text) => process.stderr.write(`${text}\n`),
      signal: stop.signal,
    });
  } catch (error) {
    if (error instanceof OctavoError && error.code === "not_found")
      throw new OctavoError(
        error.code,
        `${error.message} There is no directory ${repo} here either.`,
        error.param,
      );
    if (!stop.signal.aborted) throw error;
    process.stderr.write(`\noctavo: ${(error as Error).message}\n`);
    process.exit(130);
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
}
