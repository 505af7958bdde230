import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { now } from "../core/config.js";
import type { Encoder } from "../encoder/encoder.js";
import type { EngineClient } from "../engine/engine-client.js";
import type { EngineStats } from "../engine/stats.js";
import { MeterFactory } from "./meter-factory.js";
import { REFUSALS } from "./rate-limit-error.js";
import { addSpeculation } from "./speculation.js";

/* Names, types and labels are vLLM's, so that its dashboards and autoscalers work unchanged. */

const TTFT = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5,
  7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const ITL = [
  0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.05,
  0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const REQ = [
  0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60,
  120, 240, 480, 960, 1920, 7680,
];
const ITER = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
const STEP = [
  1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10,
];
const N = [1, 2, 5, 10, 20];

/** 1 2 5 10 20 50 ... up to `max`. */
function lengths(max: number): number[] {
  const buckets: number[] = [];
  for (let decade = 1; ; decade *= 10)
    for (const digit of [1, 2, 5]) {
      if (digit * decade > max) return buckets.length > 0 ? buckets : [1];
      buckets.push(digit * decade);
    }
}

const STAGES = [
  "draft",
  "schedule",
  "pack",
  "launch",
  "device",
  "collect",
  "update",
] as const;

/** Parts of a start, one after the other: their sum is how long it took. */
export const STARTUP_PHASES = [
  "process",
  "find",
  "plan",
  "weights",
  "server",
] as const;
export type StartupSeconds = Record<(typeof STARTUP_PHASES)[number], number>;

export interface MeterOptions {
  /** Null where there is no text model. */
  engine: {
    client: EngineClient;
    cacheConfig: { enablePrefixCaching: boolean; gpuMemoryUtilization: number };
  } | null;
  modelName: string;
  /** Most tokens of a request. */
  maxLength: number;
  /** Names of the API keys. */
  keys: readonly string[];
  /** Null where there is no embedding model. */
  encoder: Encoder | null;
  /** Null until the server is ready. */
  startup: () => StartupSeconds | null;
}

export type Meters = ReturnType<typeof createMeters>;

/** Every metric of the server, on a registry of its own. */
export function createMeters(options: MeterOptions) {
  const { engine, modelName, maxLength, keys, startup } = options;
  const make = new MeterFactory({ model_name: modelName, engine: "0" });
  if (engine !== null) {
    addEngineState(make, engine.client);
    addSpeculation(make, engine.client);
    addCacheConfig(make.registry, engine.client, engine.cacheConfig);
  }
  if (options.encoder !== null) addEncoder(make, options.encoder);
  make.gauges(
    "octavo_startup_seconds",
    "From the process's start to readiness, by phase.",
    "phase",
    () => startup() ?? {},
  );
  return {
    registry: make.registry,
    keyTokens: make.grid(
      "octavo_key_tokens_total",
      "Tokens by the API key that asked for them.",
      ["key", keys],
      ["kind", ["prompt", "generation"]],
    ),
    keyRefusals: make.grid(
      "octavo_key_refusals_total",
      "Requests refused for a limit of the API key that they were sent with.",
      ["key", keys],
      ["reason", REFUSALS],
    ),
    ...tokenMeters(make),
    ...requestMeters(make, lengths(maxLength)),
    ...latencyMeters(make),
    ...httpMeters(make.registry),
    webSockets: webSocketMeters(make),
  };
}

/** What the engine's last step message says. */
function addEngineState(make: MeterFactory, engine: EngineClient): void {
  const stats = (): EngineStats => engine.stats;
  // Nothing pending: whatever the last step said (an engine that failed has no later one), nothing runs or waits.
  const busy = (value: number): number => (engine.numPending > 0 ? value : 0);
  // What was submitted since the last step waits too: a stuck engine must not hide its queue.
  const waiting = (): number =>
    busy(Math.max(stats().numWaiting, engine.numQueuedReqs));
  const deferred = (): number => busy(stats().numWaitingDeferred);
  make.gauge(
    "vllm:num_requests_running",
    "Requests in the running batch.",
    () => busy(stats().numRunning),
  );
  make.gauge("vllm:num_requests_waiting", "Requests queued.", waiting);
  make.gauges(
    "vllm:num_requests_waiting_by_reason",
    "Requests queued, by reason.",
    "reason",
    () => ({ capacity: waiting() - deferred(), deferred: deferred() }),
  );
  make.gauge(
    "vllm:kv_cache_usage_perc",
    "Referenced share of the KV cache, 0 to 1.",
    () => busy(stats().kvCacheUsage),
  );
  make.gauges(
    "octavo_kv_blocks",
    "Blocks of the KV cache: used by requests, cached for later ones, free.",
    "state",
    () => {
      const { numBlocks, numFreeBlocks, numCachedFreeBlocks } = stats();
      const used = busy(numBlocks - numFreeBlocks);
      const free = numBlocks - used - numCachedFreeBlocks;
      return { used, cached: numCachedFreeBlocks, free };
    },
  );
  make.gauge(
    "octavo_last_step_age_seconds",
    "Since the last step ended, while work is pending; else 0.",
    () =>
      engine.numPending > 0
        ? Math.max(0, now() - engine.lastStepTime) / 1000
        : 0,
  );
  addRunnerHealth(make, stats);
  make.total(
    "vllm:prefix_cache_queries_total",
    "Prompt tokens looked up in the prefix cache.",
    null,
    () => ({
      "": stats().prefixCacheQueries,
    }),
  );
  make.total(
    "vllm:prefix_cache_hits_total",
    "Prompt tokens found in the prefix cache.",
    null,
    () => ({
      "": stats().prefixCacheHits,
    }),
  );
  make.total(
    "vllm:num_preemptions_total",
    "Preempted sequences.",
    null,
    () => ({ "": stats().numPreemptions }),
  );
  make.total(
    "octavo_prefix_cache_miss_total",
    "Requests that missed the prefix cache, by reason.",
    "reason",
    () => {
      const { cold, evicted, salt, tooShort } = stats().prefixCacheMisses;
      return { cold, evicted, salt, too_short: tooShort };
    },
  );
}

function addEncoder(make: MeterFactory, encoder: Encoder): void {
  make.gauge(
    "octavo_encoder_requests_pending",
    "Requests to the embedding model that have not ended.",
    () => encoder.numPending,
  );
  make.gauge(
    "octavo_encoder_inputs_waiting",
    "Inputs that wait for a batch of the embedding model.",
    () => encoder.numWaiting,
  );
  make.total(
    "octavo_encoder_batches_total",
    "Batches of the embedding model.",
    null,
    () => ({ "": encoder.numBatches }),
  );
  make.total(
    "octavo_encoder_tokens_total",
    "Tokens that the embedding model has read.",
    null,
    () => ({ "": encoder.numTokens }),
  );
}

function addRunnerHealth(make: MeterFactory, stats: () => EngineStats): void {
  make.gauge(
    "octavo_runner_restarting",
    "1 while a lost device is being restarted, else 0.",
    () => (stats().runner.restarting ? 1 : 0),
  );
  const totals = [
    ["octavo_runner_failures_total", "Device errors.", "numFailures"],
    ["octavo_runner_restarts_total", "Restarts of the device.", "numRestarts"],
    [
      "octavo_replayed_requests_total",
      "Requests computed anew after a device error.",
      "numReplayedRequests",
    ],
  ] as const;
  for (const [name, help, key] of totals)
    make.total(name, help, null, () => ({ "": stats().runner[key] }));
}

/** The configuration as labels; without model_name, as dashboards expect. */
function addCacheConfig(
  registry: Registry,
  engine: EngineClient,
  config: { enablePrefixCaching: boolean; gpuMemoryUtilization: number },
): void {
  const { blockSize, numBlocks, kvCacheDtype } = engine.info;
  const labels = {
    engine: "0",
    block_size: String(blockSize),
    num_gpu_blocks: String(numBlocks),
    cache_dtype: kvCacheDtype,
    enable_prefix_caching: config.enablePrefixCaching ? "True" : "False",
    gpu_memory_utilization: String(config.gpuMemoryUtilization),
  };
  const gauge = new Gauge({
    name: "vllm:cache_config_info",
    help: "Information of the KV cache's configuration.",
    labelNames: Object.keys(labels),
    registers: [registry],
  });
  gauge.set(labels, 1);
}

function tokenMeters(make: MeterFactory) {
  return {
    promptTokens: make.counter(
      "vllm:prompt_tokens_total",
      "Prompt tokens, cache hits included.",
    ),
    promptTokensBySource: make.counters(
      "vllm:prompt_tokens_by_source_total",
      "Prompt tokens, by source.",
      "source",
      ["local_compute", "local_cache_hit", "external_kv_transfer"],
    ),
    promptTokensCached: make.counter(
      "vllm:prompt_tokens_cached_total",
      "Prompt tokens found in the cache.",
    ),
    generationTokens: make.counter(
      "vllm:generation_tokens_total",
      "Generated tokens.",
    ),
    requestSuccess: make.counters(
      "vllm:request_success_total",
      "Requests that ended, by reason.",
      "finished_reason",
      ["stop", "length", "abort", "error", "repetition"],
    ),
    rejections: make.counters(
      "vllm:admission_rejections_total",
      "Requests refused at admission.",
      "reason",
      ["max_num_queued_reqs", "max_num_queued_tokens"],
    ),
    iterationTokens: make.histogram(
      "vllm:iteration_tokens_total",
      "Tokens computed per engine step.",
      ITER,
    ),
    stepSeconds: make.histograms(
      "octavo_step_seconds",
      "Time of an engine step, by stage.",
      STEP,
      "stage",
      STAGES,
    ),
  };
}

function requestMeters(make: MeterFactory, LEN: number[]) {
  return {
    requestPromptTokens: make.histogram(
      "vllm:request_prompt_tokens",
      "Prompt tokens of a request.",
      LEN,
    ),
    requestGenerationTokens: make.histogram(
      "vllm:request_generation_tokens",
      "Generated tokens of a request.",
      LEN,
    ),
    requestMaxGenerationTokens: make.histogram(
      "vllm:request_max_num_generation_tokens",
      "Generated tokens of a request's longest choice.",
      LEN,
    ),
    requestMaxTokens: make.histogram(
      "vllm:request_params_max_tokens",
      "max_tokens of a request.",
      LEN,
    ),
    requestPrefillTokens: make.histogram(
      "vllm:request_prefill_kv_computed_tokens",
      "Prompt tokens computed rather than found in the cache.",
      LEN,
    ),
    requestN: make.histogram("vllm:request_params_n", "n of a request.", N),
  };
}

function latencyMeters(make: MeterFactory) {
  return {
    timeToFirstToken: make.histogram(
      "vllm:time_to_first_token_seconds",
      "Arrival to first token.",
      TTFT,
    ),
    interTokenLatency: make.histogram(
      "vllm:inter_token_latency_seconds",
      "Between consecutive tokens.",
      ITL,
    ),
    timePerOutputToken: make.histogram(
      "vllm:request_time_per_output_token_seconds",
      "Decode time per token after the first, of a request.",
      ITL,
    ),
    e2eLatency: make.histogram(
      "vllm:e2e_request_latency_seconds",
      "Arrival to end.",
      REQ,
    ),
    queueTime: make.histogram(
      "vllm:request_queue_time_seconds",
      "Queued to first scheduled.",
      REQ,
    ),
    prefillTime: make.histogram(
      "vllm:request_prefill_time_seconds",
      "First scheduled to first token.",
      REQ,
    ),
    decodeTime: make.histogram(
      "vllm:request_decode_time_seconds",
      "First token to last token.",
      REQ,
    ),
    inferenceTime: make.histogram(
      "vllm:request_inference_time_seconds",
      "First scheduled to last token.",
      REQ,
    ),
  };
}

/** These carry no base labels, as in vLLM. */
function httpMeters(registry: Registry) {
  const labelNames = ["method", "status", "handler"];
  return {
    httpRequests: new Counter({
      name: "http_requests_total",
      help: "HTTP requests.",
      labelNames,
      registers: [registry],
    }),
    httpDuration: new Histogram({
      name: "http_request_duration_seconds",
      help: "Time to answer an HTTP request.",
      labelNames,
      buckets: REQ,
      registers: [registry],
    }),
  };
}

function webSocketMeters(make: MeterFactory) {
  let active = 0;
  make.gauge(
    "vllm:websocket_connections_active",
    "Open WebSocket connections.",
    () => active,
  );
  const total = make.counter(
    "vllm:websocket_connections_total",
    "WebSocket connections, since the start.",
  );
  const duration = make.histogram(
    "vllm:websocket_connection_duration_seconds",
    "How long WebSocket connections were open.",
    REQ,
  );
  return {
    opened(): void {
      active++;
      total.inc();
    },
    closed(seconds: number): void {
      active--;
      duration.observe(seconds);
    },
  };
}
