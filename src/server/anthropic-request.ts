/** Bodies of /v1/messages: their shape, and what they are as a chat. */
import { Type, type Static } from "typebox";
import type { ChatMessage } from "../text/chat-template.js";
import type { GrammarSpec } from "../grammar/spec.js";
import type { Dialect } from "../text/turn/dialect.js";
import { invalidField, shown, unsupportedField } from "./errors.js";
import { boolean, integer, list, number, object, string } from "./schemas.js";
import {
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
} from "./tools.js";

const shared = {
  model: Type.String({ maxLength: 1024 }),
  messages: Type.Array(
    Type.Object({ role: Type.String(), content: Type.Unknown() }),
    { minItems: 1, maxItems: 65536 },
  ),
  system: Type.Optional(Type.Unknown()),
  tools: list<Fields>(Type.Object({}), { maxItems: MAX_TOOLS }),
  tool_choice: Type.Optional(Type.Unknown()),
  thinking: Type.Optional(Type.Unknown()),
  output_config: Type.Optional(Type.Unknown()),
  output_format: Type.Optional(Type.Unknown()),
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
  metadata: object(),
  // Beyond Anthropic's API, as on the other routes.
  seed: integer({ minimum: -(2 ** 63), maximum: 2 ** 64 - 2048 }),
  priority: integer({ minimum: -0x7fffffff, maximum: 0x7fffffff }),
  speculative: object(),
  cache_salt: string(1024),
});
export type MessagesBody = Static<typeof MessagesSchema>;

/** Fields that would change the answer and are not built. */
const UNBUILT: readonly [field: string, why: string][] = [
  ["mcp_servers", "MCP servers are not built"],
  ["container", "containers are not built"],
  ["context_management", "context management is not built"],
];

export interface AnthropicChat {
  readonly messages: readonly ChatMessage[];
  readonly toolUse: ToolUse;
  /** Tools in the shape that chat templates know. */
  readonly tools: Fields[] | null;
  /** The last message is the assistant's: the answer goes on from its end. */
  readonly continued: boolean;
  readonly thinking: Thinking;
  /** What an answer without calls must match; null: anything. */
  readonly response: GrammarSpec | null;
  /** What templates know as reasoning_effort, or null. */
  readonly effort: string | null;
}

export interface Thinking {
  /** Null: as the model does by default. */
  readonly enabled: boolean | null;
  /** Most tokens of thinking, or null. */
  readonly budget: number | null;
}

/** Errors: 400 that names the path. */
export function readChat(
  body: CountTokensBody,
  dialect: Dialect,
): AnthropicChat {
  const fields: Fields = body;
  for (const [field, why] of UNBUILT) {
    const value = fields[field];
    const empty = Array.isArray(value) && value.length === 0;
    if (value != null && !empty) throw unsupportedField(field, why);
  }
  const toolUse = readTools(body, dialect);
  const last = body.messages.at(-1);
  const messages = [
    ...readSystem(body.system),
    ...body.messages.flatMap(({ role, content }, i) =>
      readMessage(role, content, `messages[${i}]`),
    ),
  ];
  if (last?.role === "assistant" && messages.at(-1)?.["tool_calls"])
    throw invalidField(
      `messages[${body.messages.length - 1}]`,
      "the results of its tool_use blocks to follow",
      "the end of the messages",
    );
  return {
    messages,
    toolUse,
    tools:
      body.tools != null && body.tools.length > 0
        ? body.tools.map(chatTool)
        : null,
    continued: last?.role === "assistant",
    thinking: readThinking(body.thinking),
    response: readOutput(body),
    effort: readEffort(body.output_config),
  };
}

function readSystem(system: unknown): ChatMessage[] {
  if (system == null) return [];
  const content =
    typeof system === "string"
      ? system
      : readTexts(system, "system").join("\n");
  return content === "" ? [] : [{ role: "system", content }];
}

