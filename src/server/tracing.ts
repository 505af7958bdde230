import {
  diag,
  DiagLogLevel,
  SpanKind,
  SpanStatusCode,
  type Attributes,
  type Tracer,
} from "@opentelemetry/api";
import { OctavoError } from "../core/errors.js";
import type { RequestRecord } from "./request-registry.js";
import type { RequestTimeline } from "./request-timeline.js";
import { parentContext } from "./trace-context.js";

export interface RequestTracer {
  /** A prompt has ended, one way or another. */
  ended(timeline: RequestTimeline, record: RequestRecord): void;
  /** Sends what is left, as far as the collector takes it soon. */
  shutdown(): Promise<void>;
}

export interface TracingOptions {
  /** Where OTLP/HTTP is taken: http(s)://HOST:PORT, or with the whole path. */
  endpoint: string;
  modelName: string;
  version: string;
  /** Told, at most once a minute, of what keeps spans from being sent. */
  onProblem: (message: string) => void;
}

/** How long spans that are left may take at shutdown. */
const SHUTDOWN_MS = 5_000;
const PROBLEM_INTERVAL_MS = 60_000;

/**
 * Spans of requests to a collector, by OTLP/HTTP (JSON). They are made when a prompt has ended, from its timeline, and
 * sent in batches in the background; while the collector is away a bounded number waits and the rest is dropped.
 * OpenTelemetry's own variables (OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME) hold.
 * Throws invalid_config: the endpoint is no URL, or the optional packages are not installed.
 */
export async function startTracing(
  options: TracingOptions,
): Promise<RequestTracer> {
  const url = tracesUrl(options.endpoint);
  const { sdk, exporter, resources } = await loadPackages();
  const report = throttled(options.onProblem);
  listenToProblems(report);
  const provider = new sdk.NodeTracerProvider({
    resource: resources.defaultResource().merge(
      resources.resourceFromAttributes({
        "service.name": process.env["OTEL_SERVICE_NAME"] ?? "octavo",
        "service.version": options.version,
      }),
    ),
    spanProcessors: [
      new sdk.BatchSpanProcessor(new exporter.OTLPTraceExporter({ url })),
    ],
  });
  const tracer = provider.getTracer("octavo", options.version);
  return {
    ended: (timeline, record) =>
      addSpan(tracer, timeline, record, options.modelName),
    shutdown: async () => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((_resolve, reject) => {
        const error = new Error(`no answer within ${SHUTDOWN_MS / 1000} s`);
        timer = setTimeout(reject, SHUTDOWN_MS, error);
      });
      try {
        await Promise.race([provider.shutdown(), late]);
      } catch (error) {
        report(`The last spans are lost: ${(error as Error).message}`);
      }
      clearTimeout(timer);
    },
  };
}

/** The collector's path is /v1/traces where none is given. */
function tracesUrl(endpoint: string): string {
  let url: URL;
  try {
    url = new URL(endpoint);
  } catch {
    throw badEndpoint(endpoint);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw badEndpoint(endpoint);
  if (url.pathname === "/") url.pathname = "/v1/traces";
  return url.href;
}

function badEndpoint(endpoint: string): OctavoError {
  return new OctavoError(
    "invalid_config",
    `--otlp-traces-endpoint: expected the http(s) URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces, got "${endpoint}".`,
    "otlp-traces-endpoint",
  );
}

async function loadPackages() {
  try {
    const [sdk, exporter, resources] = await Promise.all([
      import("@opentelemetry/sdk-trace-node"),
      import("@opentelemetry/exporter-trace-otlp-http"),
      import("@opentelemetry/resources"),
    ]);
    return { sdk, exporter, resources };
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `--otlp-traces-endpoint needs optional packages that are not installed: npm install @opentelemetry/sdk-trace-node @opentelemetry/exporter-trace-otlp-http @opentelemetry/resources (${(error as Error).message})`,
      "otlp-traces-endpoint",
      { cause: error },
    );
  }
}

