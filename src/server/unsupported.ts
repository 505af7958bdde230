import { unsupportedField } from "./errors.js";

type Body = Readonly<Record<string, unknown>>;

export const absent = (value: unknown): boolean =>
  value === null || value === undefined;
export const off = (value: unknown): boolean =>
  absent(value) || value === false;
export const empty = (value: unknown): boolean =>
  absent(value) || value === "" || (Array.isArray(value) && value.length === 0);
const textOnly = (value: unknown): boolean =>
  absent(value) ||
  (Array.isArray(value) && value.every((entry) => entry === "text"));
export const emptyObject = (value: unknown): boolean =>
  absent(value) || (typeof value === "object" && isEmptyObject(value));
const isEmptyObject = (value: object | null): boolean =>
  value !== null && Object.keys(value).length === 0;
/** Absent, or what changes nothing. */
export const unless =
  (...harmless: unknown[]) =>
  (value: unknown): boolean =>
    absent(value) || harmless.includes(value);

/** A field that would change the output and is not built: which values are harmless, and what to say of others. */
export type Refusal = readonly [
  field: string,
  harmless: (value: unknown) => boolean,
  why: string,
];

const UNBUILT: readonly Refusal[] = [
  ["structural_tag", absent, "use structured_outputs or tools"],
  ["suffix", empty, "filling in the middle is not built"],
  ["use_beam_search", off, "beam search is not built"],
  ["length_penalty", unless(1), "beam search is not built"],
  ["audio", absent, "audio output is not built"],
  ["modalities", textOnly, 'only ["text"] is built'],
  ["prediction", absent, "predicted outputs are not built"],
  ["functions", empty, "functions are not built; use tools"],
  ["function_call", unless("none"), "functions are not built; use tool_choice"],
  ["web_search_options", absent, "web search is not built"],
  ["moderation", absent, "moderation is not built"],
  ["verbosity", unless("medium"), "this model has no such setting"],
  ["mm_processor_kwargs", absent, "images and audio are not built"],
  ["prompt_embeds", absent, "prompt embeddings are not built"],
  ["kv_transfer_params", absent, "KV transfer is not built"],
  ["logits_processors", empty, "logits processors are not built"],
  ["return_tokens_as_token_ids", off, "not built; use return_token_ids"],
  ["lora", absent, "adapters are not built yet"],
  ["lora_request", absent, "adapters are not built yet"],
  ["vllm_xargs", emptyObject, "there is nothing that takes them"],
  ["media_io_kwargs", emptyObject, "images and audio are not built"],
  ["repetition_detection", absent, "not built"],
  // As other servers call it: an output that should be held to something must not come out free.
  ["grammar", empty, "use structured_outputs.grammar"],
  ["ebnf", empty, "use structured_outputs.grammar"],
  ["regex", empty, "use structured_outputs.regex"],
  ["json_schema", absent, "use response_format or structured_outputs.json"],
  ["n_predict", absent, "use max_tokens"],
  ["max_new_tokens", absent, "use max_tokens"],
  ["repeat_penalty", unless(1), "use repetition_penalty"],
  ["typical_p", unless(1), "not built"],
  ["mirostat", unless(0), "not built"],
  ["dry_multiplier", unless(0), "not built"],
  ["xtc_probability", unless(0), "not built"],
];

/** Fields of /v1/responses and /v1/messages that say what others say here. */
const OF_OTHER_PROTOCOLS: readonly Refusal[] = [
  ["input", absent, "this route does not take input"],
  ["instructions", empty, "send a message of the role system"],
  ["system", empty, "send a message of the role system"],
  ["previous_response_id", absent, "conversations are kept by /v1/responses"],
  ["max_output_tokens", absent, "use max_tokens"],
  ["stop_sequences", empty, "use stop"],
  ["text", emptyObject, "use response_format"],
  ["output_config", emptyObject, "use response_format"],
  ["output_format", absent, "use response_format"],
  ["reasoning", emptyObject, "use reasoning_effort and include_reasoning"],
  [
    "thinking",
    absent,
    "use thinking_token_budget, or chat_template_kwargs where the model's template asks for something",
  ],
];

/** What /v1/chat/completions does not take of the other routes. */
export const NOT_OF_CHATS: readonly Refusal[] = [
  ...OF_OTHER_PROTOCOLS,
  ["prompt", absent, "this route takes messages"],
  [
    "echo",
    off,
    "not built here; an answer can go on from the last message with continue_final_message",
  ],
];

const TAKEN_AS_IT_IS =
  "a prompt is taken as it is; send messages to /v1/chat/completions";

/** What /v1/completions does not take of the other routes. */
export const NOT_OF_COMPLETIONS: readonly Refusal[] = [
  ...OF_OTHER_PROTOCOLS,
  ["messages", absent, TAKEN_AS_IT_IS],
  ["max_completion_tokens", absent, "use max_tokens"],
  ["top_logprobs", unless(0), "use logprobs: how many"],
  ["tools", empty, TAKEN_AS_IT_IS],
  ["tool_choice", unless("none", "auto"), TAKEN_AS_IT_IS],
  ["documents", empty, TAKEN_AS_IT_IS],
  ["chat_template", absent, TAKEN_AS_IT_IS],
  ["chat_template_kwargs", emptyObject, TAKEN_AS_IT_IS],
  ["add_generation_prompt", absent, TAKEN_AS_IT_IS],
  ["continue_final_message", off, TAKEN_AS_IT_IS],
  ["reasoning_effort", absent, TAKEN_AS_IT_IS],
  ["include_reasoning", unless(true), "reasoning is part of the text here"],
  ["thinking_token_budget", absent, "reasoning is part of the text here"],
];

/** Throws 400 for the first field of `body` that asks for something that is not built. */
export function refuseUnbuilt(body: Body): void {
  refuseFields(body, UNBUILT);
}

/** Drafts beyond the answers are not made: the best of `n` are all of them. Errors: 400. */
export function refuseBestOf(bestOf: unknown, n: number): void {
  if (!absent(bestOf) && bestOf !== n)
    throw unsupportedField(
      "best_of",
      `only a best_of equal to n (${n}) is supported`,
    );
}

/** As `refuseUnbuilt`, with a route's own list. */
export function refuseFields(body: object, refusals: readonly Refusal[]): void {
  for (const [field, harmless, why] of refusals)
    if (!harmless((body as Body)[field])) throw unsupportedField(field, why);
}
