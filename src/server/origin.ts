import type { FastifyRequest } from "fastify";
import { now } from "../core/config.js";
import type { ClientQuota } from "./quotas.js";
import type { RequestRecord } from "./request-registry.js";

/** The key of requests that brought none, where none is asked for. */
export const NO_KEY = "none";

/** What is known of an HTTP request before its body has been read, and what came of it. */
export interface RequestOrigin {
  /** Milliseconds, Request.arrivalTime's clock. */
  readonly arrivalTime: number;
  /** The route's pattern, as in metrics. */
  readonly route: string;
  /** The name of the API key that it was sent with. */
  key: string;
  /** What pays for it; null: nobody counts. */
  quota: ClientQuota | null;
  /** W3C Trace Context, as they came. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  /** The last generation that it started. */
  record: RequestRecord | null;
}

/** Who asks for a generation: an HTTP request, or a message of a WebSocket. */
export interface Sender {
  readonly id: string;
  readonly origin: RequestOrigin;
}

const origins = new WeakMap<FastifyRequest, RequestOrigin>();

/** The request's origin; made at the first call, which is when the request arrived. */
export function originOf(request: FastifyRequest): RequestOrigin {
  const known = origins.get(request);
  if (known !== undefined) return known;
  const { traceparent, tracestate } = request.headers;
  const origin: RequestOrigin = {
    arrivalTime: now(),
    route: request.routeOptions.url ?? "none",
    key: NO_KEY,
    quota: null,
    traceparent: single(traceparent),
    tracestate: single(tracestate),
    record: null,
  };
  origins.set(request, origin);
  return origin;
}

export function senderOf(request: FastifyRequest): Sender {
  return { id: request.id, origin: originOf(request) };
}

/** Trace Context: a tracestate in several header lines is one list; several traceparents are none. */
function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(",") : header;
}
