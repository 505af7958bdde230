import { OctavoError } from "../core/errors.js";
import { onnxFiles } from "../core/onnx-files.js";
import { cpuThreads } from "../engine/cpu-threads.js";
import { createEncoderApp } from "../server/app.js";
import type { ServedEncoder } from "../server/encoder/served-encoder.js";
import { findModel } from "./find-model.js";
import { httpOptions, openKeysFile } from "./http-options.js";
import type { LoadedApp } from "./loaded-app.js";
import type { ServeOptions } from "./serve-flags.js";
import type { StartupClock } from "./startup-clock.js";

/** An encoder without a text model beside it. Errors: those of findEncoder and loadEncoder. */
export async function loadEncoderApp(
  options: ServeOptions,
  clock: StartupClock,
): Promise<LoadedApp> {
  const keysFile = openKeysFile(options);
  const http = httpOptions(options, keysFile);
  const found = await findEncoder(options, []);
  if (found === null) throw new Error("--embedding-model was not given");
  clock.end("find");
  const encoder = await loadEncoder(found, options);
  clock.end("weights");
  return {
    app: createEncoderApp({ ...http, encoder }),
    engine: null,
    encoder: encoder.encoder,
    names: found.names,
    chatTemplate: null,
    tracer: null,
    keysFile,
  };
}

export interface FoundEncoder {
  readonly directory: string;
  /** What requests call it. */
  readonly names: readonly string[];
}

/**
 * Where the embedding model is; null: none was asked for.
 * @param taken names of the text model; none: there is no text model
 * Errors: those of findModel; `invalid_config` for a name that is taken.
 */
export async function findEncoder(
  options: ServeOptions,
  taken: readonly string[],
): Promise<FoundEncoder | null> {
  const { embeddingModel, embeddingModelFile, servedEmbeddingModelName } =
    options;
  const flag = "served-embedding-model-name";
  if (embeddingModel === undefined) {
    if (servedEmbeddingModelName !== undefined) throw withoutModel(flag);
    if (embeddingModelFile !== undefined)
      throw withoutModel("embedding-model-file");
    return null;
  }
  const { directory, name } = await findModel(embeddingModel, {
    graphs: onnxFiles(embeddingModelFile),
    // Beside a text model it is that one's.
    revision: taken.length === 0 ? options.revision : undefined,
  });
  const names = servedEmbeddingModelName ?? [name];
  const twice = names.find((one) => taken.includes(one));
  if (twice === undefined) return { directory, names };
  throw new OctavoError(
    "invalid_config",
    `"${twice}" names the text model already; --${flag} gives the embedding model another.`,
    flag,
  );
}

function withoutModel(flag: string): OctavoError {
  return new OctavoError(
    "invalid_config",
    `--${flag} belongs to the model of --embedding-model, which was not given.`,
    flag,
  );
}

/** Errors: those of Encoder.load. */
export async function loadEncoder(
  { directory, names }: FoundEncoder,
  options: ServeOptions,
): Promise<ServedEncoder> {
  const { embeddingModelFile, threads } = options;
  const { maxNumQueuedReqs, maxNumQueuedTokens } = options;
  // Only where it is asked for: it brings its runtime.
  const { Encoder } = await import("../encoder/encoder.js");
  const encoder = await Encoder.load(directory, {
    threads: cpuThreads(threads),
    maxNumQueuedReqs,
    maxNumQueuedTokens,
    ...(embeddingModelFile !== undefined && { modelFile: embeddingModelFile }),
  });
  return { encoder, names };
}
