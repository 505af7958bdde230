import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import type { ChatMessage } from "../text/chat-template.js";
import {
  answer,
  usageOf,
  type AnswerFormat,
  type WholeChoice,
} from "./answer.js";
import { invalidField } from "./errors.js";
import { publicFinish, type Generation } from "./generation.js";
import { chatLogprobs, promptLogprobs } from "./logprobs.js";
import { checkMessages, renderPrompt } from "./messages.js";
import type { ServerContext } from "./options.js";
import type { Delta } from "./output.js";
import { checkCommon, checkModel, prepareSpecs } from "./prepare.js";
import { checkNotEmpty } from "./prompts.js";
import type { Room } from "./sampling.js";
import { ChatSchema, type ChatBody } from "./schemas.js";
import { refuseUnbuilt } from "./unsupported.js";

export function chatRoutes(app: FastifyInstance, context: ServerContext): void {
  app.post<{ Body: ChatBody }>(
    "/v1/chat/completions",
    { schema: { body: ChatSchema } },
    async (request, reply) => {
      const { body } = request;
      const model = checkModel(body.model, context);
      refuseUnbuilt(body);
      checkCommon(body);
      checkFields(body);
      const messages = checkMessages(body.messages);
      const text = renderPrompt(context.chatTemplate, messages, body);
      const tokenIds = await context.tokenizer.encode(text, {
        addSpecialTokens: body.add_special_tokens ?? false,
      });
      const specs = await prepareSpecs(
        context,
        request,
        body,
        [checkNotEmpty("messages", tokenIds)],
        {
          logprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : null,
          promptLogprobs: body.prompt_logprobs ?? null,
          room: roomOf(body),
          promptParam: "messages",
        },
      );
      const format = new ChatFormat(context, body, model, messages);
      return answer(context, reply, body, specs, format);
    },
  );
}

function checkFields(body: ChatBody): void {
  if (body.top_logprobs != null && body.logprobs !== true)
    throw invalidField(
      "top_logprobs",
      "null unless logprobs is true",
      body.top_logprobs,
    );
  if (body.max_tokens === 0)
    throw invalidField("max_tokens", "at least 1", body.max_tokens);
}

/** Without a limit a chat goes on to the end of the context. */
function roomOf(body: ChatBody): Room {
  const param =
    body.max_completion_tokens != null ? "max_completion_tokens" : "max_tokens";
  const maxTokens = body[param] ?? null;
  return { maxTokens, explicit: maxTokens !== null, param };
}

/** Answers in the shape of /v1/chat/completions. */
class ChatFormat implements AnswerFormat {
  private readonly id = `chatcmpl-${randomUUID()}`;
  private readonly created = Math.floor(Date.now() / 1000);
  private readonly prefix: string;
  private readonly numTop: number;

  constructor(
    private readonly context: ServerContext,
    private readonly body: ChatBody,
    private readonly model: string,
    messages: readonly ChatMessage[],
  ) {
    this.numTop = body.top_logprobs ?? 0;
    this.role =
      body.continue_final_message === true
        ? (messages.at(-1)?.role ?? "assistant")
        : "assistant";
    this.prefix = JSON.stringify(this.head("chat.completion.chunk")).slice(
      0,
      -1,
    );
  }

  private readonly role: string;

  whole(generation: Generation, choices: readonly WholeChoice[]): unknown {
    const prompt = generation.prompts[0];
    const { tokenizer } = this.context;
    const { prompt_logprobs: numTop, return_token_ids } = this.body;
    return {
      ...this.head("chat.completion"),
      choices: choices.map((choice, index) => ({
        index,
        message: { role: this.role, content: choice.text, refusal: null },
        ...this.ending(choice),
      })),
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
    return Array.from(
      { length: this.body.n ?? 1 },
      (_, index) =>
        `${this.prefix},"choices":[{"index":${index},"delta":{"role":${role},"content":""},"logprobs":null,"finish_reason":null}]${ids}${this.usageField(generation)}}`,
    );
  }

  chunk(generation: Generation, index: number, delta: Delta): string | null {
    const silent =
      delta.text === "" &&
      delta.finishReason === null &&
      this.body.logprobs !== true &&
      this.body.return_token_ids !== true;
    if (silent) return null;
    const content =
      delta.text === "" && delta.finishReason !== null
        ? "{}"
        : `{"content":${JSON.stringify(delta.text)}}`;
    const rest = JSON.stringify(this.ending(delta)).slice(1);
    return `${this.prefix},"choices":[{"index":${index},"delta":${content},${rest}]${this.usageField(generation)}}`;
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

  private ending(delta: Delta) {
    const { tokenizer } = this.context;
    return {
      logprobs:
        this.body.logprobs === true
          ? chatLogprobs(delta.logprobs, this.numTop, tokenizer)
          : null,
      finish_reason: publicFinish(delta),
      stop_reason: delta.stopReason,
      ...(this.body.return_token_ids === true && {
        token_ids: delta.tokenIds,
      }),
    };
  }
}
