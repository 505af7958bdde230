import { ENGINE_DEFAULTS, type EngineConfig } from "../core/config.js";
import { InvalidArgumentError } from "commander";
import {
  parseSpeculativeConfig,
  type SpeculativeConfig,
} from "../core/speculative-config.js";
import { OctavoError } from "../core/errors.js";
import { REASONING_FORMATS } from "../text/turn/reasoning.js";
import { TOOL_CALL_FORMATS } from "../text/turn/tool-call-format.js";
import { integer, number, only, type Flag } from "./flags.js";

const engine = ENGINE_DEFAULTS;

/** Flags of `octavo serve` that work. Names are vLLM's wherever the idea is the same. */
export const SERVE_FLAGS: readonly Flag[] = [
  {
    name: "config",
    value: "file.yaml",
    help: "read flags from a YAML file (the command line and OCTAVO_* win)",
  },
  // HTTP
  {
    name: "host",
    value: "address",
    help: "address to listen on",
    default: "127.0.0.1",
  },
  {
    name: "port",
    value: "n",
    help: "port to listen on; 0 takes a free one",
    default: 8000,
    parse: integer(0, 65535),
  },
  {
    name: "uds",
    value: "path",
    help: "listen on a Unix domain socket instead",
  },
  { name: "ssl-keyfile", value: "file", help: "TLS key (PEM)" },
  { name: "ssl-certfile", value: "file", help: "TLS certificate chain (PEM)" },
  {
    name: "api-key",
    value: "key",
    repeatable: true,
    help: "key that clients must send (repeatable)",
  },
  {
    name: "api-keys-file",
    value: "file",
    help: "keys that clients must send, one a line: KEY, NAME KEY or NAME sha256:HEX, then limits such as rpm=60 tpm=100000 concurrency=4; read again when it changes and at SIGHUP",
  },
  {
    name: "admin-api-key",
    value: "key",
    help: "key of the admin routes (they are closed without one)",
  },
  {
    name: "metrics-api-key",
    value: "key",
    help: "key of /metrics (open without one)",
  },
  {
    name: "allowed-origins",
    value: "origin",
    repeatable: true,
    help: "CORS origin, or * (repeatable)",
  },
  {
    name: "served-model-name",
    value: "name",
    repeatable: true,
    help: "name(s) that requests use (repeatable)",
  },
  {
    name: "chat-template",
    value: "file|text",
    help: "chat template instead of the model's own",
  },
  {
    name: "trust-request-chat-template",
    help: "take chat_template from requests: only from clients that may stop the server, as a template can",
    default: false,
  },
  {
    name: "tool-call-parser",
    value: "name",
    help: "how the model writes tool calls; auto: as its chat template does",
    default: "auto",
    choices: ["auto", "none", ...Object.keys(TOOL_CALL_FORMATS)],
  },
  {
    name: "reasoning-parser",
    value: "name",
    help: "how the model marks its reasoning; auto: as its chat template does",
    default: "auto",
    choices: ["auto", "none", ...Object.keys(REASONING_FORMATS)],
  },
  {
    name: "enable-auto-tool-choice",
    help: "let the model decide on tool calls (always on)",
    default: true,
  },
  {
    name: "shutdown-timeout",
    value: "s",
    help: "seconds that running requests get at SIGTERM",
    default: 30,
    parse: number(0, 86_400),
  },
  {
    name: "stream-interval",
    value: "n",
    help: "tokens to an event of a stream; the first and the last go at once",
    default: 1,
    parse: integer(1, 1 << 20),
  },
  {
    name: "liveness-timeout",
    value: "s",
    help: "/live fails when work is pending and no step ended for this long",
    default: 60,
    parse: number(1, 86_400),
  },
  {
    name: "max-num-queued-reqs",
    value: "n",
    help: "refuse requests (503) beyond n waiting; 0: no bound",
    default: engine.maxNumQueuedReqs,
    parse: integer(0),
  },
  {
    name: "max-num-queued-tokens",
    value: "n",
    help: "refuse requests (503) beyond n waiting prompt tokens; 0: no bound",
    default: engine.maxNumQueuedTokens,
    parse: integer(0),
  },
  {
    name: "log-level",
    value: "level",
    help: "log level",
    default: "info",
    choices: ["trace", "debug", "info", "warn", "error", "silent"],
  },
  {
    name: "enable-log-requests",
    negatable: true,
    help: "log the prompt of each request too",
    default: false,
  },
  {
    name: "max-log-len",
    value: "n",
    help: "characters of a prompt that are logged (default: all)",
    parse: integer(0),
  },
  {
    name: "disable-log-stats",
    help: "no metrics: nothing is counted and /metrics is not there",
    default: false,
  },
  {
    name: "metrics-compat",
    help: "metrics also under the names that vLLM has retired",
    default: false,
  },
  {
    name: "otlp-traces-endpoint",
    value: "url",
    help: "OTLP/HTTP collector that gets a trace of each request",
  },
  // Model
  {
    name: "revision",
    value: "name",
    help: "branch, tag or commit of a model by hub name (default: main)",
  },
  {
    name: "model-file",
    value: "file",
    help: "architecture from a .ts or .js file instead of the built-in ones",
  },
  {
    name: "load-format",
    value: "format",
    help: "dummy: made-up weights of the model's shapes",
    default: engine.loadFormat,
    choices: ["auto", "dummy"],
  },
  {
    name: "device",
    value: "device",
    help: "where to compute; auto: a GPU if there is one; cuda-sim runs its kernels on the processor, for tests; null computes nothing and makes up tokens, to measure the rest",
    default: engine.device,
    choices: ["auto", "cpu", "cuda", "cuda-sim", "reference", "null"],
  },
  {
    name: "threads",
    value: "n",
    help: "CPU threads; 0: one per physical core",
    default: engine.threads,
    parse: integer(0, 1024),
  },
  {
    name: "dtype",
    value: "type",
    help: "activation type: float32 on the processor, float16 on a GPU",
    default: engine.dtype,
    choices: ["auto", "half", "float16", "float", "float32"],
  },
  {
    name: "quantization",
    value: "method",
    help: "check that the checkpoint is quantized with this method",
    choices: ["awq", "gptq", "compressed-tensors"],
  },
  {
    name: "kv-cache-dtype",
    value: "type",
    help: "type of KV pages; auto: float16, but float32 on the processor for models in float32",
    default: engine.kvCacheDtype,
    choices: ["auto", "f32", "float32", "f16", "float16", "int8"],
  },
  {
    name: "cpu-activations",
    value: "type",
    help: "inputs of INT4 layers on the CPU: int8 (rounded by blocks of 32; auto) or f32",
    default: engine.cpuActivations,
    choices: ["auto", "int8", "f32"],
  },
  {
    name: "tensor-parallel-size",
    value: "n",
    help: "devices to share a model",
    default: "1",
    parse: only(["1"], "tensor parallelism is not built yet"),
  },
  {
    name: "embedding-model",
    value: "dir|name",
    help: "encoder in the hub's ONNX layout, for /v1/embeddings, /v1/rerank and /v1/score: beside MODEL, or alone without one",
  },
  {
    name: "embedding-model-file",
    value: "file",
    help: "the embedding model's graph where it has several, as model_fp16.onnx (default: model.onnx)",
  },
  {
    name: "served-embedding-model-name",
    value: "name",
    repeatable: true,
    help: "name(s) that requests use for the embedding model (repeatable)",
  },
  // Engine
  {
    name: "max-model-len",
    value: "n",
    help: "longest prompt + output, tokens (default: the model's, or what fits)",
    parse: integer(1, 1 << 24),
  },
  {
    name: "max-num-seqs",
    value: "n",
    help: "most sequences in a step",
    default: engine.maxNumSeqs,
    parse: integer(1, 4096),
  },
  {
    name: "max-num-batched-tokens",
    value: "n",
    help: "token budget of a step",
    default: engine.maxNumBatchedTokens,
    parse: integer(1, 1 << 20),
  },
  {
    name: "long-prefill-token-threshold",
    value: "n",
    help: "most prompt tokens of one request in a step; 0: no limit",
    default: engine.longPrefillTokenThreshold,
    parse: integer(0),
  },
  {
    name: "enable-chunked-prefill",
    negatable: true,
    help: "compute a prompt in parts where it does not fit into a step; without it a prompt waits for a step with room for all of it, which --max-num-batched-tokens of at least --max-model-len must have",
    default: engine.enableChunkedPrefill,
  },
  {
    name: "enable-prefix-caching",
    negatable: true,
    help: "share the KV cache of equal prefixes",
    default: engine.enablePrefixCaching,
  },
  {
    name: "async-scheduling",
    negatable: true,
    help: "schedule a step while the one before it computes",
    default: engine.asyncScheduling,
  },
  {
    name: "speculative-config",
    value: "json",
    help: 'guess tokens ahead and verify them together, as {"method":"ngram","num_speculative_tokens":5}; the output stays what it is',
    json: true,
    parse: speculative,
  },
  {
    name: "enforce-eager",
    help: "launch every op of every step instead of replaying decode graphs (GPU)",
    default: engine.enforceEager,
  },
  {
    name: "batch-invariant",
    negatable: true,
    help: "a token never depends on what else is in its batch; without it cuBLASLt computes prompts of many tokens (GPU)",
    default: engine.batchInvariant,
  },
  {
    name: "tile-tuning",
    negatable: true,
    help: "measure the kernels' tiles at the first start on a GPU and keep the choice in OCTAVO_CACHE_DIR",
    default: engine.tileTuning,
  },
  {
    name: "scheduling-policy",
    value: "policy",
    help: "order of waiting requests",
    default: engine.schedulingPolicy,
    choices: ["fcfs", "priority"],
  },
  {
    name: "gpu-memory-utilization",
    value: "share",
    help: "share of the device's memory to use",
    default: engine.gpuMemoryUtilization,
    parse: number(0, 1, true),
  },
  {
    name: "num-gpu-blocks-override",
    value: "n",
    help: "KV blocks instead of what fits",
    parse: integer(1, 1 << 28),
  },
  {
    name: "block-size",
    value: "n",
    help: "tokens in a KV block",
    default: "16",
    parse: only(["16"], "the kernels have 16-token pages"),
  },
  {
    name: "seed",
    value: "n",
    help: "seeds of requests that bring none are drawn from this, the same at every start (default: unpredictable)",
    parse: integer(0, 0xffffffff),
  },
];

