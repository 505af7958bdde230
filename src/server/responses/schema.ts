/** Bodies of /v1/responses: their shape, and the fields that are refused. */
import { Type, type Static } from "typebox";
import { MAX_LOGPROBS } from "../../core/sampling-params.js";
import type { GrammarSpec } from "../../grammar/spec.js";
import { invalidField, shown, unsupportedField } from "../errors.js";
import {
  anyOf,
  boolean,
  integer,
  list,
  number,
  object,
  string,
} from "../schemas.js";
import {
  allowedTools,
  checkDialect,
  checkName,
  checkParameters,
  checkUnique,
  isFields,
  MAX_TOOLS,
  type Fields,
  type Tool,
  type ToolChoice,
  type ToolUse,
} from "../tools.js";
import type { Dialect } from "../../text/turn/dialect.js";
import { refuseUnbuilt } from "../unsupported.js";

const tokenId = Type.Integer({ minimum: 0, maximum: 0x7fffffff });

export const ResponsesSchema = Type.Object({
  model: string(),
  input: anyOf("a text, or a list of items"),
  instructions: string(2 ** 24),
  previous_response_id: string(),
  store: boolean(),
  stream: boolean(),
  metadata: object(),
  truncation: Type.Optional(
    Type.Unsafe<"auto" | "disabled" | null>({
      enum: ["auto", "disabled", null],
    }),
  ),
  max_output_tokens: integer({ minimum: 1, maximum: 0x7fffffff }),
  temperature: number({ minimum: 0, maximum: 100 }),
  top_p: number({ exclusiveMinimum: 0, maximum: 1 }),
  presence_penalty: number({ minimum: -2, maximum: 2 }),
  frequency_penalty: number({ minimum: -2, maximum: 2 }),
  top_logprobs: integer({ minimum: 0, maximum: MAX_LOGPROBS }),
  include: list<string>(Type.String({ maxLength: 1024 }), { maxItems: 64 }),
  tools: list<Fields>(Type.Object({}), { maxItems: MAX_TOOLS }),
  tool_choice: anyOf(
    '"none", "auto", "required" or {"type": "function", "name"}',
  ),
  parallel_tool_calls: boolean(),
  max_tool_calls: integer({ minimum: 1, maximum: 0x7fffffff }),
  text: object(),
  reasoning: object(),
  stream_options: object(),
  user: string(4096),
  safety_identifier: string(4096),
  // Hints to caches and queues that are not here.
  prompt_cache_key: string(4096),
  prompt_cache_options: object(),
  prompt_cache_retention: string(),
  service_tier: string(),
  // Beyond OpenAI's API, as on the other routes.
  top_k: integer({ minimum: -1, maximum: 0x7fffffff }),
  min_p: number({ minimum: 0, maximum: 1 }),
  repetition_penalty: number({ exclusiveMinimum: 0, maximum: 100 }),
  seed: integer({ minimum: -(2 ** 63), maximum: 2 ** 64 - 2048 }),
  stop: anyOf("a string, or a list of up to 64"),
  stop_token_ids: list<number>(tokenId, { maxItems: 128 }),
  include_stop_str_in_output: boolean(),
  skip_special_tokens: boolean(),
  spaces_between_special_tokens: boolean(),
  thinking_token_budget: integer({ minimum: 0, maximum: 0x7fffffff }),
  ignore_eos: boolean(),
  min_tokens: integer({ minimum: 0, maximum: 0x7fffffff }),
  logit_bias: object(),
  bad_words: list<string>(Type.String({ minLength: 1, maxLength: 1024 }), {
    maxItems: 256,
  }),
  allowed_token_ids: list<number>(tokenId, { minItems: 1 }),
  priority: integer({ minimum: -0x7fffffff, maximum: 0x7fffffff }),
  speculative: object(),
  cache_salt: string(1024),
  request_id: string(256),
  chat_template_kwargs: object(),
});
export type ResponsesBody = Static<typeof ResponsesSchema>;

