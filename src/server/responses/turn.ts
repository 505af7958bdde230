import { OctavoError } from "../../core/errors.js";
import type { ChatMessage } from "../../text/chat-template.js";
import type { Tokenizer } from "../../text/tokenizer.js";
import { invalidField } from "../errors.js";
import type { GenerationSpec } from "../generation.js";
import { renderPrompt } from "../messages.js";
import type { ServerContext } from "../options.js";
import type { Sender } from "../origin.js";
import { checkModel, prepareSpecs } from "../prepare.js";
import { checkNotEmpty } from "../prompts.js";
import { stopStrings } from "../sampling.js";
import type { CommonBody } from "../schemas.js";
import { offered, type ToolUse } from "../tools.js";
import { TurnPlan } from "../turn-plan.js";
import { checkCallIds, readInput, toMessages } from "./items.js";
import {
  newId,
  seconds,
  type Item,
  type ResponseResource,
} from "./resource.js";
import {
  chatTool,
  checkFields,
  readEffort,
  readTextFormat,
  readTools,
  wantsLogprobs,
  type ResponsesBody,
} from "./schema.js";
import { conversationOf, type StoredResponse } from "./store.js";

/** What earlier responses and their items are looked up in. */
export interface Memory {
  find(id: string, key: string): StoredResponse | undefined;
  findItem(id: string, key: string): Item | undefined;
}

/** A response that can be begun. */
export interface PreparedTurn {
  readonly response: ResponseResource;
  readonly input: readonly Item[];
  readonly history: readonly Item[];
  readonly historySize: number;
  readonly key: string;
  readonly plan: TurnPlan;
  readonly specs: readonly GenerationSpec[];
  /** Alternatives per token of the log-probabilities; null: none are wanted. */
  readonly numTop: number | null;
  readonly tokenizer: Tokenizer;
  /** Tokens of a block of the prefix cache; 0: there is none. */
  readonly cacheBlockSize: number;
}

/** Checks a body and encodes its conversation. Errors: 400 that names the field; 404 for the model. */
export async function prepareTurn(
  context: ServerContext,
  body: ResponsesBody,
  sender: Sender,
  memory: Memory,
): Promise<PreparedTurn> {
  const { key } = sender.origin;
  const { model, plan, tokenIds, ...conversation } = await readTurn(
    context,
    body,
    key,
    memory,
  );
  const numTop = wantsLogprobs(body) ? (body.top_logprobs ?? 0) : null;
  const { max_output_tokens: maxTokens = null } = body;
  const specs = await prepareSpecs(
    context,
    sender,
    commonBody(body),
    [tokenIds],
    {
      logprobs: numTop,
      promptLogprobs: null,
      room: {
        maxTokens,
        explicit: maxTokens !== null,
        param: "max_output_tokens",
      },
      promptParam: "input",
      keepTokenIds: plan.keepTokenIds,
      constraint: plan.constraint,
      grammar: plan.grammar,
    },
  );
  return {
    response: newResponse(body, model, specs[0]),
    ...conversation,
    key,
    plan,
    specs,
    numTop,
    tokenizer: context.tokenizer,
    cacheBlockSize: context.cacheBlockSize,
  };
}

/** Tokens of the prompt that a body makes. Errors: as for a response, but for what does not fit the context. */
export async function countTokens(
  context: ServerContext,
  body: ResponsesBody,
  key: string,
  memory: Memory,
): Promise<number> {
  return (await readTurn(context, body, key, memory)).tokenIds.length;
}

async function readTurn(
  context: ServerContext,
  body: ResponsesBody,
  key: string,
  memory: Memory,
) {
  const model = checkModel(body.model, context);
  checkFields(body);
  stopStrings(body.stop);
  const toolUse = readTools(body, context.dialect);
  const { history, historySize } = readPrevious(body, key, memory);
  const input =
    body.input == null && history.length > 0
      ? []
      : readInput(body.input, (id) => memory.findItem(id, key));
  const items = [...history, ...input];
  if (items.length === 0)
    throw invalidField("input", "at least one item", body.input);
  checkCallIds(items, history.length);
  const { plan, tokenIds } = await encodeConversation(
    context,
    body,
    toolUse,
    toMessages(body.instructions ?? null, items),
  );
  checkNotEmpty("input", tokenIds);
  return { model, input, history, historySize, plan, tokenIds };
}

function readPrevious(
  { previous_response_id: id }: ResponsesBody,
  key: string,
  memory: Memory,
): { history: readonly Item[]; historySize: number } {
  if (id == null) return { history: [], historySize: 0 };
  const previous = memory.find(id, key);
  if (previous === undefined)
    throw new OctavoError(
      "previous_response_not_found",
      `Previous response with id '${id}' not found.`,
      "previous_response_id",
    );
  if (previous.response.status === "in_progress")
    throw invalidField(
      "previous_response_id",
      "a response that has ended",
      "one that is still in progress",
    );
  return conversationOf(previous);
}

/** The part of the context that truncation leaves to an answer whose length is not given. */
const ANSWER_SHARE = 1 / 8;

/**
 * The conversation as a prompt. With truncation auto its oldest turns are left out where it does not fit: from a message
 * of the user to the next, system messages stay.
 */
