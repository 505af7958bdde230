import type { EngineClient } from "../engine/engine-client.js";
import type { GrammarPool } from "../grammar/grammar-pool.js";
import type { ChatTemplate } from "../text/chat-template.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { Dialect, DialectOptions } from "../text/turn/dialect.js";
import type { ServedEncoder } from "./encoder/served-encoder.js";
import type { ApiKey } from "./keys-file.js";
import type { ServerMetrics } from "./metrics.js";
import type { Quotas } from "./quotas.js";
import type { RequestTemplates } from "./request-templates.js";
import type { RequestLog, RequestLogOptions } from "./request-log.js";
import type { RequestRegistry } from "./request-registry.js";
import type { SeedSource } from "./seeds.js";
import type { StreamHub } from "./sse.js";
import type { RequestTracer } from "./tracing.js";

/** What does not depend on which models a server has. */
export interface HttpOptions {
  /** Answers /v1/embeddings, /v1/rerank and /v1/score, which are 404 without. Closing the app leaves it alone. */
  encoder?: ServedEncoder | undefined;
  /** Keys of /v1, /tokenize and /detokenize; open without any. */
  apiKeys?: readonly string[] | undefined;
  /** More of them, that may change. */
  keysFile?: { readonly keys: readonly ApiKey[] } | undefined;
  /** Of the limits by key: milliseconds, never going back. Default: the engine's. */
  quotaClock?: (() => number) | undefined;
  /** Key of the admin routes, which are closed without one. */
  adminApiKey?: string | undefined;
  /** Key of /metrics; open without one. */
  metricsApiKey?: string | undefined;
  /** CORS origins, or "*". */
  allowedOrigins?: readonly string[] | undefined;
  /** /live fails when work is pending and no step ended for this long. Default 60. */
  livenessTimeoutSeconds?: number | undefined;
  /** Default "info"; logs go to stderr. */
  logLevel?: string | undefined;
  /** Where logs go instead. */
  logStream?: { write(line: string): void } | undefined;
  /** Without metrics nothing is counted and /metrics is not there. Default true. */
  metrics?: boolean | undefined;
  /** Metrics also under the names that vLLM has retired. */
  metricsCompat?: boolean | undefined;
  tls?: { key: Buffer; cert: Buffer } | undefined;
  /** Reported by /version. */
  version?: string | undefined;
  /** Largest request body. Default 32 MiB. */
  bodyLimitBytes?: number | undefined;
}

/** A server of an encoder alone. */
export interface EncoderAppOptions extends HttpOptions {
  encoder: ServedEncoder;
}

export interface AppOptions extends HttpOptions, DialectOptions {
  engine: EngineClient;
  tokenizer: Tokenizer;
  chatTemplate: ChatTemplate;
  /** Requests may bring chat templates of their own. Default false. */
  trustRequestChatTemplate?: boolean | undefined;
  /** Names that requests may use; the first one is reported. At least one. */
  servedModelNames: readonly string[];
  /** Reported as the `root` of the model card. */
  modelPath: string;
  /** Prompts are logged too; not without. */
  logRequests?: RequestLogOptions | undefined;
  /** Hears of each prompt that has ended. */
  tracer?: RequestTracer | undefined;
  /** A stream whose reader is further behind than this is dropped. Default 1 MiB. */
  maxStreamBacklogBytes?: number | undefined;
  /** Tokens of a choice that share an event of a stream, but for the first and the last. Default 1. */
  streamInterval?: number | undefined;
  /** Seeds of requests that bring none are drawn from this; unpredictable without. */
  seed?: number | undefined;
  /** The compiled grammar-worker.js; by default the one in dist/. */
  grammarWorkerUrl?: URL | undefined;
  /** Labels of vllm:cache_config_info that only the configuration knows. */
  cacheConfig?:
    { enablePrefixCaching: boolean; gpuMemoryUtilization: number } | undefined;
}

/** What the routes of every server share. */
export interface HttpContext {
  /** Null where there is an encoder alone. */
  readonly engine: EngineClient | null;
  /** Of the text model; none where there is none. */
  readonly servedModelNames: readonly string[];
  readonly modelPath: string | null;
  /** Null where no embedding model was given. */
  readonly encoder: ServedEncoder | null;
  readonly metrics: ServerMetrics | null;
  /** Null where no keys file was given. */
  readonly quotas: Quotas | null;
  readonly version: string;
  readonly livenessTimeoutSeconds: number;
  /** Seconds since 1970. */
  readonly startedAt: number;
  draining: boolean;
  /** Requests being computed, for /load. */
  serverLoad: number;
}

/** What the routes of a text model share. */
export interface ServerContext extends HttpContext {
  readonly engine: EngineClient;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate;
  readonly dialect: Dialect;
  /** Of chat requests, which may bring one. */
  readonly templates: RequestTemplates;
  readonly modelPath: string;
  readonly requests: RequestRegistry;
  /** Null unless prompts are logged. */
  readonly requestLog: RequestLog | null;
  /** Compiles what outputs must match. */
  readonly grammars: GrammarPool;
  readonly streams: StreamHub;
  readonly streamInterval: number;
  /** Tokens of a block of the prefix cache; 0: there is none. */
  readonly cacheBlockSize: number;
  readonly seeds: SeedSource;
}
