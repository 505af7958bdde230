import type { FastifyInstance, FastifyRequest } from "fastify";
import { MessagesFormat } from "./anthropic-format.js";
import {
  CountTokensSchema,
  MessagesSchema,
  readChat,
  type AnthropicChat,
  type CountTokensBody,
  type MessagesBody,
} from "./anthropic-request.js";
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
      const text = promptOf(context, chat, body);
      const { toolUse, continued, thinking } = chat;
      const plan = await TurnPlan.make(context, text, {
        toolUse,
        response: chat.response,
        continued,
        reasoningBudget:
          thinking.budget === null
            ? null
            : { tokens: thinking.budget, param: "thinking.budget_tokens" },
      });
      const specs = await specsOf(context, request, plan);
      return answer(
        context,
        reply,
        body,
        specs,
        new MessagesFormat(model, plan),
      );
    },
  );

  app.post<{ Body: CountTokensBody }>(
    "/v1/messages/count_tokens",
    { schema: { body: CountTokensSchema } },
    async ({ body }) => {
      checkModel(body.model, context);
      const chat = readChat(body, context.dialect);
      const text = promptOf(context, chat, body);
      const ids = await context.tokenizer.encode(text, {
        addSpecialTokens: false,
      });
      return { input_tokens: ids.length };
    },
  );
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
  const ids = await context.tokenizer.encode(plan.prompt, {
    addSpecialTokens: false,
  });
  const common: CommonBody = {
    temperature: body.temperature ?? null,
    top_p: body.top_p ?? null,
    top_k: body.top_k ?? null,
    seed: body.seed ?? null,
    priority: body.priority ?? null,
    speculative: body.speculative ?? null,
    cache_salt: body.cache_salt ?? null,
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
