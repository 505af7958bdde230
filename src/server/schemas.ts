import { Type, type Static, type TSchema } from "typebox";
import { MAX_LOGPROBS } from "../core/sampling-params.js";

/*
 * Shapes of the request bodies. Every optional field also takes null, which means "absent", as in OpenAI's and vLLM's
 * servers. Types are never coerced. Unions that ajv would explain badly (prompt, stop, content) are parsed by hand.
 */

type Range = {
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
};

export const number = (range: Range = {}) =>
  Type.Optional(
    Type.Unsafe<number | null>({ type: ["number", "null"], ...range }),
  );
export const integer = (range: Range = {}) =>
  Type.Optional(
    Type.Unsafe<number | null>({ type: ["integer", "null"], ...range }),
  );
export const boolean = () =>
  Type.Optional(Type.Unsafe<boolean | null>({ type: ["boolean", "null"] }));
/** Characters of a request's chat template: published ones have up to 20,000. */
const MAX_TEMPLATE = 1 << 17;

export const string = (maxLength = 1024) =>
  Type.Optional(
    Type.Unsafe<string | null>({ type: ["string", "null"], maxLength }),
  );
export const list = <T>(items: TSchema, limits: object = {}) =>
  Type.Optional(
    Type.Unsafe<T[] | null>({ type: ["array", "null"], items, ...limits }),
  );
export const object = () =>
  Type.Optional(
    Type.Unsafe<Record<string, unknown> | null>({ type: ["object", "null"] }),
  );

/** Of several types, parsed by hand: ajv would explain badly what is wrong with it. */
export const anyOf = (description: string) =>
  Type.Optional(Type.Unsafe<unknown>({ description }));

const tokenId = Type.Integer({ minimum: 0, maximum: 0x7fffffff });

const StreamOptions = Type.Optional(
  Type.Unsafe<{
    include_usage?: boolean | null;
    continuous_usage_stats?: boolean | null;
  } | null>({
    type: ["object", "null"],
    properties: {
      include_usage: { type: ["boolean", "null"] },
      continuous_usage_stats: { type: ["boolean", "null"] },
    },
  }),
);

/** Most choices of one prompt. */
export const MAX_N = 128;

/** To queues, caches and accounts that are not here: they change nothing. */
const hints = {
  metadata: object(),
  store: boolean(),
  service_tier: string(),
  safety_identifier: string(4096),
  prompt_cache_key: string(4096),
  prompt_cache_options: object(),
  prompt_cache_retention: string(),
};
export const HINTS = [
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_options",
  "prompt_cache_retention",
] as const satisfies readonly (keyof typeof hints)[];

