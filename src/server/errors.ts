import type { ErrorCode } from "../core/errors.js";
import { OctavoError } from "../core/errors.js";
import { RateLimitError } from "./rate-limit-error.js";

/** The body of every error answer, in OpenAI's shape. */
export interface ErrorBody {
  error: {
    message: string;
    type: string;
    param: string | null;
    code: string | null;
  };
}

interface Mapping {
  status: number;
  type: string;
  code: string | null;
  /** Seconds. */
  retryAfter?: number;
}

const invalid = (code: string | null): Mapping => ({
  status: 400,
  type: "invalid_request_error",
  code,
});
const internal = (code: string): Mapping => ({
  status: 500,
  type: "server_error",
  code,
});

const MAPPINGS: Record<ErrorCode, Mapping> = {
  invalid_request: invalid("invalid_value"),
  context_length_exceeded: invalid("context_length_exceeded"),
  unsupported: invalid("unsupported_value"),
  previous_response_not_found: invalid("previous_response_not_found"),
  model_not_found: {
    status: 404,
    type: "invalid_request_error",
    code: "model_not_found",
  },
  not_found: {
    status: 404,
    type: "invalid_request_error",
    code: "not_found",
  },
  method_not_allowed: {
    status: 405,
    type: "invalid_request_error",
    code: "method_not_allowed",
  },
  invalid_api_key: {
    status: 401,
    type: "invalid_request_error",
    code: "invalid_api_key",
  },
  permission_denied: {
    status: 403,
    type: "permission_error",
    code: "permission_denied",
  },
  payload_too_large: {
    status: 413,
    type: "invalid_request_error",
    code: "payload_too_large",
  },
  rate_limit_exceeded: {
    status: 429,
    type: "rate_limit_error",
    code: "rate_limit_exceeded",
    retryAfter: 1,
  },
  queue_full: {
    status: 503,
    type: "server_error",
    code: "queue_full",
    retryAfter: 1,
  },
  shutting_down: {
    status: 503,
    type: "server_error",
    code: "shutting_down",
    retryAfter: 5,
  },
  request_aborted: {
    status: 499,
    type: "invalid_request_error",
    code: "request_aborted",
  },
  internal_error: internal("server_error"),
  invalid_config: internal("server_error"),
  invalid_model: internal("server_error"),
  download_failed: internal("server_error"),
  unsupported_model: internal("server_error"),
  out_of_memory: internal("server_error"),
  device_error: {
    status: 503,
    type: "server_error",
    code: "device_error",
    retryAfter: 5,
  },
};

export interface ErrorAnswer {
  status: number;
  /** Seconds, or null. */
  retryAfter: number | null;
  body: ErrorBody;
}

/** What a client is told about `error`. Anything that is not ours to explain is a 500 without details. */
export function errorAnswer(error: unknown): ErrorAnswer {
  if (error instanceof OctavoError) {
    const { status, type, code, retryAfter = null } = MAPPINGS[error.code];
    return {
      status,
      retryAfter:
        error instanceof RateLimitError ? error.retryAfter : retryAfter,
      body: {
        error: { message: error.message, type, param: error.param, code },
      },
    };
  }
  return httpErrorAnswer(error);
}

/** Errors of the HTTP layer carry a status of their own: malformed JSON, wrong content type, too large. */
function httpErrorAnswer(error: unknown): ErrorAnswer {
  const { statusCode, code, message } = (error ?? {}) as {
    statusCode?: unknown;
    code?: unknown;
    message?: unknown;
  };
  const text = typeof message === "string" ? message : "Bad request.";
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE")
    return errorAnswer(
      new OctavoError(
        "payload_too_large",
        "The request body is larger than this server takes.",
      ),
    );
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500)
    return {
      status: statusCode,
      retryAfter: null,
      body: shapeOf(text),
    };
  return errorAnswer(
    new OctavoError(
      "internal_error",
      "The server failed while answering this request.",
    ),
  );
}

/** The body of a client's mistake that is about no field. */
export function shapeOf(message: string): ErrorBody {
  const type = "invalid_request_error";
  return { error: { message, type, param: null, code: null } };
}

/** 400 for a field: what was expected there, and what came. */
export function invalidField(
  param: string,
  expected: string,
  got: unknown,
): OctavoError {
  return new OctavoError(
    "invalid_request",
    `${param}: expected ${expected}, got ${shown(got)}`,
    param,
  );
}

/** 400 for a field that would change the output and is not built. */
export function unsupportedField(param: string, why: string): OctavoError {
  return new OctavoError("unsupported", `${param}: ${why}`, param);
}

/** Undefined for what JSON has no words for: programs may hand us anything. */
function jsonOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

/** A value as an error message shows it: JSON, cut short. */
export function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number" && !Number.isFinite(value))
    return String(value);
  const text = jsonOf(value) ?? typeof value;
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
