import type { FastifyBaseLogger } from "fastify";
import { now } from "../core/config.js";
import { GrammarPool } from "../grammar/grammar-pool.js";
import { vocabularyOf } from "../grammar/vocabulary.js";
import { dialectOf } from "../text/turn/dialect.js";
import { keyNames } from "./auth.js";
import type { MeterOptions } from "./meters.js";
import { ServerMetrics } from "./metrics.js";
import type {
  AppOptions,
  EncoderAppOptions,
  HttpContext,
  HttpOptions,
  ServerContext,
} from "./options.js";
import { Quotas } from "./quotas.js";
import { RequestLog } from "./request-log.js";
import { RequestTemplates } from "./request-templates.js";
import { RequestRegistry } from "./request-registry.js";
import { SeedSource } from "./seeds.js";
import { StreamHub } from "./sse.js";

const DEFAULT_BACKLOG = 2 ** 20;

function createGrammarPool(options: AppOptions): GrammarPool {
  const { engine, tokenizer, grammarWorkerUrl } = options;
  const { vocabSize, eosTokenIds, maxNumSamples } = engine.info;
  return new GrammarPool({
    vocabulary: () => vocabularyOf(tokenizer, vocabSize, eosTokenIds),
    words: Math.ceil(vocabSize / 32),
    maxRows: maxNumSamples,
    attach: (channel, memory, sizes) =>
      engine.attachGrammars(channel, memory, sizes),
    canEnd: eosTokenIds.length > 0,
    ...(grammarWorkerUrl && { workerUrl: grammarWorkerUrl }),
  });
}

/** Of a server without a text model. */
export function createEncoderContext(options: EncoderAppOptions): HttpContext {
  const { encoder, names } = options.encoder;
  return httpContext(options, {
    engine: null,
    servedModelNames: [],
    modelPath: null,
    metrics: createMetrics(options, {
      engine: null,
      modelName: names[0] ?? "",
      maxLength: encoder.info.maxLength,
    }),
  });
}

function createMetrics(
  options: HttpOptions,
  of: Pick<MeterOptions, "engine" | "modelName" | "maxLength">,
): ServerMetrics | null {
  if (options.metrics === false) return null;
  const encoder = options.encoder?.encoder ?? null;
  return new ServerMetrics(
    { ...of, keys: keyNames(options), encoder },
    options.metricsCompat ?? false,
  );
}

function httpContext<
  T extends Pick<
    HttpContext,
    "engine" | "servedModelNames" | "modelPath" | "metrics"
  >,
>(options: HttpOptions, parts: T) {
  const { keysFile, quotaClock = now } = options;
  return {
    ...parts,
    encoder: options.encoder ?? null,
    quotas:
      keysFile === undefined
        ? null
        : new Quotas(() => keysFile.keys, quotaClock),
    version: options.version ?? "unknown",
    livenessTimeoutSeconds: options.livenessTimeoutSeconds ?? 60,
    startedAt: Math.floor(Date.now() / 1000),
    draining: false,
    serverLoad: 0,
  };
}

/** @param log where prompts are logged, if they are */
export function createContext(
  options: AppOptions,
  log: FastifyBaseLogger,
): ServerContext {
  const { engine, servedModelNames, tracer, logRequests } = options;
  const cacheConfig = options.cacheConfig ?? {
    enablePrefixCaching: true,
    gpuMemoryUtilization: 0.9,
  };
  const backlog = options.maxStreamBacklogBytes ?? DEFAULT_BACKLOG;
  const metrics = createMetrics(options, {
    engine: { client: engine, cacheConfig },
    modelName: servedModelNames[0] ?? "",
    maxLength: engine.info.maxModelLen,
  });
  const { chatTemplate, trustRequestChatTemplate = false } = options;
  const dialect = dialectOf(chatTemplate, options);
  return {
    ...httpContext(options, {
      engine,
      servedModelNames,
      modelPath: options.modelPath,
      metrics,
    }),
    tokenizer: options.tokenizer,
    chatTemplate,
    dialect,
    templates: new RequestTemplates(
      { chatTemplate, dialect },
      options,
      trustRequestChatTemplate,
    ),
    requests: new RequestRegistry(metrics?.meters ?? null, (timeline, record) =>
      tracer?.ended(timeline, record),
    ),
    requestLog:
      logRequests === undefined
        ? null
        : new RequestLog(log, options.tokenizer, logRequests),
    grammars: createGrammarPool(options),
    streams: new StreamHub(backlog),
    streamInterval: options.streamInterval ?? 1,
    cacheBlockSize: cacheConfig.enablePrefixCaching ? engine.info.blockSize : 0,
    seeds: new SeedSource(options.seed),
  };
}
