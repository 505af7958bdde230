import type { FastifyReply } from "fastify";
import type { RequestRecord } from "./request-registry.js";

/** Milliseconds of a whole HTTP request, over all its prompts; null where it did not get that far. */
export interface TimingSummary {
  /** Arrival to submission: reading, checking and encoding the body. */
  prepare: number | null;
  /** Submission to first scheduled. */
  queue: number | null;
  /** First scheduled to first token. */
  prefill: number | null;
  /** First token to last token. */
  decode: number | null;
  /** Arrival to first token. */
  timeToFirstToken: number | null;
}

/** From the first of its prompts to reach a point to the last one that leaves it. */
export function summaryOf({ timelines, origin }: RequestRecord): TimingSummary {
  const times = (pick: (timeline: (typeof timelines)[number]) => number) =>
    timelines.map(pick).filter((time) => time > 0);
  const submitted = Math.min(...times((t) => t.submittedTime));
  const scheduled = Math.min(...times((t) => t.scheduledTime));
  const first = Math.min(...times((t) => t.firstTokenTime));
  const last = Math.max(...times((t) => t.lastTokenTime));
  const between = (from: number, to: number): number | null =>
    Number.isFinite(from) && Number.isFinite(to)
      ? Math.max(0, to - from)
      : null;
  return {
    prepare: between(origin.arrivalTime, submitted),
    queue: between(submitted, scheduled),
    prefill: between(scheduled, first),
    decode: between(first, last),
    timeToFirstToken: between(origin.arrivalTime, first),
  };
}

/** A Server-Timing header's value: the phases that are known, in milliseconds. */
export function serverTiming(record: RequestRecord): string {
  const { prepare, queue, prefill, decode } = summaryOf(record);
  return Object.entries({ prepare, queue, prefill, decode })
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name};dur=${(value ?? 0).toFixed(3)}`)
    .join(", ");
}

/**
 * Puts what is known of a stream's times into its headers. The function that it returns gives the trailers of its end:
 * all of them, for clients that say they read those.
 */
export function streamTiming(
  reply: FastifyReply,
  record: RequestRecord,
): () => Record<string, string> {
  reply.header("server-timing", serverTiming(record));
  if (!/\btrailers\b/i.test(String(reply.request.headers.te)))
    return () => ({});
  reply.header("trailer", "server-timing");
  return () => ({ "server-timing": serverTiming(record) });
}

/** Milliseconds to whole microseconds: the clock has no more. */
export function rounded(milliseconds: number): number;
export function rounded(milliseconds: number | null): number | null;
export function rounded(milliseconds: number | null): number | null {
  return milliseconds === null ? null : Math.round(milliseconds * 1e3) / 1e3;
}
