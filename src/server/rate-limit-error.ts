import { OctavoError } from "../core/errors.js";

/** Which of a client's limits a request was refused for. */
export const REFUSALS = ["requests", "tokens", "concurrency"] as const;
export type Refusal = (typeof REFUSALS)[number];

/** A client's limit is reached. */
export class RateLimitError extends OctavoError {
  constructor(
    message: string,
    readonly reason: Refusal,
    /** Whole seconds, at least 1. */
    readonly retryAfter: number,
  ) {
    super("rate_limit_exceeded", `${message} Try again in ${retryAfter} s.`);
  }
}
