import { OctavoError } from "../core/errors.js";
import type { WireError } from "./messages.js";

/** An error as it crosses the thread boundary. What is not an OctavoError is a bug: internal_error. */
export function toWireError(error: unknown): WireError {
  if (error instanceof OctavoError)
    return { code: error.code, message: error.message, param: error.param };
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal_error", message, param: null };
}

export function fromWireError({
  code,
  message,
  param,
}: WireError): OctavoError {
  return new OctavoError(code, message, param);
}
