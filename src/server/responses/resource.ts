/** The objects of the Responses API, as they stand in its answers. */
import { randomBytes } from "node:crypto";
import type { ChatLogprob } from "../logprobs.js";

export type ItemStatus = "in_progress" | "completed" | "incomplete";

export interface TextPart {
  readonly type: "input_text" | "output_text";
  text: string;
  annotations?: readonly unknown[];
  logprobs?: ChatLogprob[];
}
export interface RefusalPart {
  readonly type: "refusal";
  readonly refusal: string;
}
export type Part = TextPart | RefusalPart;

export interface MessageItem {
  readonly type: "message";
  readonly id: string;
  status: ItemStatus;
  readonly role: string;
  readonly content: Part[];
}
export interface ReasoningItem {
  readonly type: "reasoning";
  readonly id: string;
  status: ItemStatus;
  readonly summary: readonly unknown[];
  readonly content: { readonly type: "reasoning_text"; text: string }[];
}
export interface CallItem {
  readonly type: "function_call";
  readonly id: string;
  status: ItemStatus;
  readonly call_id: string;
  readonly name: string;
  /** JSON text. */
  arguments: string;
}
export interface CallOutputItem {
  readonly type: "function_call_output";
  readonly id: string;
  readonly status: ItemStatus;
  readonly call_id: string;
  readonly output: string | readonly TextPart[];
}
export type OutputItem = MessageItem | ReasoningItem | CallItem;
export type Item = OutputItem | CallOutputItem;

export type ResponseStatus =
  "in_progress" | "completed" | "incomplete" | "failed" | "cancelled";

export interface ResponseUsage {
  readonly input_tokens: number;
  readonly input_tokens_details: {
    readonly cached_tokens: number;
    /** Of the others: those of whole blocks, which later prompts find. */
    readonly cache_write_tokens: number;
  };
  readonly output_tokens: number;
  readonly output_tokens_details: { readonly reasoning_tokens: number };
  readonly total_tokens: number;
}

export interface ResponseError {
  readonly code: "server_error" | "rate_limit_exceeded" | "invalid_prompt";
  readonly message: string;
}

/** A response: what was asked for, and what has come of it so far. */
export interface ResponseResource {
  readonly id: string;
  readonly object: "response";
  /** Seconds since 1970. */
  readonly created_at: number;
  completed_at: number | null;
  status: ResponseStatus;
  error: ResponseError | null;
  incomplete_details: { readonly reason: "max_output_tokens" } | null;
  readonly previous_response_id: string | null;
  readonly output: OutputItem[];
  usage: ResponseUsage | null;
  readonly store: boolean;
  /** What the request said, with defaults filled in. */
  readonly [field: string]: unknown;
}

/** A random id that tells what it names: "resp_", "msg_", "fc_", "rs_", ... */
export function newId(prefix: string): string {
  return prefix + randomBytes(16).toString("hex");
}

export function seconds(): number {
  return Math.floor(Date.now() / 1000);
}