/** The JSON of --speculative-config. */
function speculative(text: string): SpeculativeConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = text;
  }
  try {
    return parseSpeculativeConfig(value);
  } catch (error) {
    if (!(error instanceof OctavoError)) throw error;
    throw new InvalidArgumentError(error.message);
  }
}

/** Commander options as parsed (camelCase) into the engine's configuration. */
export function engineConfig(
  model: string,
  options: Record<string, unknown>,
): EngineConfig {
  const config: Record<string, unknown> = { ...ENGINE_DEFAULTS, model };
  for (const key of Object.keys(ENGINE_DEFAULTS)) {
    if (options[key] !== undefined) config[key] = options[key];
  }
  config["blockSize"] = 16;
  return config as unknown as EngineConfig;
}

/** SERVE_FLAGS as commander parses them. */
export interface ServeOptions extends Record<string, unknown> {
  host: string;
  port: number;
  uds?: string;
  sslKeyfile?: string;
  sslCertfile?: string;
  apiKey?: string[];
  apiKeysFile?: string;
  adminApiKey?: string;
  metricsApiKey?: string;
  allowedOrigins?: string[];
  servedModelName?: string[];
  embeddingModel?: string;
  embeddingModelFile?: string;
  servedEmbeddingModelName?: string[];
  threads: number;
  maxNumQueuedReqs: number;
  maxNumQueuedTokens: number;
  chatTemplate?: string;
  trustRequestChatTemplate: boolean;
  toolCallParser: string;
  reasoningParser: string;
  enableAutoToolChoice: boolean;
  revision?: string;
  loadFormat: string;
  shutdownTimeout: number;
  streamInterval: number;
  livenessTimeout: number;
  logLevel: string;
  enableLogRequests: boolean;
  maxLogLen?: number;
  disableLogStats: boolean;
  metricsCompat: boolean;
  otlpTracesEndpoint?: string;
  enablePrefixCaching: boolean;
  gpuMemoryUtilization: number;
  quantization?: string;
  seed?: number;
}