async function encodeConversation(
  context: ServerContext,
  body: ResponsesBody,
  toolUse: ToolUse,
  messages: readonly ChatMessage[],
) {
  const encode = promptEncoder(context, body, toolUse);
  const whole = await encode(messages);
  const { maxModelLen } = context.engine.info;
  const asked = body.max_output_tokens ?? null;
  const fits = whole.tokenIds.length + (asked ?? 1) <= maxModelLen;
  if (fits || body.truncation !== "auto") return whole;
  const room = maxModelLen - (asked ?? Math.ceil(maxModelLen * ANSWER_SHARE));
  const isSystem = ({ role }: ChatMessage): boolean =>
    role === "system" || role === "developer";
  const cuts = messages.flatMap(({ role }, i) => (role === "user" ? [i] : []));
  // Fewer messages make fewer tokens: the first cut that fits is found by halving.
  let [low, high] = [0, cuts.length - 1];
  let best = whole;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const cut = cuts[middle] ?? 0;
    const shorter = await encode(
      messages.filter((message, i) => i >= cut || isSystem(message)),
    );
    if (shorter.tokenIds.length <= room) {
      best = shorter;
      high = middle - 1;
    } else low = middle + 1;
  }
  return best;
}

function promptEncoder(
  context: ServerContext,
  body: ResponsesBody,
  toolUse: ToolUse,
) {
  const effort = readEffort(body);
  const response = readTextFormat(body);
  const { thinking_token_budget: budget } = body;
  const offers = offered(body.tools, toolUse, ({ name }) => name);
  const tools = offers.length > 0 ? offers.map(chatTool) : null;
  return async (messages: readonly ChatMessage[]) => {
    const text = renderPrompt(context.chatTemplate, messages, {
      tools,
      documents: null,
      add_generation_prompt: true,
      continue_final_message: false,
      chat_template_kwargs: {
        ...(effort === "none" && { enable_thinking: false }),
        ...body.chat_template_kwargs,
      },
      reasoning_effort: effort,
    });
    const plan = await TurnPlan.make(context, text, {
      toolUse,
      response,
      continued: false,
      reasoningBudget:
        budget == null
          ? null
          : { tokens: budget, param: "thinking_token_budget" },
    });
    const tokenIds = await context.tokenizer.encode(plan.prompt, {
      addSpecialTokens: false,
    });
    return { plan, tokenIds };
  };
}

function commonBody(body: ResponsesBody): CommonBody {
  return {
    temperature: body.temperature ?? null,
    top_p: body.top_p ?? null,
    top_k: body.top_k ?? null,
    min_p: body.min_p ?? null,
    presence_penalty: body.presence_penalty ?? null,
    frequency_penalty: body.frequency_penalty ?? null,
    repetition_penalty: body.repetition_penalty ?? null,
    seed: body.seed ?? null,
    stop: body.stop ?? null,
    stop_token_ids: body.stop_token_ids ?? null,
    include_stop_str_in_output: body.include_stop_str_in_output ?? null,
    skip_special_tokens: body.skip_special_tokens ?? null,
    spaces_between_special_tokens: body.spaces_between_special_tokens ?? null,
    ignore_eos: body.ignore_eos ?? null,
    min_tokens: body.min_tokens ?? null,
    logit_bias: body.logit_bias ?? null,
    bad_words: body.bad_words ?? null,
    allowed_token_ids: body.allowed_token_ids ?? null,
    priority: body.priority ?? null,
    speculative: body.speculative ?? null,
    cache_salt: body.cache_salt ?? null,
    request_id: body.request_id ?? null,
  };
}

/** Every field that the Open Responses specification asks for, as it was understood. */
function newResponse(
  body: ResponsesBody,
  model: string,
  spec: GenerationSpec | undefined,
): ResponseResource {
  const format = (body.text?.["format"] as object | null) ?? { type: "text" };
  return {
    id: newId("resp_"),
    object: "response",
    created_at: seconds(),
    completed_at: null,
    status: "in_progress",
    background: false,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    metadata: body.metadata ?? {},
    model,
    output: [],
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    presence_penalty: spec?.params.presencePenalty ?? 0,
    frequency_penalty: spec?.params.frequencyPenalty ?? 0,
    previous_response_id: body.previous_response_id ?? null,
    prompt_cache_key: body.prompt_cache_key ?? null,
    reasoning: {
      effort: body.reasoning?.["effort"] ?? null,
      summary: body.reasoning?.["summary"] ?? null,
    },
    safety_identifier: body.safety_identifier ?? null,
    service_tier: "default",
    store: body.store ?? true,
    temperature: spec?.params.temperature ?? 1,
    text: { format, verbosity: "medium" },
    tool_choice: body.tool_choice ?? "auto",
    tools: (body.tools ?? []).map((tool) => ({
      type: "function",
      name: tool["name"],
      description: tool["description"] ?? null,
      parameters: tool["parameters"] ?? null,
      strict: tool["strict"] ?? null,
    })),
    top_logprobs: body.top_logprobs ?? 0,
    top_p: spec?.params.topP ?? 1,
    truncation: body.truncation ?? "disabled",
    usage: null,
    user: body.user ?? null,
  };
}
