import { randomUUID } from "node:crypto";
import type { ChatMessage } from "../text/chat-template.js";
import { collectTurn, type TurnEvent } from "../text/turn/events.js";
import type { TurnParser } from "../text/turn/turn-parser.js";
import { usageOf, type AnswerFormat, type WholeChoice } from "./answer.js";
import { publicFinish, type Generation } from "./generation.js";
import { chatLogprobs, promptLogprobs } from "./logprobs.js";
import type { ServerContext } from "./options.js";
import type { Delta } from "./output.js";
import type { ChatBody } from "./schemas.js";
import type { TurnPlan } from "./turn-plan.js";

const OBJECT = "chat.completion";

/** Whose message the answer is. */
export function answeringRole(
  { continue_final_message: continued }: ChatBody,
  messages: readonly ChatMessage[],
): string {
  return continued === true
    ? (messages.at(-1)?.role ?? "assistant")
    : "assistant";
}

/** Answers in the shape of /v1/chat/completions. */
export class ChatFormat implements AnswerFormat {
  private readonly id: string;
  private readonly created = Math.floor(Date.now() / 1000);
  private readonly prefix: string;
  private readonly numTop: number;
  private readonly role: string;
  /** Of a stream: one per choice. */
  private readonly parsers: TurnParser[];

  constructor(
    private readonly context: ServerContext,
    private readonly body: ChatBody,
    private readonly model: string,
    messages: readonly ChatMessage[],
    private readonly plan: TurnPlan,
  ) {
    this.id = `chatcmpl-${body.request_id || randomUUID()}`;
    this.numTop = body.top_logprobs ?? 0;
    this.role = answeringRole(body, messages);
    this.prefix = JSON.stringify(this.head(`${OBJECT}.chunk`)).slice(0, -1);
    this.parsers = Array.from({ length: body.n ?? 1 }, () => plan.parser());
  }

  whole(generation: Generation, choices: readonly WholeChoice[]): unknown {
    const prompt = generation.prompts[0];
    const { tokenizer } = this.context;
    const { prompt_logprobs: numTop, return_token_ids } = this.body;
    return {
      ...this.head(OBJECT),
      choices: choices.map((choice, index) => {
        const parser = this.plan.parser();
        const events = [...parser.push(choice.text), ...parser.end()];
        return {
          index,
          message: this.message(events),
          ...this.ending(choice, parser.numCalls),
        };
      }),
      usage: usageOf(generation),
      ...(numTop != null && {
        prompt_logprobs: promptLogprobs(
          prompt?.promptLogprobs ?? [],
          numTop,
          tokenizer,
        ),
      }),
      ...(return_token_ids === true && {
        prompt_token_ids: Array.from(prompt?.spec.promptTokenIds ?? []),
      }),
    };
  }

  /** The first chunk of each choice carries the role. */
  opening(generation: Generation): string[] {
    const role = JSON.stringify(this.role);
    const ids =
      this.body.return_token_ids === true
        ? `,"prompt_token_ids":${JSON.stringify(Array.from(generation.prompts[0]?.spec.promptTokenIds ?? []))}`
        : "";
    return this.parsers.map(
      (_, index) =>
        `${this.prefix},"choices":[{"index":${index},"delta":{"role":${role},"content":""},"logprobs":null,"finish_reason":null}]${ids}${this.usageField(generation)}}`,
    );
  }

  /** A chunk per event; the last one of a step has its log-probabilities and, at the end, why it ended. */
  chunk(generation: Generation, index: number, delta: Delta): string[] {
    const parser = this.parsers[index];
    if (parser === undefined) return [];
    const ended = delta.finishReason !== null;
    const events = parser.push(delta.text);
    if (ended) events.push(...parser.end());
    const deltas = events.flatMap((event) => this.deltaOf(event));
    const reports =
      ended ||
      this.body.logprobs === true ||
      this.body.return_token_ids === true;
    if (deltas.length === 0 && reports)
      deltas.push(ended ? "{}" : '{"content":""}');
    const usage = this.usageField(generation);
    return deltas.map((json, i) => {
      const rest =
        i === deltas.length - 1
          ? JSON.stringify(this.ending(delta, parser.numCalls)).slice(1, -1)
          : '"logprobs":null,"finish_reason":null,"stop_reason":null';
      return `${this.prefix},"choices":[{"index":${index},"delta":${json},${rest}}]${usage}}`;
    });
  }

  usage(generation: Generation): string | null {
    if (this.body.stream_options?.include_usage !== true) return null;
    return `${this.prefix},"choices":[],"usage":${JSON.stringify(usageOf(generation))}}`;
  }

  private usageField(generation: Generation): string {
    const options = this.body.stream_options;
    if (options?.include_usage !== true) return "";
    return options.continuous_usage_stats === true
      ? `,"usage":${JSON.stringify(usageOf(generation))}`
      : `,"usage":null`;
  }

  private head(object: string) {
    return { id: this.id, object, created: this.created, model: this.model };
  }

  private get hidesReasoning(): boolean {
    return this.body.include_reasoning === false;
  }

  private message(events: readonly TurnEvent[]) {
    const { reasoning, text, calls } = collectTurn(events);
    const shown = this.hidesReasoning ? "" : reasoning;
    const other = reasoning !== "" || calls.length > 0;
    return {
      role: this.role,
      content: text === "" && other ? null : text,
      refusal: null,
      ...(shown !== "" && { reasoning: shown, reasoning_content: shown }),
      ...(calls.length > 0 && {
        tool_calls: calls.map((call) => ({
          id: this.plan.callId("call_"),
          type: "function",
          function: call,
        })),
      }),
    };
  }

  /** Reasoning goes by both of the names that clients know. */
  private deltaOf(event: TurnEvent): string[] {
    switch (event.type) {
      case "text":
        return [`{"content":${JSON.stringify(event.text)}}`];
      case "reasoning": {
        if (this.hidesReasoning) return [];
        const text = JSON.stringify(event.text);
        return [`{"reasoning":${text},"reasoning_content":${text}}`];
      }
      case "call-start":
        return this.callDelta({
          index: event.call,
          id: this.plan.callId("call_"),
          type: "function",
          function: { name: event.name, arguments: "" },
        });
      case "call-arguments":
        return this.callDelta({
          index: event.call,
          function: { arguments: event.text },
        });
      case "call-end":
        return [];
    }
  }

  private callDelta(call: object): string[] {
    return [`{"tool_calls":[${JSON.stringify(call)}]}`];
  }

  private ending(delta: Delta | WholeChoice, numCalls: number) {
    const { tokenizer } = this.context;
    const finish = publicFinish(delta);
    return {
      logprobs:
        this.body.logprobs === true
          ? chatLogprobs(delta.logprobs, this.numTop, tokenizer)
          : null,
      finish_reason: finish === "stop" && numCalls > 0 ? "tool_calls" : finish,
      stop_reason: delta.stopReason,
      ...(this.body.return_token_ids === true && {
        token_ids: delta.tokenIds,
      }),
    };
  }
}
