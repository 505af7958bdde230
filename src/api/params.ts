import { Type, type Static } from "typebox";
import { ChatSchema, CompletionSchema } from "../server/schemas.js";
import { checkBody } from "../server/validation.js";
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
]);
const ChatParamsSchema = Type.Omit(ChatSchema, [
  "model",
  "messages",
  "stream",
  "stream_options",
  "return_token_ids",
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
  params: Omit<GenerateParams, "signal">,
): Static<typeof CompletionSchema> {
  refuseUnknown(params, GenerateSchema, "invalid_request");
  const body = {
    ...present(params),
    prompt: typeof prompt === "string" ? prompt : Array.from(prompt ?? []),
  };
  checkBody(CompletionSchema, body);
  return body;
}

/** The body of /v1/chat/completions that says the same. Errors: `invalid_request`, `unsupported`. */
export function chatBody(
  messages: readonly Message[],
  params: Omit<ChatParams, "signal">,
): Static<typeof ChatSchema> {
  refuseUnknown(params, ChatParamsSchema, "invalid_request");
  const body = { ...present(params), messages: messages as Message[] };
  checkBody(ChatSchema, body);
  return body;
}

/** A parameter that is there without a value is as good as absent. */
function present<T extends object>(params: T): T {
  const entries = Object.entries(params).filter(([, v]) => v !== undefined);
  return Object.fromEntries(entries) as T;
}
