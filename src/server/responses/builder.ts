import type { OctavoError } from "../../core/errors.js";
import type { TurnEvent } from "../../text/turn/events.js";
import { errorAnswer } from "../errors.js";
import { publicFinish, type Generation } from "../generation.js";
import { chatLogprobs, type ChatLogprob } from "../logprobs.js";
import type { Delta, TokenLogprobs } from "../output.js";
import {
  newId,
  seconds,
  type CallItem,
  type ItemStatus,
  type MessageItem,
  type OutputItem,
  type ReasoningItem,
  type ResponseError,
  type ResponseResource,
  type ResponseStatus,
} from "./resource.js";
import type { PreparedTurn } from "./turn.js";

/** An event of a response; it holds the response's own objects, which go on to change: serialize it at once. */
export interface ResponseEvent {
  readonly type: string;
  readonly sequence_number: number;
  readonly [field: string]: unknown;
}

/** It brings the whole response, and with it what the request said. */
export function isEcho(event: ResponseEvent): boolean {
  return "response" in event;
}

type Emit = (event: ResponseEvent) => void;
type Tokens = Pick<
  Generation,
  "promptTokens" | "cachedTokens" | "completionTokens"
>;

/**
 * Makes a response of what the engine says, and tells of it:
 *
 *   created in_progress (item added, its parts and pieces, item done)* completed | incomplete | failed
 */
export class ResponseBuilder {
  readonly response: ResponseResource;
  private readonly parser;
  private sequence = 0;
  private open: OutputItem | null = null;
  /** Tokens up to the end of the reasoning, its markers included. */
  private reasoningTokens = 0;
  /** Of tokens whose text has not come yet. */
  private logprobs: TokenLogprobs[] = [];
  /** Of the open text: those of the pieces told of, in order. */
  private partLogprobs: ChatLogprob[] = [];

  constructor(
    private readonly turn: PreparedTurn,
    private readonly emit: Emit,
  ) {
    this.response = turn.response;
    this.parser = turn.plan.parser();
  }

  begin(): void {
    this.tell("response.created", { response: this.response });
    this.tell("response.in_progress", { response: this.response });
  }

  push(delta: Delta, tokens: Tokens): void {
    if (this.turn.numTop !== null) this.logprobs.push(...delta.logprobs);
    this.tellTurn(this.parser.push(delta.text));
    if (delta.finishReason !== null) this.tellTurn(this.parser.end());
    // Whatever comes before the first text or call belongs to the reasoning, if there is some.
    if (this.open?.type === "reasoning")
      this.reasoningTokens = tokens.completionTokens;
    if (delta.finishReason === null) return;
    const length = publicFinish(delta) === "length";
    if (length)
      this.response.incomplete_details = { reason: "max_output_tokens" };
    this.end(length ? "incomplete" : "completed", tokens);
  }

  fail(error: OctavoError, tokens: Tokens): void {
    this.response.error = failureOf(error);
    this.tellTurn(this.parser.end());
    this.end("failed", tokens);
  }

  cancel(tokens: Tokens): void {
    this.tellTurn(this.parser.end());
    this.end("cancelled", tokens);
  }

  private end(status: ResponseStatus, tokens: Tokens): void {
    const { response } = this;
    const whole = status === "completed";
    // A model that ends at once has still answered.
    if (whole && response.output.length === 0) this.text("");
    this.close(whole ? "completed" : "incomplete");
    response.status = status;
    response.completed_at = whole ? seconds() : null;
    const { promptTokens, cachedTokens, completionTokens } = tokens;
    response.usage = {
      input_tokens: promptTokens,
      input_tokens_details: {
        cached_tokens: cachedTokens,
        cache_write_tokens: this.cacheWrites(tokens),
      },
      output_tokens: completionTokens,
      output_tokens_details: { reasoning_tokens: this.reasoningTokens },
      total_tokens: promptTokens + completionTokens,
    };
    // Clients know no event of their own for a cancelled one: it is incomplete, and its status says why.
    const type = status === "cancelled" ? "incomplete" : status;
    this.tell(`response.${type}`, { response });
  }

  /** Nothing is known to be written before the first token is there. */
  private cacheWrites(tokens: Tokens): number {
    const { promptTokens, cachedTokens, completionTokens } = tokens;
    const { cacheBlockSize } = this.turn;
    if (cacheBlockSize === 0 || completionTokens === 0) return 0;
    const whole = promptTokens - (promptTokens % cacheBlockSize);
    return Math.max(0, whole - cachedTokens);
  }

  private tell(type: string, fields: object): void {
    this.emit({ type, sequence_number: this.sequence++, ...fields });
  }

  private tellTurn(events: readonly TurnEvent[]): void {
    for (const event of events) this.tellPiece(event);
  }

  private tellPiece(event: TurnEvent): void {
    switch (event.type) {
      case "reasoning":
        return this.reasoning(event.text);
      case "text":
        return this.text(event.text);
      case "call-start":
        return this.callStart(event.name);
      case "call-arguments":
        return this.callArguments(event.text);
      case "call-end":
        return this.close("completed");
    }
  }