/** The texts of a list of text blocks. */
function readTexts(blocks: unknown, param: string): string[] {
  if (!Array.isArray(blocks))
    throw invalidField(param, "a string or a list of blocks", blocks);
  return blocks.map((block: unknown, i) => {
    const at = `${param}[${i}]`;
    const { type } = readBlock(block, at);
    if (type !== "text")
      throw unsupportedField(
        at,
        `only text blocks are supported here, got ${shown(type)}`,
      );
    return readText(block as Fields, at);
  });
}

function readBlock(block: unknown, param: string): Fields {
  if (!isFields(block)) throw invalidField(param, "a block", block);
  if (typeof block["type"] !== "string")
    throw invalidField(`${param}.type`, "a string", block["type"]);
  return block;
}

function readText(block: Fields, param: string, field = "text"): string {
  const text = block[field];
  if (typeof text !== "string")
    throw invalidField(`${param}.${field}`, "a string", text);
  return text;
}

function readMessage(
  role: string,
  content: unknown,
  param: string,
): ChatMessage[] {
  if (role !== "user" && role !== "assistant" && role !== "system")
    throw invalidField(`${param}.role`, "user or assistant", role);
  if (typeof content === "string") return [{ role, content }];
  if (!Array.isArray(content))
    throw invalidField(
      `${param}.content`,
      "a string or a list of blocks",
      content,
    );
  const at = `${param}.content`;
  if (role === "system")
    return [{ role, content: readTexts(content, at).join("\n") }];
  const blocks = content.map((block: unknown, i) =>
    readBlock(block, `${at}[${i}]`),
  );
  return role === "user" ? readUser(blocks, at) : [readAssistant(blocks, at)];
}

/** Results of tools are messages of their own. */
function readUser(blocks: readonly Fields[], param: string): ChatMessage[] {
  const messages: ChatMessage[] = [];
  let texts: string[] = [];
  const flush = (): void => {
    if (texts.length > 0)
      messages.push({ role: "user", content: texts.join("\n") });
    texts = [];
  };
  blocks.forEach((block, i) => {
    const at = `${param}[${i}]`;
    if (block["type"] === "text") texts.push(readText(block, at));
    else if (block["type"] === "tool_result") {
      flush();
      messages.push(readResult(block, at));
    } else throw unsupportedBlock(block, at);
  });
  flush();
  return messages;
}

function readResult(block: Fields, param: string): ChatMessage {
  const { content } = block;
  const text =
    content == null
      ? ""
      : typeof content === "string"
        ? content
        : readTexts(content, `${param}.content`).join("\n");
  return {
    role: "tool",
    tool_call_id: readText(block, param, "tool_use_id"),
    content: text,
  };
}

function readAssistant(blocks: readonly Fields[], param: string): ChatMessage {
  let content = "";
  let reasoning = "";
  const tool_calls: object[] = [];
  blocks.forEach((block, i) => {
    const at = `${param}[${i}]`;
    switch (block["type"]) {
      case "text":
        content += readText(block, at);
        break;
      case "thinking":
        reasoning += readText(block, at, "thinking");
        break;
      case "redacted_thinking":
        break;
      case "tool_use": {
        const { input } = block;
        if (!isFields(input))
          throw invalidField(`${at}.input`, "an object", input);
        tool_calls.push({
          id: readText(block, at, "id"),
          type: "function",
          function: {
            name: readText(block, at, "name"),
            arguments: JSON.stringify(input),
          },
        });
        break;
      }
      default:
        throw unsupportedBlock(block, at);
    }
  });
  return {
    role: "assistant",
    content: content === "" && tool_calls.length > 0 ? null : content,
    ...(reasoning !== "" && { reasoning_content: reasoning }),
    ...(tool_calls.length > 0 && { tool_calls }),
  };
}

function unsupportedBlock(block: Fields, param: string) {
  return unsupportedField(
    param,
    `only text and tool blocks are supported, got type ${shown(block["type"])}`,
  );
}

