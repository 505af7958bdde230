import {
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  trace,
  type Context,
} from "@opentelemetry/api";

/** version-traceid-parentid-flags; a version after 00 may have more fields. W3C Trace Context, section 3.2. */
const TRACEPARENT =
  /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** Where a request's span belongs: below the caller's, where the headers name one; a trace of its own otherwise. */
export function parentContext(
  traceparent: string | undefined,
  tracestate: string | undefined,
): Context {
  const match = TRACEPARENT.exec(traceparent?.trim() ?? "");
  if (match === null) return ROOT_CONTEXT;
  const [, version, traceId = "", spanId = "", flags = "", more] = match;
  if (version === "ff" || (version === "00" && more !== undefined))
    return ROOT_CONTEXT;
  const parent = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16),
    isRemote: true,
    ...(tracestate !== undefined && {
      traceState: createTraceState(tracestate),
    }),
  };
  // Identifiers of zeros only name nothing.
  return isSpanContextValid(parent)
    ? trace.setSpanContext(ROOT_CONTEXT, parent)
    : ROOT_CONTEXT;
}
