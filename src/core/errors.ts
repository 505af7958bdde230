/**
 * Every failure that a user can see is an OctavoError with a code that is never reused for another meaning.
 * `message` says what was expected, where, and what came.
 */
export type ErrorCode =
  | "invalid_request" // a field of a request has a wrong type or value; `param` names it
  | "context_length_exceeded" // prompt (+ max_tokens) does not fit max_model_len
  | "model_not_found" // the request names a model that is not served
  | "unsupported" // a field, flag or format that would change the result and is not built
  | "invalid_api_key"
  | "permission_denied"
  | "not_found" // no such route or object
  | "method_not_allowed" // the route takes other methods
  | "previous_response_not_found" // previous_response_id names no response that is kept
  | "payload_too_large"
  | "rate_limit_exceeded"
  | "queue_full" // admission refused; retry later
  | "shutting_down" // draining; retry elsewhere
  | "request_aborted"
  | "internal_error"
  | "invalid_config" // a command line flag, environment variable or config file entry; `param` names it
  | "invalid_model" // a model directory that cannot be loaded; the message names file and field
  | "download_failed" // a model could not be fetched from the hub; the message says what was asked and what came
  | "unsupported_model" // architecture, quantization or rope type outside of what is built
  | "out_of_memory" // weights, workspace and KV cache do not fit
  | "device_error"; // the runner failed

export class OctavoError extends Error {
  override readonly name = "OctavoError";
  constructor(
    readonly code: ErrorCode,
    message: string,
    /** The field, flag, file or tensor at fault. */
    readonly param: string | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A bug in Octavo itself: an invariant that no input may break. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition)
    throw new OctavoError("internal_error", `invariant broken: ${message}`);
}

/** Why something failed, in words: `fetch failed` and the like hide that in their causes. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (cause instanceof AggregateError && cause.errors.length > 0)
    return reasonOf(cause.errors[0]);
  return cause instanceof Error ? reasonOf(cause) : error.message;
}