const common = {
  model: string(),
  n: integer({ minimum: 1, maximum: MAX_N }),
  temperature: number({ minimum: 0, maximum: 100 }),
  top_p: number({ exclusiveMinimum: 0, maximum: 1 }),
  top_k: integer({ minimum: -1, maximum: 0x7fffffff }),
  min_p: number({ minimum: 0, maximum: 1 }),
  repetition_penalty: number({ exclusiveMinimum: 0, maximum: 100 }),
  presence_penalty: number({ minimum: -2, maximum: 2 }),
  frequency_penalty: number({ minimum: -2, maximum: 2 }),
  seed: integer({ minimum: -(2 ** 63), maximum: 2 ** 64 - 2048 }),
  max_tokens: integer({ minimum: 0, maximum: 0x7fffffff }),
  min_tokens: integer({ minimum: 0, maximum: 0x7fffffff }),
  stop: anyOf("a string, or a list of up to 64"),
  stop_token_ids: list<number>(tokenId, { maxItems: 128 }),
  include_stop_str_in_output: boolean(),
  ignore_eos: boolean(),
  logit_bias: object(),
  allowed_token_ids: list<number>(tokenId, { minItems: 1 }),
  bad_words: list<string>(Type.String({ minLength: 1, maxLength: 1024 }), {
    maxItems: 256,
  }),
  prompt_logprobs: integer({ minimum: -1, maximum: MAX_LOGPROBS }),
  truncate_prompt_tokens: integer({ minimum: -1, maximum: 0x7fffffff }),
  add_special_tokens: boolean(),
  skip_special_tokens: boolean(),
  spaces_between_special_tokens: boolean(),
  return_token_ids: boolean(),
  stream: boolean(),
  stream_options: StreamOptions,
  priority: integer({ minimum: -0x7fffffff, maximum: 0x7fffffff }),
  // Parsed by hand: speculation.ts.
  speculative: object(),
  request_id: string(256),
  cache_salt: string(1024),
  user: string(4096),
  ...hints,
  // Only equal to n.
  best_of: integer({ minimum: 1, maximum: MAX_N }),
  // Parsed by hand: structured.ts.
  response_format: anyOf(
    'an object: {"type": "text" | "json_object"}, or "json_schema" with a schema',
  ),
  structured_outputs: anyOf(
    "an object with one of json, regex, choice, grammar, json_object",
  ),
  guided_json: anyOf("a JSON schema, or its text"),
  guided_regex: anyOf("a regular expression"),
  guided_choice: anyOf("a list of strings"),
  guided_grammar: anyOf("an EBNF grammar"),
  guided_json_object: anyOf("true or false"),
  guided_whitespace_pattern: anyOf("not built: white space is fixed"),
};

export const CompletionSchema = Type.Object({
  ...common,
  prompt: anyOf("a string, token ids, or a list of either"),
  echo: boolean(),
  logprobs: integer({ minimum: 0, maximum: MAX_LOGPROBS }),
});
export type CompletionBody = Static<typeof CompletionSchema>;

export const ChatSchema = Type.Object({
  ...common,
  messages: Type.Array(
    Type.Object({
      role: Type.String(),
      content: anyOf("a text, or a list of text parts"),
    }),
    { minItems: 1, maxItems: 65536 },
  ),
  max_completion_tokens: integer({ minimum: 1, maximum: 0x7fffffff }),
  logprobs: boolean(),
  top_logprobs: integer({ minimum: 0, maximum: MAX_LOGPROBS }),
  tools: list<Record<string, unknown>>(Type.Object({})),
  tool_choice: anyOf(
    '"none", "auto", "required" or {"type": "function", "function": {"name"}}',
  ),
  parallel_tool_calls: boolean(),
  include_reasoning: boolean(),
  thinking_token_budget: integer({ minimum: 0, maximum: 0x7fffffff }),
  documents: list<Record<string, unknown>>(Type.Object({})),
  add_generation_prompt: boolean(),
  continue_final_message: boolean(),
  chat_template: string(MAX_TEMPLATE),
  chat_template_kwargs: object(),
  reasoning_effort: string(64),
});
export type ChatBody = Static<typeof ChatSchema>;

/** What both generation routes have. */
export type CommonBody = Omit<CompletionBody, "prompt" | "echo" | "logprobs">;

export const TokenizeSchema = Type.Object({
  model: string(),
  prompt: Type.Optional(
    Type.Unsafe<string | null>({ type: ["string", "null"] }),
  ),
  messages: Type.Optional(
    Type.Unsafe<ChatBody["messages"] | null>({
      ...ChatSchema.properties.messages,
      type: ["array", "null"],
    }),
  ),
  add_special_tokens: boolean(),
  add_generation_prompt: boolean(),
  continue_final_message: boolean(),
  return_token_strs: boolean(),
  chat_template: string(MAX_TEMPLATE),
  chat_template_kwargs: object(),
  tools: list<Record<string, unknown>>(Type.Object({})),
  documents: list<Record<string, unknown>>(Type.Object({})),
  reasoning_effort: string(64),
});
export type TokenizeBody = Static<typeof TokenizeSchema>;

export const DetokenizeSchema = Type.Object({
  model: string(),
  tokens: Type.Array(tokenId),
});
export type DetokenizeBody = Static<typeof DetokenizeSchema>;
