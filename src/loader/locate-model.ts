import { existsSync, statSync } from "node:fs";
import path from "node:path";
import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import { hubSettings } from "./hub-settings.js";
import { downloadModel, isHubName, type DownloadPhase } from "./hub.js";
import { packageRoot } from "./package-root.js";

export interface FoundModel {
  /** Absolute; in the Hugging Face layout. */
  directory: string;
  /** What to call it in requests unless told otherwise: the directory's name, or the hub name. */
  name: string;
}

export interface LocateOptions {
  /** Branch, tag or commit of a model by hub name. Default: main. */
  revision?: string | undefined;
  /** False: the weights are not needed. Default true. */
  weights?: boolean | undefined;
  /** Where the graph of an encoder in the hub's ONNX layout may be; without: a text model. */
  graphs?: readonly string[];
  /** Default: the process's. */
  environment?: NodeJS.ProcessEnv;
  /** The built-in model. */
  starterDirectory?: string;
  /** Of a download, in bytes. */
  onProgress?: (phase: DownloadPhase, done: number, total: number) => void;
  /** A line for the user. */
  onNotice?: (text: string) => void;
  /** Stops a download; what has come is kept. */
  signal?: AbortSignal | undefined;
}

/** What requests call the built-in model. */
export const STARTER_NAME = "octavo-starter";

/**
 * What a model's name stands for: a directory; a hub name (OWNER/NAME), downloaded where the cache doesn't have it;
 * nothing, or STARTER_NAME: the model built into Octavo. Errors: `invalid_config`, `not_found`, `download_failed`; `request_aborted` after
 * `signal`.
 */
export async function locateModel(
  model: string | undefined,
  options: LocateOptions = {},
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
  if (model === undefined || (model === STARTER_NAME && !existsSync(model)))
    return builtIn(
      options.starterDirectory ?? path.join(packageRoot(), "models/starter"),
    );
  if (!existsSync(model) || !statSync(model).isDirectory())
    throw new OctavoError(
      "invalid_config",
      `No model directory at "${model}". Expected a directory with config.json, ${options.graphs?.[0] ?? "*.safetensors"} and tokenizer.json, or a hub name (OWNER/NAME).`,
      "model",
    );
  const directory = path.resolve(model);
  return { directory, name: path.basename(directory) };
}

/**
 * The configuration with its draft model, where it has one, as a directory that `find` found (see locateModel). Errors:
 * those of `find`, said of speculative-config.
 */
export async function withDraftDirectory(
  config: EngineConfig,
  find: (
    model: string,
    options: Pick<LocateOptions, "revision" | "weights">,
  ) => Promise<FoundModel>,
): Promise<EngineConfig> {
  const { speculativeConfig: speculation, loadFormat } = config;
  if (speculation?.method !== "draft_model") return config;
  try {
    const { directory } = await find(speculation.model, {
      revision: speculation.revision ?? undefined,
      weights: loadFormat !== "dummy",
    });
    return {
      ...config,
      speculativeConfig: { ...speculation, model: directory },
    };
  } catch (error) {
    if (!(error instanceof OctavoError)) throw error;
    const param = `speculative-config.${error.param === "revision" ? "revision" : "model"}`;
    throw new OctavoError(error.code, `${param}: ${error.message}`, param, {
      cause: error,
    });
  }
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

async function download(repo: string, options: LocateOptions): Promise<string> {
  try {
    return await downloadModel({
      repo,
      revision: options.revision ?? "main",
      settings: hubSettings(options.environment ?? process.env),
      weights: options.weights ?? true,
      graphs: options.graphs ?? null,
      ...(options.onProgress && { onProgress: options.onProgress }),
      ...(options.onNotice && { onNotice: options.onNotice }),
      ...(options.signal && { signal: options.signal }),
    });
  } catch (error) {
    if (error instanceof OctavoError && error.code === "not_found")
      throw new OctavoError(
        error.code,
        `${error.message} There is no directory ${repo} here either.`,
        error.param,
      );
    throw error;
  }
}
