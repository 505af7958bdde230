import { Type, type Static, type TSchema } from "typebox";
import { ChatSchema, CompletionSchema, HINTS } from "../server/schemas.js";
import { checkBody } from "../server/validation.js";
import { invalidField } from "../server/errors.js";
import { refuseUnknown } from "./load-options.js";

/**
 * Parameters of a request are the HTTP API's, by their names there. Left out is what only makes sense there: streaming,
 * the model's name, which answers carry what.
 */
const GenerateSchema = Type.Omit(CompletionSchema, [
  "model",
  "prompt",
  "stream",
  "stream_options",
  "echo",
  "best_of",
  "return_token_ids",
  ...HINTS,
]);
const ChatParamsSchema = Type.Omit(ChatSchema, [
  "model",
  "messages",
  "stream",
  "stream_options",
  "best_of",
  "return_token_ids",
  ...HINTS,
]);

interface Common {
  stop?: string | readonly string[] | null;
  /** Aborts the request. */
  signal?: AbortSignal;
}

export type GenerateParams = Omit<Static<typeof GenerateSchema>, "stop"> &
  Common;
export type ChatParams = Omit<Static<typeof ChatParamsSchema>, "stop"> & Common;
/** A message in OpenAI's shape; `content` is a string, a list of text parts, or null beside calls. */
export interface Message {
  readonly role: string;
  readonly content?: unknown;
  readonly reasoning_content?: string | null;
  readonly tool_calls?: readonly unknown[] | null;
  readonly tool_call_id?: string | null;
  readonly name?: string | null;
}

/** The body of /v1/completions that says the same. Errors: `invalid_request`, `unsupported`. */
export function completionBody(
  prompt: string | ArrayLike<number>,
  params: GenerateParams,
): Static<typeof CompletionSchema> {
  const body = {
    ...fieldsOf(params, GenerateSchema),
    prompt: typeof prompt === "string" ? prompt : idsOf(prompt),
  };
  checkBody(CompletionSchema, body);
  return body;
}

/** The body of /v1/chat/completions that says the same. Errors: `invalid_request`, `unsupported`. */
export function chatBody(
  messages: readonly Message[],
  params: ChatParams,
): Static<typeof ChatSchema> {
  const fields = fieldsOf(params, ChatParamsSchema);
  const body = { ...fields, messages: messages as Message[] };
  checkBody(ChatSchema, body);
  return body;
}

/** Programs without types may hand us anything. */
export function signalOf(params: Common | null): AbortSignal | undefined {
  return params?.signal;
}

/** All but the signal. */
function fieldsOf<T extends Common>(
  params: T | null,
  schema: TSchema,
): Omit<T, "signal"> {
  if (typeof params !== "object" || params === null)
    throw invalidField("params", "an object", params);
  const { signal: _, ...fields } = params;
  refuseUnknown(fields, schema, "invalid_request");
  return present(fields);
}

/** One prompt: a list of them is several requests, which a program makes itself. */
function idsOf(prompt: unknown): number[] {
  const ids =
    typeof prompt === "object" && prompt !== null && "length" in prompt
      ? Array.from(prompt as ArrayLike<unknown>)
      : null;
  if (ids === null || (ids.length > 0 && typeof ids[0] !== "number"))
    throw invalidField("prompt", "a text or token ids", ids?.[0] ?? prompt);
  return ids as number[];
}

/** A parameter that is there without a value is as good as absent. */
function present<T extends object>(params: T): T {
  const entries = Object.entries(params).filter(([, v]) => v !== undefined);
  return Object.fromEntries(entries) as T;
}
