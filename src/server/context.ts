import type { FastifyBaseLogger } from "fastify";
import { GrammarPool } from "../grammar/grammar-pool.js";
import { vocabularyOf } from "../grammar/vocabulary.js";
import { dialectOf } from "../text/turn/dialect.js";
import { keyNames } from "./auth.js";
import { ServerMetrics } from "./metrics.js";
import type { AppOptions, ServerContext } from "./options.js";
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
  const metrics =
    options.metrics === false
      ? null
      : new ServerMetrics(
          {
            engine,
            modelName: servedModelNames[0] ?? "",
            cacheConfig,
            keys: keyNames(options),
            encoder: options.encoder?.encoder ?? null,
          },
          options.metricsCompat ?? false,
        );
  const { chatTemplate, trustRequestChatTemplate = false } = options;
  const dialect = dialectOf(chatTemplate, options);
  return {
    engine,
    tokenizer: options.tokenizer,
    chatTemplate,
    dialect,
    templates: new RequestTemplates(
      { chatTemplate, dialect },
      options,
      trustRequestChatTemplate,
    ),
    servedModelNames,
    modelPath: options.modelPath,
    encoder: options.encoder ?? null,
    metrics,
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
    version: options.version ?? "unknown",
    livenessTimeoutSeconds: options.livenessTimeoutSeconds ?? 60,
    startedAt: Math.floor(Date.now() / 1000),
    draining: false,
    serverLoad: 0,
  };
}
