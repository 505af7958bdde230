import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyRequest,
} from "fastify";
import { now } from "../core/config.js";
import type { ServerMetrics } from "./metrics.js";
import { originOf, type Sender } from "./origin.js";
import type { RequestRecord } from "./request-registry.js";
import { rounded, summaryOf } from "./timing.js";

/** What asks all the time, or many times for one page: told of at debug level only. */
const PROBES: readonly string[] = [
  "/health",
  "/live",
  "/ready",
  "/ping",
  "/load",
  "/metrics",
  "/page/:file",
];

/** nginx's status of a request whose client has gone before the answer was complete. */
export const CLIENT_CLOSED_REQUEST = 499;
/** A WebSocket, told of when it closes. */
const SWITCHING_PROTOCOLS = 101;

/** Counts and logs each HTTP request once, when its answer is complete or its connection is gone. */
export function watchRequests(
  app: FastifyInstance,
  metrics: ServerMetrics | null,
): void {
  app.addHook("onRequest", async (request, reply) => {
    const { raw } = reply;
    let told = false;
    const tell = (status: number): void => {
      if (told) return;
      told = true;
      ended(app.log, metrics, request, status);
    };
    // Fastify's onResponse is not called for a connection that closes early: there is no "finish" before its "close".
    raw.once("finish", () => tell(raw.statusCode));
    raw.once("close", () =>
      tell(request.ws ? SWITCHING_PROTOCOLS : CLIENT_CLOSED_REQUEST),
    );
  });
}

function ended(
  log: FastifyBaseLogger,
  metrics: ServerMetrics | null,
  request: FastifyRequest,
  status: number,
): void {
  const origin = originOf(request);
  const milliseconds = Math.max(0, now() - origin.arrivalTime);
  metrics?.http(request.method, status, origin.route, milliseconds / 1000);
  logRequest(log, request.method, { id: request.id, origin }, status);
}

/** A line for a request that has ended: of HTTP, or a message of a WebSocket. */
export function logRequest(
  log: FastifyBaseLogger,
  method: string,
  { id, origin }: Sender,
  status: number,
): void {
  const { arrivalTime, route, key, record } = origin;
  const line = {
    request_id: id,
    method,
    route,
    status,
    key,
    duration_ms: rounded(Math.max(0, now() - arrivalTime)),
    ...(record !== null && generationFields(record)),
  };
  if (PROBES.includes(route)) log.debug(line, "request");
  else log.info(line, "request");
}

/** Lengths and times of what was generated; never the text. */
function generationFields(record: RequestRecord): Record<string, unknown> {
  const { timelines } = record;
  const sum = (pick: (timeline: (typeof timelines)[number]) => number) =>
    timelines.reduce((total, timeline) => total + pick(timeline), 0);
  const { queue, prefill, decode, timeToFirstToken } = summaryOf(record);
  const error = timelines.find((timeline) => timeline.error !== null)?.error;
  return {
    ...(timelines.length > 1 && { prompts: timelines.length }),
    prompt_tokens: sum(({ facts }) => facts.numPromptTokens),
    cached_tokens: sum(({ cachedTokens }) => cachedTokens),
    completion_tokens: sum(({ generatedTokens }) => generatedTokens),
    preemptions: sum(({ numPreemptions }) => numPreemptions),
    queue_ms: rounded(queue),
    prefill_ms: rounded(prefill),
    decode_ms: rounded(decode),
    ttft_ms: rounded(timeToFirstToken),
    ...(error && { error: error.code }),
  };
}
