import type { Constraint } from "./constraint.js";
import type { SamplingParams } from "./sampling-params.js";

/** One generation request as the engine sees it. Immutable; crosses the thread boundary by structured clone. */
export interface Request {
  /** Unique among live requests; the server's x-request-id or made by it. */
  id: string;
  /** Small integer chosen by the EngineClient; names the request in step messages. */
  handle: number;
  promptTokenIds: Int32Array;
  params: SamplingParams;
  /** Number of choices (sequences) that share the prompt. */
  n: number;
  /** Lower runs first (priority scheduling). */
  priority: number;
  /** Separates tenants in the prefix cache; "" is shared by all. */
  cacheSalt: string;
  /** Milliseconds, performance.timeOrigin + performance.now() at the HTTP server. */
  arrivalTime: number;
  /** echo + logprobs and prompt_logprobs need every prompt row computed: the prefix cache is bypassed. */
  bypassPrefixCache: boolean;
  /** What the output must match; none where it is free. */
  constraint?: Constraint;
}

/** Why a sequence ended. The integer codes cross the thread boundary. */
export const FinishReason = {
  none: 0,
  stop: 1,
  length: 2,
  abort: 3,
  error: 4,
  /** The device failed twice while it computed for the request. */
  lost: 5,
  /** Its grammar leaves no token that may follow. */
  stuck: 6,
  /** Its grammar takes too long to say which tokens may follow. */
  slow: 7,
} as const;
export type FinishReason = (typeof FinishReason)[keyof typeof FinishReason];
export const FINISH_REASON_NAMES = [
  "",
  "stop",
  "length",
  "abort",
  "error",
  "lost",
  "stuck",
  "slow",
] as const;