/** Fields that would change the answer and are not built here, the values of them that would not, and what to say. */
const UNBUILT: readonly [field: string, harmless: unknown[], why: string][] = [
  ["background", [false], "answers in the background are not built"],
  ["conversation", [], "conversations are not built; use previous_response_id"],
  ["prompt", [], "stored prompts are not built; send instructions and input"],
  ["context_management", [], "compaction is not built"],
  ["moderation", [], "moderation is not built"],
  ["generate", [true], "only true is built"],
  ["personality", [], "this model has no such setting"],
  // Of the other routes.
  ["n", [1], "a response has one answer"],
  ["best_of", [1], "a response has one answer"],
  ["messages", [], "this route takes input"],
  ["max_tokens", [], "use max_output_tokens"],
  ["max_completion_tokens", [], "use max_output_tokens"],
  ["response_format", [], "use text.format"],
  ["structured_outputs", [], "use text.format"],
  ["guided_json", [], "use text.format"],
  ["guided_json_object", [false], "use text.format"],
  ["guided_regex", [], "not built on this route"],
  ["guided_choice", [], "not built on this route"],
  ["guided_grammar", [], "not built on this route"],
  ["guided_whitespace_pattern", [], "not built on this route"],
  ["logprobs", [false], 'use include: ["message.output_text.logprobs"]'],
  ["prompt_logprobs", [], "not built on this route"],
  ["reasoning_effort", [], "use reasoning.effort"],
  ["include_reasoning", [true], "reasoning is an item of its own: skip it"],
  ["truncate_prompt_tokens", [], "use truncation"],
  ["echo", [false], "not built on this route"],
  ["return_token_ids", [false], "not built on this route"],
  ["documents", [], "not built on this route"],
  ["chat_template", [], "not built on this route"],
  ["add_generation_prompt", [true], "not built on this route"],
  ["continue_final_message", [false], "not built on this route"],
  ["add_special_tokens", [false], "not built on this route"],
];

export const LOGPROBS = "message.output_text.logprobs";

/**
 * What `include` may name. But for log-probabilities nothing is added by any: the items they speak of never come, and
 * reasoning is never hidden, so that it needs no encrypted twin to be sent back.
 */
const INCLUDABLE = [
  LOGPROBS,
  "reasoning.encrypted_content",
  "file_search_call.results",
  "web_search_call.results",
  "web_search_call.action.sources",
  "message.input_image.image_url",
  "computer_call_output.output.image_url",
  "code_interpreter_call.outputs",
];

const MAX_METADATA = 16;

/** Errors: 400 for the first field that asks for what is not built, or that has a wrong value. */
export function checkFields(body: ResponsesBody): void {
  refuseUnbuilt(body);
  for (const [field, harmless, why] of UNBUILT) {
    const value = (body as Fields)[field];
    const empty = Array.isArray(value) && value.length === 0;
    if (value != null && !empty && !harmless.includes(value))
      throw unsupportedField(field, why);
  }
  body.include?.forEach((name, i) => {
    if (!INCLUDABLE.includes(name))
      throw invalidField(
        `include[${i}]`,
        `one of ${INCLUDABLE.join(", ")}`,
        name,
      );
  });
  if (body.stream_options?.["include_obfuscation"] === true)
    throw unsupportedField(
      "stream_options.include_obfuscation",
      "padding of events is not built",
    );
  if (body.stream_options != null && body.stream !== true)
    throw invalidField(
      "stream_options",
      "null unless stream is true",
      body.stream_options,
    );
  checkMetadata(body.metadata ?? {});
}

function checkMetadata(metadata: Fields): void {
  const entries = Object.entries(metadata);
  if (entries.length > MAX_METADATA)
    throw invalidField(
      "metadata",
      `at most ${MAX_METADATA} entries`,
      entries.length,
    );
  for (const [key, value] of entries)
    if (typeof value !== "string" || value.length > 512 || key.length > 64)
      throw invalidField(
        `metadata.${key.slice(0, 64)}`,
        "a key of at most 64 characters and a string of at most 512",
        value,
      );
}

export function wantsLogprobs({ include, top_logprobs }: ResponsesBody) {
  return (include?.includes(LOGPROBS) ?? false) || (top_logprobs ?? 0) > 0;
}

