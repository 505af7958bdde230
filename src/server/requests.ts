import type { FastifyInstance } from "fastify";
import { OctavoError } from "../core/errors.js";
import type { ServerContext } from "./options.js";
import { originOf } from "./origin.js";
import type { RequestRecord } from "./request-registry.js";
import type { RequestTimeline } from "./request-timeline.js";
import { rounded } from "./timing.js";

/** GET /v1/requests/{id}: what happened to a request, and when; by its x-request-id, or its body's request_id. */
export function requestRoutes(
  app: FastifyInstance,
  { requests }: ServerContext,
): void {
  app.get<{ Params: { "*": string } }>(
    "/v1/requests/*",
    async (request): Promise<unknown> => {
      const id = request.params["*"];
      const record = requests.find(id, originOf(request).key);
      if (record === undefined)
        throw new OctavoError(
          "not_found",
          `No request "${id}" of this key is known; those under way and the last ${requests.capacity} that ended are.`,
          "id",
        );
      return describe(record);
    },
  );
}

function describe(record: RequestRecord) {
  const { id, origin, timelines } = record;
  return {
    id,
    object: "request",
    route: origin.route,
    status: statusOf(record),
    created: Math.floor(origin.arrivalTime / 1000),
    prompts: timelines.map((timeline) => describePrompt(timeline)),
  };
}

/** queued, running, or how the last of its prompts ended. */
function statusOf({ ended, timelines }: RequestRecord): string {
  if (!ended)
    return timelines.some((t) => t.scheduledTime > 0) ? "running" : "queued";
  if (timelines.some((timeline) => timeline.error !== null)) return "failed";
  return timelines.some((timeline) => timeline.finishReason === "abort")
    ? "aborted"
    : "finished";
}

function describePrompt(timeline: RequestTimeline) {
  const { facts, error } = timeline;
  const { queue, prefill, decode } = timeline.phases();
  return {
    id: facts.id,
    n: facts.n,
    prompt_tokens: facts.numPromptTokens,
    cached_tokens: timeline.cachedTokens,
    // Null as well where the prefix cache had all it could have, or was not asked.
    cache_miss:
      timeline.missReason === "tooShort" ? "too_short" : timeline.missReason,
    max_tokens: facts.maxTokens,
    completion_tokens: timeline.generatedTokens,
    finish_reason: timeline.finishReason,
    error: error && { code: error.code, message: error.message },
    preemptions: timeline.numPreemptions,
    queue_ms: rounded(queue),
    prefill_ms: rounded(prefill),
    decode_ms: rounded(decode),
    events: eventsOf(timeline),
  };
}

/** In order; `at` is milliseconds since the request arrived. */
function eventsOf(timeline: RequestTimeline) {
  const { facts, preemptions, error } = timeline;
  const events = [
    { event: "arrived", time: facts.arrivalTime },
    { event: "queued", time: timeline.submittedTime },
    { event: "scheduled", time: timeline.scheduledTime },
    ...preemptions.map(({ choice, time }) => ({
      event: "preempted",
      time,
      ...(facts.n > 1 && { choice }),
    })),
    { event: "first_token", time: timeline.firstTokenTime },
    { event: "last_token", time: timeline.lastTokenTime },
    { event: error === null ? "ended" : "failed", time: timeline.endTime },
  ];
  return (
    events
      // A last token is one only at the end.
      .filter(({ event }) => event !== "last_token" || timeline.ended)
      .filter(({ time }) => time > 0)
      .sort((a, b) => a.time - b.time)
      .map(({ time, ...rest }) => ({
        ...rest,
        at: rounded(time - facts.arrivalTime),
      }))
  );
}
