import { errorAnswer, type ErrorAnswer } from "./errors.js";

const TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  503: "overloaded_error",
};

export interface AnthropicErrorBody {
  type: "error";
  error: { type: string; message: string };
  request_id?: string;
}

/** The same answer as on the other routes, in Anthropic's shape. */
export function anthropicError(
  error: unknown,
  requestId?: string,
): Omit<ErrorAnswer, "body"> & { body: AnthropicErrorBody } {
  const { status, retryAfter, body } = errorAnswer(error);
  const type =
    TYPES[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
  return {
    status,
    retryAfter,
    body: {
      type: "error",
      error: { type, message: body.error.message },
      ...(requestId !== undefined && { request_id: requestId }),
    },
  };
}

/** Routes whose errors have Anthropic's shape. */
export function speaksAnthropic(path: string): boolean {
  return /^\/v1\/messages(\/|$)/.test(path);
}