/** What text.format asks for; null: anything. Errors: 400 that names the path. */
export function readTextFormat({ text }: ResponsesBody): GrammarSpec | null {
  const verbosity = text?.["verbosity"];
  if (verbosity != null && verbosity !== "medium")
    throw unsupportedField("text.verbosity", "this model has no such setting");
  const format = text?.["format"];
  if (format == null) return null;
  if (!isFields(format)) throw invalidField("text.format", "an object", format);
  const { type, name, strict, schema } = format;
  if (type === "text") return null;
  if (type === "json_object") return { kind: "json_object" };
  if (type !== "json_schema")
    throw invalidField(
      "text.format.type",
      "one of text, json_object, json_schema",
      type,
    );
  if (name != null && typeof name !== "string")
    throw invalidField("text.format.name", "a string", name);
  if (strict != null && typeof strict !== "boolean")
    throw invalidField("text.format.strict", "true or false", strict);
  if (!isFields(schema))
    throw invalidField("text.format.schema", "a JSON Schema", schema);
  return { kind: "json_schema", schema, param: "text.format.schema" };
}

/** What templates are told of `reasoning`. Errors: 400 that names the path. */
export function readEffort({ reasoning }: ResponsesBody): string | null {
  const { effort, summary, generate_summary, context, mode } = reasoning ?? {};
  for (const [field, value] of Object.entries({ summary, generate_summary }))
    if (value != null && value !== "auto")
      throw unsupportedField(
        `reasoning.${field}`,
        "reasoning is not summarized but given in full; leave it out, or auto",
      );
  if (context != null && context !== "auto")
    throw unsupportedField("reasoning.context", "only auto is built");
  if (mode != null && mode !== "standard")
    throw unsupportedField("reasoning.mode", "only standard is built");
  if (effort == null) return null;
  if (typeof effort !== "string" || effort.length > 64)
    throw invalidField("reasoning.effort", "a short string", effort);
  return effort;
}

/** Errors: 400 that names the path. */
export function readTools(body: ResponsesBody, dialect: Dialect): ToolUse {
  const tools = (body.tools ?? []).map((tool, i) =>
    readTool(tool, `tools[${i}]`),
  );
  checkUnique(tools, (i) => `tools[${i}].name`);
  const asked = body.tool_choice;
  const allowed =
    isFields(asked) && asked["type"] === "allowed_tools"
      ? allowedTools(asked, "tool_choice", tools, "name", nameOf)
      : null;
  const choice = allowed?.choice ?? readChoice(asked, tools);
  if (choice !== "none") checkDialect(dialect);
  return {
    tools: allowed?.tools ?? tools,
    choice,
    parallel: body.parallel_tool_calls ?? true,
  };
}

function readTool(tool: Fields, param: string): Tool {
  const { type, name, description, parameters, strict } = tool;
  if (typeof type === "string" && type !== "function")
    throw unsupportedField(
      `${param}.type`,
      `only function tools are built, got ${shown(type)}`,
    );
  if (type !== "function")
    throw invalidField(`${param}.type`, '"function"', type);
  checkName(`${param}.name`, name);
  if (description != null && typeof description !== "string")
    throw invalidField(`${param}.description`, "a string", description);
  if (strict != null && typeof strict !== "boolean")
    throw invalidField(`${param}.strict`, "true or false", strict);
  return {
    name,
    parameters: checkParameters(parameters, `${param}.parameters`),
    strict: strict === true,
    param: `${param}.parameters`,
  };
}

function nameOf({ type, name }: Fields): string | null {
  return type === "function" && typeof name === "string" ? name : null;
}

function readChoice(choice: unknown, tools: readonly Tool[]): ToolChoice {
  if (choice == null) return tools.length > 0 ? "auto" : "none";
  if (choice === "none" || (choice === "auto" && tools.length === 0))
    return "none";
  const name = isFields(choice) ? nameOf(choice) : null;
  if (choice !== "auto" && choice !== "required" && name === null)
    throw invalidField(
      "tool_choice",
      'none, auto, required, {"type":"function","name":...} or {"type":"allowed_tools",...}',
      choice,
    );
  if (tools.length === 0)
    throw invalidField("tool_choice", "none or auto without tools", choice);
  if (name === null) return choice as "auto" | "required";
  if (!tools.some((tool) => tool.name === name))
    throw invalidField(
      "tool_choice.name",
      `one of ${tools.map((tool) => tool.name).join(", ")}`,
      name,
    );
  return { name };
}

/** A tool in the shape that chat templates know. */
export function chatTool({ name, description, parameters }: Fields): Fields {
  return {
    type: "function",
    function: {
      name,
      ...(description != null && { description }),
      parameters: parameters ?? { type: "object", properties: {} },
    },
  };
}
