import type { FastifyInstance, FastifyReply } from "fastify";
import { speaksAnthropic } from "./anthropic-errors.js";
import { API_PATHS } from "./auth.js";
import type { HttpContext } from "./options.js";
import { originOf, type RequestOrigin } from "./origin.js";
import type { Allowance, ClientQuota } from "./quotas.js";
import { RateLimitError } from "./rate-limit-error.js";

/** POSTs that are no work: they stop some. */
const FREE: readonly string[] = ["/v1/responses/:id/cancel"];

/** Tokenizing costs no tokens, and nothing waits for it. */
const COUNTED: readonly string[] = [
  "/tokenize",
  "/detokenize",
  "/v1/messages/count_tokens",
  "/v1/responses/input_tokens",
];

/**
 * Holds clients to their limits on every guarded POST, before its body is read, and tells them of what is left. To be called
 * after the hook that finds out whose key it is.
 */
export function limitRequests(
  app: FastifyInstance,
  context: HttpContext,
): void {
  if (context.quotas === null) return;
  app.addHook("onRequest", async (request, { raw }) => {
    const { method, routeOptions } = request;
    const { url } = routeOptions;
    if (method !== "POST" || url === undefined) return;
    if (!API_PATHS.test(url) || FREE.includes(url)) return;
    const end = admit(context, originOf(request), COUNTED.includes(url));
    raw.once("finish", end).once("close", end);
    if (raw.destroyed || raw.socket?.destroyed === true) end();
  });
  // Streams do this when they open.
  app.addHook("onSend", async (_request, reply) => tellAllowances(reply));
}

/**
 * Takes a request in until the function that it returns is called, which may be more than once. Errors: RateLimitError,
 * which is counted.
 * @param countedOnly it costs no tokens and takes no place
 */
export function admit(
  context: HttpContext,
  origin: RequestOrigin,
  countedOnly = false,
): () => void {
  const quota = context.quotas?.of(origin.key);
  if (quota === undefined) return () => undefined;
  origin.quota = quota;
  try {
    if (!countedOnly) return quota.begin();
    quota.count();
    return () => undefined;
  } catch (error) {
    if (error instanceof RateLimitError)
      context.metrics?.meters.keyRefusals(quota.name)[error.reason].inc();
    throw error;
  }
}

/** Sets the headers that tell the request's client what is left of its limits, if it has some. */
export function tellAllowances(reply: FastifyReply): void {
  const { quota, route } = originOf(reply.request);
  if (quota === null) return;
  reply.headers(
    speaksAnthropic(route) ? anthropicHeaders(quota) : openaiHeaders(quota),
  );
}

type Headers = Record<string, string>;

/** As of OpenAI's API. */
export function openaiHeaders(quota: ClientQuota): Headers {
  return headersOf(quota, (kind, { limit, remaining, reset }) => ({
    [`x-ratelimit-limit-${kind}`]: String(limit),
    [`x-ratelimit-remaining-${kind}`]: String(remaining),
    [`x-ratelimit-reset-${kind}`]: duration(reset),
  }));
}

/** As of Anthropic's API. */
function anthropicHeaders(quota: ClientQuota): Headers {
  return headersOf(quota, (kind, { limit, remaining, reset }) => ({
    [`anthropic-ratelimit-${kind}-limit`]: String(limit),
    [`anthropic-ratelimit-${kind}-remaining`]: String(remaining),
    [`anthropic-ratelimit-${kind}-reset`]: new Date(
      Date.now() + reset,
    ).toISOString(),
  }));
}

function headersOf(
  quota: ClientQuota,
  headers: (kind: string, allowance: Allowance) => Headers,
): Headers {
  const { requests, tokens } = quota.allowances();
  return {
    ...(requests && headers("requests", requests)),
    ...(tokens && headers("tokens", tokens)),
  };
}

/** As Go writes a duration, which OpenAI's headers have: 20ms, 1.5s, 6m0s, 1h0m30s. */
export function duration(milliseconds: number): string {
  const whole = Math.ceil(milliseconds);
  if (whole > 0 && whole < 1000) return `${whole}ms`;
  const minutes = Math.floor(whole / 60_000);
  const seconds = `${(whole % 60_000) / 1000}s`;
  if (minutes === 0) return seconds;
  const hours = Math.floor(minutes / 60);
  return hours === 0
    ? `${minutes}m${seconds}`
    : `${hours}h${minutes % 60}m${seconds}`;
}
