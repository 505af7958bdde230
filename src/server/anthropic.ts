import type { FastifyInstance, FastifyRequest } from "fastify";
import { MessagesFormat } from "./anthropic-format.js";
import { readChat, type AnthropicChat } from "./anthropic-request.js";
import {
  BEYOND,
  CountTokensSchema,
  MessagesSchema,
  type CountTokensBody,
  type MessagesBody,
} from "./anthropic-schema.js";
import { answer } from "./answer.js";
import { renderPrompt } from "./messages.js";
import type { ServerContext } from "./options.js";
import { senderOf } from "./origin.js";
import { checkModel, prepareSpecs } from "./prepare.js";
import { checkNotEmpty } from "./prompts.js";
import type { CommonBody } from "./schemas.js";
import { TurnPlan } from "./turn-plan.js";

/** POST /v1/messages and /v1/messages/count_tokens, as Anthropic's SDKs know them. */
export function anthropicRoutes(
  app: FastifyInstance,
  context: ServerContext,
): void {
  app.post<{ Body: MessagesBody }>(
    "/v1/messages",
    { schema: { body: MessagesSchema } },
    async (request, reply) => {
      const { body } = request;
      const model = checkModel(body.model, context);
      const chat = readChat(body, context.dialect);
      const plan = await planOf(context, chat, body);
      const specs = await specsOf(context, request, plan);
      return answer(
        context,
        reply,
        body,
        specs,
        new MessagesFormat(model, plan, chat.thinking.shown),
      );
    },
  );

  app.post<{ Body: CountTokensBody }>(
    "/v1/messages/count_tokens",
    { schema: { body: CountTokensSchema } },
    async ({ body }) => {
      checkModel(body.model, context);
      const chat = readChat(body, context.dialect);
      const plan = await planOf(context, chat, body);
      const ids = await encode(context, plan);
      return { input_tokens: ids.length };
    },
  );
}

function planOf(
  context: ServerContext,
  chat: AnthropicChat,
  body: CountTokensBody,
): Promise<TurnPlan> {
  const { toolUse, response, continued, thinking } = chat;
  return TurnPlan.make(context, promptOf(context, chat, body), {
    toolUse,
    response,
    continued,
    reasoningBudget:
      thinking.budget === null
        ? null
        : { tokens: thinking.budget, param: "thinking.budget_tokens" },
  });
}

function encode(
  { tokenizer }: ServerContext,
  { prompt }: TurnPlan,
): Promise<Int32Array> {
  return tokenizer.encode(prompt, { addSpecialTokens: false });
}

/** Templates of models that can do either ask `enable_thinking`. */
function promptOf(
  { chatTemplate }: ServerContext,
  { messages, tools, continued, thinking, effort }: AnthropicChat,
  { chat_template_kwargs: kwargs }: CountTokensBody,
): string {
  return renderPrompt(chatTemplate, messages, {
    tools,
    documents: null,
    add_generation_prompt: !continued,
    continue_final_message: continued,
    chat_template_kwargs: {
      ...(thinking.enabled !== null && { enable_thinking: thinking.enabled }),
      ...kwargs,
    },
    reasoning_effort: effort,
  });
}

async function specsOf(
  context: ServerContext,
  request: FastifyRequest<{ Body: MessagesBody }>,
  plan: TurnPlan,
) {
  const { body } = request;
  const ids = await encode(context, plan);
  const common: CommonBody = {
    ...beyondOf(body),
    temperature: body.temperature ?? null,
    top_p: body.top_p ?? null,
    top_k: body.top_k ?? null,
    stop: body.stop_sequences ?? null,
  };
  const { max_tokens: maxTokens } = body;
  return prepareSpecs(
    context,
    senderOf(request),
    common,
    [checkNotEmpty("messages", ids)],
    {
      logprobs: null,
      promptLogprobs: null,
      room: { maxTokens, explicit: true, param: "max_tokens" },
      promptParam: "messages",
      keepTokenIds: plan.keepTokenIds,
      constraint: plan.constraint,
      grammar: plan.grammar,
    },
  );
}

/** The parameters that every route takes. */
function beyondOf(body: MessagesBody): CommonBody {
  return Object.fromEntries(BEYOND.map((name) => [name, body[name]]));
}
