import { readFileSync } from "node:fs";
import { OctavoError } from "../core/errors.js";
import { onnxFiles } from "../core/onnx-files.js";
import type { Encoder } from "../encoder/encoder.js";
import { EngineClient } from "../engine/engine-client.js";
import type { EngineInfo, LoadPhase } from "../engine/messages.js";
import { withDraftDirectory } from "../loader/locate-model.js";
import { createApp, type App } from "../server/app.js";
import type { ServedEncoder } from "../server/encoder/served-encoder.js";
import { KeysFile } from "../server/keys-file.js";
import type { RequestTracer } from "../server/tracing.js";
import { loadChatTemplate, type ChatTemplate } from "../text/chat-template.js";
import { loadTokenizer } from "../text/tokenizer.js";
import { findModel } from "./find-model.js";
import { ProgressBar } from "./format.js";
import { engineConfig, type ServeOptions } from "./serve-flags.js";
import type { StartupClock } from "./startup-clock.js";
import { VERSION } from "./version.js";

/** A running engine and the HTTP server over it, which listens nowhere yet. */
export interface LoadedApp {
  app: App;
  engine: EngineClient;
  /** Null without --embedding-model. */
  encoder: Encoder | null;
  /** What requests may call the model. At least one. */
  names: string[];
  chatTemplate: ChatTemplate;
  /** Null unless traces are asked for. */
  tracer: RequestTracer | null;
  /** Null unless keys are in a file. */
  keysFile: KeysFile | null;
}

export interface LoadHooks {
  /** What was decided, before anything is loaded. */
  onPlan?: (directory: string, info: EngineInfo) => void;
  clock?: StartupClock;
}

/** Finds the model and loads it, with progress on stderr. Throws OctavoError for what the user can mend. */
export async function loadApp(
  model: string | undefined,
  options: ServeOptions,
  { onPlan, clock }: LoadHooks = {},
): Promise<LoadedApp> {
  const { apiKeysFile } = options;
  const keysFile = apiKeysFile === undefined ? null : new KeysFile(apiKeysFile);
  const { directory, name } = await findModel(model, {
    revision: options.revision,
    weights: options.loadFormat !== "dummy",
  });
  const config = await withDraftDirectory(
    engineConfig(directory, options),
    findModel,
  );
  const names = options.servedModelName ?? [name];
  const foundEncoder = await findEncoder(options, names);
  clock?.end("find");
  const tracer = await startTracer(options, names[0] ?? "");
  const progress: Record<LoadPhase, ProgressBar> = {
    tiles: new ProgressBar("Measuring tiles"),
    weights: new ProgressBar("Loading weights"),
  };
  const [engine, tokenizer, chatTemplate] = await Promise.all([
    EngineClient.start(config, {
      onPlan: (info) => {
        clock?.end("plan");
        onPlan?.(directory, info);
      },
      onNotice: (text) => process.stderr.write(`${text}\n`),
      onProgress: (phase, done, total) => progress[phase].update(done, total),
    }),
    loadTokenizer(directory),
    loadChatTemplate(directory, options.chatTemplate),
  ]);
  let encoder: ServedEncoder | null = null;
  try {
    checkQuantization(options.quantization, engine.info);
    if (foundEncoder !== null)
      encoder = await loadEncoder(foundEncoder, options);
    clock?.end("weights");
    const app = createApp({
      engine,
      tokenizer,
      chatTemplate,
      trustRequestChatTemplate: options.trustRequestChatTemplate,
      toolCallParser: options.toolCallParser,
      reasoningParser: options.reasoningParser,
      servedModelNames: names,
      encoder: encoder ?? undefined,
      modelPath: directory,
      apiKeys: options.apiKey ?? [],
      keysFile: keysFile ?? undefined,
      adminApiKey: options.adminApiKey,
      metricsApiKey: options.metricsApiKey,
      allowedOrigins: options.allowedOrigins ?? [],
      streamInterval: options.streamInterval,
      livenessTimeoutSeconds: options.livenessTimeout,
      logLevel: options.logLevel,
      logRequests: options.enableLogRequests
        ? { maxLength: options.maxLogLen ?? null }
        : undefined,
      metrics: !options.disableLogStats,
      metricsCompat: options.metricsCompat,
      tracer: tracer ?? undefined,
      tls: readTls(options),
      version: VERSION,
      seed: options.seed,
      cacheConfig: {
        enablePrefixCaching: options.enablePrefixCaching,
        gpuMemoryUtilization: options.gpuMemoryUtilization,
      },
    });
    return {
      app,
      engine,
      encoder: encoder?.encoder ?? null,
      names,
      chatTemplate,
      tracer,
      keysFile,
    };
  } catch (error) {
    await encoder?.encoder.close();
    await engine.close();
    throw error;
  }
}

interface FoundEncoder {
  readonly directory: string;
  /** What requests call it. */
  readonly names: readonly string[];
}

/**
 * Where the embedding model is; null: none was asked for. Errors: those of findModel; `invalid_config` for a name that
 * the text model has.
 */
async function findEncoder(
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
async function loadEncoder(
  { directory, names }: FoundEncoder,
  options: ServeOptions,
): Promise<ServedEncoder> {
  const { embeddingModelFile, threads } = options;
  const { maxNumQueuedReqs, maxNumQueuedTokens } = options;
  // Only where it is asked for: it brings its runtime.
  const { Encoder } = await import("../encoder/encoder.js");
  const encoder = await Encoder.load(directory, {
    threads,
    maxNumQueuedReqs,
    maxNumQueuedTokens,
    ...(embeddingModelFile !== undefined && { modelFile: embeddingModelFile }),
  });
  return { encoder, names };
}

/** --quantization states what the checkpoint is; the checkpoint decides. */
function checkQuantization(asked: string | undefined, info: EngineInfo): void {
  if (asked === undefined) return;
  const schemes: Record<string, string> = {
    awq: "awq-int4",
    gptq: "gptq-int4",
    "compressed-tensors": "compressed-int4",
  };
  if (!info.quantization.startsWith(schemes[asked] ?? asked))
    throw new OctavoError(
      "invalid_config",
      `--quantization ${asked}: the checkpoint is ${info.quantization}.`,
      "quantization",
    );
}

/** Null unless traces are asked for; the packages that send them are loaded only then. */
async function startTracer(
  options: ServeOptions,
  modelName: string,
): Promise<RequestTracer | null> {
  const { otlpTracesEndpoint: endpoint } = options;
  if (endpoint === undefined) return null;
  const { startTracing } = await import("../server/tracing.js");
  return startTracing({
    endpoint,
    modelName,
    version: VERSION,
    onProblem: (message) => process.stderr.write(`Traces: ${message}\n`),
  });
}

function readTls(
  options: ServeOptions,
): { key: Buffer; cert: Buffer } | undefined {
  const { sslKeyfile, sslCertfile } = options;
  if (sslKeyfile === undefined && sslCertfile === undefined) return undefined;
  if (sslKeyfile === undefined || sslCertfile === undefined)
    throw new OctavoError(
      "invalid_config",
      "--ssl-keyfile and --ssl-certfile go together; only one was given.",
      sslKeyfile ? "ssl-certfile" : "ssl-keyfile",
    );
  const read = (flag: string, file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw new OctavoError(
        "invalid_config",
        `--${flag}: cannot read ${file}: ${(error as Error).message}`,
        flag,
      );
    }
  };
  return {
    key: read("ssl-keyfile", sslKeyfile),
    cert: read("ssl-certfile", sslCertfile),
  };
}