  private reasoning(text: string): void {
    this.logprobs = [];
    const item =
      this.open?.type === "reasoning" ? this.open : this.startReasoning();
    const part = item.content[0];
    if (part === undefined) return;
    part.text += text;
    this.tell("response.reasoning_text.delta", {
      ...this.place(item, 0),
      delta: text,
    });
  }

  private startReasoning(): ReasoningItem {
    const item: ReasoningItem = {
      type: "reasoning",
      id: newId("rs_"),
      status: "in_progress",
      summary: [],
      content: [],
    };
    this.add(item);
    const part = { type: "reasoning_text" as const, text: "" };
    item.content.push(part);
    this.tell("response.content_part.added", { ...this.place(item, 0), part });
    return item;
  }

  private text(text: string): void {
    if (this.open?.type !== "message" && this.open !== null)
      this.dropMarkers(text);
    const item = this.open?.type === "message" ? this.open : this.startText();
    const part = item.content[0];
    if (part?.type !== "output_text") return;
    part.text += text;
    const logprobs = this.takeLogprobs();
    this.partLogprobs.push(...logprobs);
    if (text !== "")
      this.tell("response.output_text.delta", {
        ...this.place(item, 0),
        delta: text,
        logprobs,
      });
  }

  private startText(): MessageItem {
    const item: MessageItem = {
      type: "message",
      id: newId("msg_"),
      status: "in_progress",
      role: "assistant",
      content: [],
    };
    this.add(item);
    const part = {
      type: "output_text" as const,
      text: "",
      annotations: [],
      logprobs: [],
    };
    item.content.push(part);
    this.tell("response.content_part.added", { ...this.place(item, 0), part });
    return item;
  }

  /** Before the first text after something else come the markers that end that: their tokens are none of the text. */
  private dropMarkers(text: string): void {
    const width = (token: number): number =>
      this.turn.tokenizer.tokenBytes(token).length;
    const length = Buffer.byteLength(text);
    let rest = this.logprobs.reduce((sum, { token }) => sum + width(token), 0);
    let first = 0;
    for (const { token } of this.logprobs) {
      rest -= width(token);
      if (rest < length) break;
      first++;
    }
    this.logprobs.splice(0, first);
  }

  private takeLogprobs(): ChatLogprob[] {
    const { numTop, tokenizer } = this.turn;
    if (numTop === null || this.logprobs.length === 0) return [];
    const { content } = chatLogprobs(this.logprobs, numTop, tokenizer);
    this.logprobs = [];
    return content;
  }

  private callStart(name: string): void {
    this.logprobs = [];
    this.add({
      type: "function_call",
      id: newId("fc_"),
      status: "in_progress",
      call_id: this.turn.plan.callId("call_"),
      name,
      arguments: "",
    });
  }

  private callArguments(text: string): void {
    const item = this.open;
    this.logprobs = [];
    if (item?.type !== "function_call") return;
    item.arguments += text;
    this.tell("response.function_call_arguments.delta", {
      ...this.place(item),
      delta: text,
    });
  }

  /** An item begins: the one before it is complete. */
  private add(item: OutputItem): void {
    this.close("completed");
    this.open = item;
    this.response.output.push(item);
    const output_index = this.response.output.length - 1;
    this.tell("response.output_item.added", { output_index, item });
  }

  private close(status: ItemStatus): void {
    const item = this.open;
    if (item === null) return;
    this.open = null;
    item.status = status;
    if (item.type === "function_call") this.closeCall(item);
    else if (item.type === "reasoning") this.closeReasoning(item);
    else this.closeText(item);
    const output_index = this.response.output.length - 1;
    this.tell("response.output_item.done", { output_index, item });
  }

  private closeCall(item: CallItem): void {
    const { name, arguments: json } = item;
    this.tell("response.function_call_arguments.done", {
      ...this.place(item),
      name,
      arguments: json,
    });
  }

  private closeReasoning(item: ReasoningItem): void {
    const [part] = item.content;
    const place = this.place(item, 0);
    this.tell("response.reasoning_text.done", { ...place, text: part?.text });
    this.tell("response.content_part.done", { ...place, part });
  }

  private closeText(item: MessageItem): void {
    const [part] = item.content;
    if (part?.type !== "output_text") return;
    part.logprobs = this.partLogprobs;
    this.partLogprobs = [];
    const place = this.place(item, 0);
    const { text, logprobs } = part;
    this.tell("response.output_text.done", { ...place, text, logprobs });
    this.tell("response.content_part.done", { ...place, part });
  }

  /** Where an event happens: in the last item. */
  private place({ id }: OutputItem, content_index?: number) {
    return {
      item_id: id,
      output_index: this.response.output.length - 1,
      ...(content_index !== undefined && { content_index }),
    };
  }
}

/** By the few codes that clients know of a response that failed. */
function failureOf(error: OctavoError): ResponseError {
  const { status, body } = errorAnswer(error);
  const { message } = body.error;
  if (status === 400) return { code: "invalid_prompt", message };
  if (status === 429) return { code: "rate_limit_exceeded", message };
  return { code: "server_error", message };
}
