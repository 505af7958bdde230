/** Bodies of /v1/messages: their shape, and what they are as a chat. */
import type { ChatMessage } from "../text/chat-template.js";
import type { GrammarSpec } from "../grammar/spec.js";
import type { Dialect } from "../text/turn/dialect.js";
import { invalidField, shown, unsupportedField } from "./errors.js";
import { NOT_OF_MESSAGES, type CountTokensBody } from "./anthropic-schema.js";
import { chatTool, checkBoolean, readTools } from "./anthropic-tools.js";
import { isFields, type Fields, type ToolUse } from "./tools.js";
import { refuseFields, refuseUnbuilt } from "./unsupported.js";

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
  /** False: its blocks come without their text. */
  readonly shown: boolean;
}

/** Errors: 400 that names the path. */
export function readChat(
  body: CountTokensBody,
  dialect: Dialect,
): AnthropicChat {
  refuseUnbuilt(body);
  refuseFields(body, NOT_OF_MESSAGES);
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
    throw invalidField(`${param}.role`, "one of user, assistant, system", role);
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
  const { content, is_error: failed } = block;
  checkBoolean(failed, `${param}.is_error`);
  const said =
    content == null
      ? ""
      : typeof content === "string"
        ? content
        : readTexts(content, `${param}.content`).join("\n");
  // Templates know no failures: the model has to read it.
  const text =
    failed === true && !/error/i.test(said) ? `Error: ${said}` : said;
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
  const shown = true;
  if (thinking == null) return { enabled: null, budget: null, shown };
  if (!isFields(thinking))
    throw invalidField("thinking", "an object", thinking);
  const { type, budget_tokens: budget, display } = thinking;
  if (type === "disabled") return { enabled: false, budget: null, shown };
  if (type !== "adaptive" && type !== "enabled")
    throw invalidField("thinking.type", "enabled, adaptive or disabled", type);
  if (display != null && display !== "summarized" && display !== "omitted")
    throw invalidField("thinking.display", "summarized or omitted", display);
  const seen = { shown: display !== "omitted" };
  if (type === "adaptive") return { enabled: null, budget: null, ...seen };
  if (typeof budget !== "number" || !Number.isInteger(budget) || budget < 1)
    throw invalidField(
      "thinking.budget_tokens",
      "a whole number of at least 1",
      budget,
    );
  return { enabled: true, budget, ...seen };
}
