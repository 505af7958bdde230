/** Bodies of /v1/messages: their shape, and the fields that are refused. */
import { Type, type Static } from "typebox";
import {
  anyOf,
  boolean,
  ChatSchema,
  integer,
  list,
  number,
  object,
  string,
} from "./schemas.js";
import { MAX_TOOLS, type Fields } from "./tools.js";
import {
  absent,
  empty,
  emptyObject,
  off,
  unless,
  type Refusal,
} from "./unsupported.js";

/** Parameters beyond Anthropic's API, as on the other routes. */
export const BEYOND = [
  "min_p",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
  "seed",
  "min_tokens",
  "stop_token_ids",
  "include_stop_str_in_output",
  "ignore_eos",
  "logit_bias",
  "allowed_token_ids",
  "bad_words",
  "skip_special_tokens",
  "spaces_between_special_tokens",
  "priority",
  "speculative",
  "cache_salt",
  "request_id",
] as const;

const shared = {
  model: Type.String({ maxLength: 1024 }),
  messages: Type.Array(
    Type.Object({ role: Type.String(), content: Type.Unknown() }),
    { minItems: 1, maxItems: 65536 },
  ),
  system: anyOf("a text, or a list of text blocks"),
  tools: list<Fields>(Type.Object({}), { maxItems: MAX_TOOLS }),
  tool_choice: anyOf(
    'an object: {"type": "auto" | "any" | "none"}, or "tool" with its name',
  ),
  thinking: anyOf(
    'an object: {"type": "enabled" with budget_tokens | "adaptive" | "disabled"}',
  ),
  output_config: anyOf("an object: format (a JSON schema), effort"),
  output_format: anyOf("the older name of output_config.format"),
  chat_template_kwargs: object(),
};

export const CountTokensSchema = Type.Object(shared);
export type CountTokensBody = Static<typeof CountTokensSchema>;

export const MessagesSchema = Type.Object({
  ...shared,
  max_tokens: Type.Integer({ minimum: 1, maximum: 0x7fffffff }),
  stop_sequences: list<string>(Type.String({ minLength: 1, maxLength: 4096 }), {
    maxItems: 64,
  }),
  stream: boolean(),
  temperature: number({ minimum: 0, maximum: 2 }),
  top_p: number({ exclusiveMinimum: 0, maximum: 1 }),
  top_k: integer({ minimum: -1, maximum: 0x7fffffff }),
  // Hints to queues, caches and accounts that are not here.
  metadata: object(),
  cache_control: object(),
  service_tier: string(),
  speed: string(),
  inference_geo: string(),
  diagnostics: object(),
  user_profile_id: string(),
  workspace_id: string(),
  ...Type.Pick(ChatSchema, BEYOND).properties,
});
export type MessagesBody = Static<typeof MessagesSchema>;

/** Fields that would change the answer and are not built, and what this route does not take of the others. */
export const NOT_OF_MESSAGES: readonly Refusal[] = [
  ["mcp_servers", empty, "MCP servers are not built"],
  ["container", absent, "containers are not built"],
  ["context_management", absent, "context management is not built"],
  ["fallbacks", empty, "fallbacks are not built"],
  ["input", absent, "this route takes messages"],
  ["prompt", absent, "this route takes messages"],
  ["instructions", empty, "use system"],
  ["previous_response_id", absent, "conversations are kept by /v1/responses"],
  ["n", unless(1), "a message has one answer"],
  ["best_of", unless(1), "a message has one answer"],
  ["stop", empty, "use stop_sequences"],
  ["max_completion_tokens", absent, "use max_tokens"],
  ["max_output_tokens", absent, "use max_tokens"],
  ["response_format", absent, "use output_config.format"],
  ["structured_outputs", absent, "use output_config.format"],
  ["guided_json", absent, "use output_config.format"],
  ["guided_json_object", off, "use output_config.format"],
  ["guided_regex", absent, "not built on this route"],
  ["guided_choice", absent, "not built on this route"],
  ["guided_grammar", absent, "not built on this route"],
  ["guided_whitespace_pattern", absent, "not built on this route"],
  ["logprobs", off, "not built on this route"],
  ["top_logprobs", unless(0), "not built on this route"],
  ["prompt_logprobs", absent, "not built on this route"],
  ["echo", off, "not built on this route"],
  ["return_token_ids", off, "not built on this route"],
  ["documents", empty, "not built on this route"],
  ["chat_template", absent, "not built on this route"],
  ["truncate_prompt_tokens", absent, "not built on this route"],
  ["add_special_tokens", off, "not built on this route"],
  [
    "add_generation_prompt",
    absent,
    "an answer goes on from the last message where that is the assistant's",
  ],
  [
    "continue_final_message",
    absent,
    "an answer goes on from the last message where that is the assistant's",
  ],
  [
    "parallel_tool_calls",
    unless(true),
    "use tool_choice.disable_parallel_tool_use",
  ],
  ["reasoning", emptyObject, "use thinking and output_config.effort"],
  ["reasoning_effort", absent, "use output_config.effort"],
  ["include_reasoning", unless(true), 'use thinking.display "omitted"'],
  ["thinking_token_budget", absent, "use thinking.budget_tokens"],
];