function readTools(body: CountTokensBody, dialect: Dialect): ToolUse {
  const tools = (body.tools ?? []).map((tool, i) =>
    readTool(tool, `tools[${i}]`),
  );
  checkUnique(tools, (i) => `tools[${i}].name`);
  const asked = body.tool_choice;
  if (asked != null && !isFields(asked))
    throw invalidField("tool_choice", "an object", asked);
  const choice = readChoice(asked ?? null, tools);
  if (choice !== "none") checkDialect(dialect);
  return {
    tools,
    choice,
    parallel: asked?.["disable_parallel_tool_use"] !== true,
  };
}

function readTool(tool: Fields, param: string): Tool {
  const { type, name, input_schema, strict } = tool;
  if (type != null && type !== "custom")
    throw unsupportedField(
      `${param}.type`,
      `tools of this server's own are not built; only "custom" is, got ${shown(type)}`,
    );
  checkName(`${param}.name`, name);
  if (!isFields(input_schema))
    throw invalidField(
      `${param}.input_schema`,
      "a JSON Schema of an object",
      input_schema,
    );
  return {
    name,
    parameters: checkParameters(input_schema, `${param}.input_schema`),
    strict: strict === true,
    param: `${param}.input_schema`,
  };
}

function readChoice(choice: Fields | null, tools: readonly Tool[]): ToolChoice {
  if (choice === null) return tools.length > 0 ? "auto" : "none";
  const { type, name } = choice;
  if (type === "none") return "none";
  if (type !== "auto" && type !== "any" && type !== "tool")
    throw invalidField("tool_choice.type", "auto, any, tool or none", type);
  if (tools.length === 0)
    throw invalidField("tool_choice", "nothing without tools", choice);
  if (type === "auto") return "auto";
  if (type === "any") return "required";
  if (typeof name === "string" && tools.some((tool) => tool.name === name))
    return { name };
  throw invalidField(
    "tool_choice.name",
    `one of ${tools.map((tool) => tool.name).join(", ")}`,
    name,
  );
}

function chatTool({ name, description, input_schema }: Fields): Fields {
  return {
    type: "function",
    function: {
      name,
      ...(description != null && { description }),
      parameters: input_schema,
    },
  };
}

/** output_config.format, and output_format, its older name. */
function readOutput(body: CountTokensBody): GrammarSpec | null {
  const { output_config: config, output_format: older } = body;
  if (config != null && !isFields(config))
    throw invalidField("output_config", "an object", config);
  const newer = config?.["format"];
  const [format, param] =
    newer == null ? [older, "output_format"] : [newer, "output_config.format"];
  if (format == null) return null;
  if (!isFields(format) || format["type"] !== "json_schema")
    throw invalidField(param, '{"type":"json_schema","schema":...}', format);
  const { schema } = format;
  if (!isFields(schema))
    throw invalidField(`${param}.schema`, "a JSON Schema", schema);
  return { kind: "json_schema", schema, param: `${param}.schema` };
}

function readEffort(config: unknown): string | null {
  const effort = isFields(config) ? config["effort"] : null;
  if (effort == null || typeof effort === "string") return effort ?? null;
  throw invalidField("output_config.effort", "a string", effort);
}

function readThinking(thinking: unknown): Thinking {
  if (thinking == null) return { enabled: null, budget: null };
  if (!isFields(thinking))
    throw invalidField("thinking", "an object", thinking);
  const { type, budget_tokens: budget } = thinking;
  if (type === "disabled") return { enabled: false, budget: null };
  if (type === "adaptive") return { enabled: null, budget: null };
  if (type !== "enabled")
    throw invalidField("thinking.type", "enabled, adaptive or disabled", type);
  if (typeof budget !== "number" || !Number.isInteger(budget) || budget < 1)
    throw invalidField(
      "thinking.budget_tokens",
      "a whole number of at least 1",
      budget,
    );
  return { enabled: true, budget };
}
