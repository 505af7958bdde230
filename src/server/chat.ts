import type { FastifyInstance } from "fastify";
import type { ChatMessage } from "../text/chat-template.js";
import { answer } from "./answer.js";
import { ChatFormat } from "./chat-format.js";
import { invalidField } from "./errors.js";
import type { GenerationSpec } from "./generation.js";
import { checkMessages, renderPrompt } from "./messages.js";
import type { ServerContext } from "./options.js";
import { senderOf, type Sender } from "./origin.js";
import { checkCommon, checkModel, prepareSpecs } from "./prepare.js";
import { checkNotEmpty } from "./prompts.js";
import type { Room } from "./sampling.js";
import { ChatSchema, type ChatBody } from "./schemas.js";
import { structuredSpec } from "./structured.js";
import { checkToolUse, isFields, offered } from "./tools.js";
import { TurnPlan } from "./turn-plan.js";
import {
  NOT_OF_CHATS,
  refuseBestOf,
  refuseFields,
  refuseUnbuilt,
} from "./unsupported.js";

export function chatRoutes(app: FastifyInstance, context: ServerContext): void {
  app.post<{ Body: ChatBody }>(
    "/v1/chat/completions",
    { schema: { body: ChatSchema } },
    async (request, reply) => {
      const { body } = request;
      const model = checkModel(body.model, context);
      const { specs, plan, messages } = await prepareChat(
        context,
        senderOf(request),
        body,
      );
      const format = new ChatFormat(context, body, model, messages, plan);
      return answer(context, reply, body, specs, format);
    },
  );
}

export interface PreparedChat {
  readonly specs: GenerationSpec[];
  readonly plan: TurnPlan;
  readonly messages: readonly ChatMessage[];
}

/** A chat body as an engine request, and how its answers are to be read. Errors: 400 that names the field. */
export async function prepareChat(
  context: ServerContext,
  sender: Sender,
  body: ChatBody,
): Promise<PreparedChat> {
  refuseUnbuilt(body);
  refuseFields(body, NOT_OF_CHATS);
  checkCommon(body);
  checkFields(body);
  const { tokenizer } = context;
  const turns = context.templates.of(body.chat_template);
  const toolUse = checkToolUse(body, turns.dialect);
  const messages = checkMessages(body.messages);
  const tools = offered(body.tools, toolUse, ({ function: fn }) =>
    isFields(fn) ? fn["name"] : null,
  );
  const text = renderPrompt(turns.chatTemplate, messages, {
    ...body,
    tools: body.tools == null ? null : tools,
  });
  const plan = await TurnPlan.make({ ...turns, tokenizer }, text, {
    toolUse,
    response: structuredSpec(body),
    continued: body.continue_final_message ?? false,
    reasoningBudget: budgetOf(body),
  });
  const tokenIds = await tokenizer.encode(plan.prompt, {
    addSpecialTokens: body.add_special_tokens ?? false,
  });
  const specs = await prepareSpecs(
    context,
    sender,
    body,
    [checkNotEmpty("messages", tokenIds)],
    {
      logprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : null,
      promptLogprobs: body.prompt_logprobs ?? null,
      room: roomOf(body),
      keepTokenIds: plan.keepTokenIds,
      constraint: plan.constraint,
      grammar: plan.grammar,
      promptParam: "messages",
    },
  );
  return { specs, plan, messages };
}

function checkFields(body: ChatBody): void {
  refuseBestOf(body.best_of, body.n ?? 1);
  // None are reported without logprobs either.
  if ((body.top_logprobs ?? 0) > 0 && body.logprobs !== true)
    throw invalidField(
      "top_logprobs",
      "null or 0 unless logprobs is true",
      body.top_logprobs,
    );
  if (body.max_tokens === 0)
    throw invalidField("max_tokens", "at least 1", body.max_tokens);
}

function budgetOf({ thinking_token_budget: tokens }: ChatBody) {
  return tokens == null ? null : { tokens, param: "thinking_token_budget" };
}

/** Without a limit a chat goes on to the end of the context. */
function roomOf(body: ChatBody): Room {
  const param =
    body.max_completion_tokens != null ? "max_completion_tokens" : "max_tokens";
  const maxTokens = body[param] ?? null;
  return { maxTokens, explicit: maxTokens !== null, param };
}