/** Calls that come too soon after the last one are dropped. */
function throttled(
  onProblem: (message: string) => void,
): (message: string) => void {
  let last = -Infinity;
  return (message) => {
    if (performance.now() - last < PROBLEM_INTERVAL_MS) return;
    last = performance.now();
    onProblem(message);
  };
}

/** OpenTelemetry tells its failures to one logger of the process. */
function listenToProblems(report: (message: string) => void): void {
  const quiet = (): void => undefined;
  diag.setLogger(
    { error: report, warn: report, info: quiet, debug: quiet, verbose: quiet },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
}

/**
 * One span for the prompt, as vLLM has it; where its phases meet are events of it, because a span for each would cost
 * four times as much.
 */
function addSpan(
  tracer: Tracer,
  timeline: RequestTimeline,
  { origin }: RequestRecord,
  modelName: string,
): void {
  const span = tracer.startSpan(
    "llm_request",
    {
      kind: SpanKind.SERVER,
      startTime: timeline.facts.arrivalTime,
      attributes: attributesOf(timeline, origin.route, modelName),
    },
    parentContext(origin.traceparent, origin.tracestate),
  );
  const event = (name: string, time: number): void => {
    if (time > 0) span.addEvent(name, time);
  };
  event("queued", timeline.submittedTime);
  event("scheduled", timeline.scheduledTime);
  for (const { choice, time } of timeline.preemptions)
    span.addEvent("preempted", { choice }, time);
  event("first_token", timeline.firstTokenTime);
  event("last_token", timeline.lastTokenTime);
  if (timeline.finishReason === "abort") event("aborted", timeline.endTime);
  if (timeline.error !== null)
    span.setStatus({
      code: SpanStatusCode.ERROR,
      message: timeline.error.message,
    });
  span.end(timeline.endTime);
}

/** vLLM's names, and those that OpenTelemetry's conventions have for generative AI. Seconds. */
function attributesOf(
  timeline: RequestTimeline,
  route: string,
  modelName: string,
): Attributes {
  const { facts, error, finishReason, generatedTokens } = timeline;
  const { queue, prefill, decode } = timeline.phases();
  const seconds = (name: string, milliseconds: number | null): Attributes =>
    milliseconds === null ? {} : { [name]: milliseconds / 1000 };
  return {
    "gen_ai.operation.name":
      route === "/v1/completions" ? "text_completion" : "chat",
    "gen_ai.provider.name": "octavo",
    "gen_ai.request.model": modelName,
    "gen_ai.response.model": modelName,
    "gen_ai.request.id": facts.id,
    "gen_ai.request.n": facts.n,
    "gen_ai.request.max_tokens": facts.maxTokens,
    "gen_ai.request.temperature": facts.temperature,
    "gen_ai.request.top_p": facts.topP,
    "gen_ai.usage.prompt_tokens": facts.numPromptTokens,
    "gen_ai.usage.completion_tokens": generatedTokens,
    "gen_ai.usage.input_tokens": facts.numPromptTokens,
    "gen_ai.usage.output_tokens": generatedTokens,
    "gen_ai.usage.cache_read.input_tokens": timeline.cachedTokens,
    "gen_ai.usage.num_sequences": facts.n,
    ...(finishReason !== null && {
      "gen_ai.response.finish_reasons": [finishReason],
    }),
    ...seconds("gen_ai.latency.time_in_queue", queue),
    ...seconds("gen_ai.latency.time_in_model_prefill", prefill),
    ...seconds("gen_ai.latency.time_in_model_decode", decode),
    ...seconds(
      "gen_ai.latency.time_in_model_inference",
      prefill === null || decode === null ? null : prefill + decode,
    ),
    ...seconds(
      "gen_ai.latency.time_to_first_token",
      timeline.firstTokenTime > 0
        ? timeline.firstTokenTime - facts.arrivalTime
        : null,
    ),
    ...seconds("gen_ai.latency.e2e", timeline.endTime - facts.arrivalTime),
    "http.route": route,
    ...(error !== null && { "error.type": error.code }),
  };
}
