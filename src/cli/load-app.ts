import { OctavoError } from "../core/errors.js";
import { EngineClient } from "../engine/engine-client.js";
import type { EngineInfo, LoadPhase } from "../engine/messages.js";
import { withDraftDirectory } from "../loader/locate-model.js";
import { createApp } from "../server/app.js";
import type { ServedEncoder } from "../server/encoder/served-encoder.js";
import type { RequestTracer } from "../server/tracing.js";
import { loadChatTemplate, type ChatTemplate } from "../text/chat-template.js";
import { loadTokenizer } from "../text/tokenizer.js";
import { findModel } from "./find-model.js";
import { ProgressBar } from "./format.js";
import { httpOptions, openKeysFile } from "./http-options.js";
import { findEncoder, loadEncoder } from "./load-encoder.js";
import type { LoadedApp } from "./loaded-app.js";
import { engineConfig, type ServeOptions } from "./serve-flags.js";
import type { StartupClock } from "./startup-clock.js";
import { VERSION } from "./version.js";

/** A running engine and the HTTP server over it, which listens nowhere yet. */
export interface LoadedTextApp extends LoadedApp {
  engine: EngineClient;
  chatTemplate: ChatTemplate;
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
): Promise<LoadedTextApp> {
  const keysFile = openKeysFile(options);
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
      ...httpOptions(options, keysFile),
      engine,
      tokenizer,
      chatTemplate,
      trustRequestChatTemplate: options.trustRequestChatTemplate,
      toolCallParser: options.toolCallParser,
      reasoningParser: options.reasoningParser,
      servedModelNames: names,
      encoder: encoder ?? undefined,
      modelPath: directory,
      streamInterval: options.streamInterval,
      logRequests: options.enableLogRequests
        ? { maxLength: options.maxLogLen ?? null }
        : undefined,
      tracer: tracer ?? undefined,
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
