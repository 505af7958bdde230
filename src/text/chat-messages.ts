/** Bringing OpenAI-style messages to the form a chat template expects, as vLLM does. */
import { OctavoError } from "../core/errors.js";
import { MAX_NESTING, nestsTooDeep } from "../core/nesting.js";
import { describe, isObject, type JsonObject } from "./model-files.js";
import type { TemplateExpectations } from "./template-analysis.js";

/** A message as it came; fields beside these (name, tool_call_id, tool_calls, ...) reach the template too. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | readonly unknown[] | null;
  readonly [field: string]: unknown;
}

const TEXT_PARTS = new Set(["text", "input_text", "output_text"]);

/** The text of a text part, or null for another kind of part. */
export function partText(part: unknown): string | null {
  if (typeof part === "string") return part;
  if (!isObject(part)) return null;
  const isText =
    typeof part.type === "string" ? TEXT_PARTS.has(part.type) : "text" in part;
  return isText && typeof part.text === "string" ? part.text : null;
}

/** For a template that prints a string: the texts of the parts, a line each. */
function joinParts(parts: readonly unknown[], param: string): string {
  const texts = parts.map((part, i) => {
    const text = partText(part);
    if (text !== null) return text;
    const what = isObject(part) ? describe(part.type) : describe(part);
    throw new OctavoError(
      "unsupported",
      `${param}[${i}]: expected a text part, got ${what}; this model's chat template takes text only`,
      `${param}[${i}]`,
    );
  });
  return texts.join("\n");
}

/** For a template that loops over parts: text parts in the one spelling that templates know, others as they came. */
function plainPart(part: unknown): unknown {
  const text = partText(part);
  if (text === null) return part;
  return { ...(isObject(part) ? part : {}), type: "text", text };
}

function normalizeContent(
  content: ChatMessage["content"],
  expects: TemplateExpectations,
  param: string,
): string | readonly unknown[] | null | undefined {
  if (content === null || content === undefined) {
    if (expects.contentOptional) return content;
    return expects.contentParts ? [] : "";
  }
  if (typeof content !== "string")
    return expects.contentParts
      ? content.map(plainPart)
      : joinParts(content, param);
  if (expects.contentParts && !expects.contentStringToo)
    return [{ type: "text", text: content }];
  return content;
}

function parseArguments(text: unknown, param: string): unknown {
  if (text === null || text === undefined || text === "") return {};
  if (typeof text !== "string") return text;
  try {
    const value: unknown = JSON.parse(text);
    if (nestsTooDeep(value))
      throw new Error(`more than ${MAX_NESTING} levels of lists and objects`);
    return value;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new OctavoError(
      "invalid_request",
      `${param}: expected JSON: ${reason}`,
      param,
      {
        cause: error,
      },
    );
  }
}

/** OpenAI's clients send the arguments of earlier calls as JSON text; most templates want the object. */
function normalizeToolCall(call: unknown, param: string): unknown {
  if (!isObject(call) || !isObject(call.function)) return call;
  const parsed = parseArguments(
    call.function.arguments,
    `${param}.function.arguments`,
  );
  return { ...call, function: { ...call.function, arguments: parsed } };
}

/** Errors: `unsupported` for a part the template cannot take, `invalid_request` for arguments that are not JSON. */
export function normalizeMessages(
  messages: readonly ChatMessage[],
  expects: TemplateExpectations,
): JsonObject[] {
  return messages.map((message, i) => {
    const param = `messages[${i}]`;
    // Clients send back what they got, nulls and empty lists included; templates ask `is defined`.
    const result: Record<string, unknown> = Object.fromEntries(
      Object.entries(message).filter(([, value]) => value !== null),
    );
    const content = normalizeContent(
      message.content,
      expects,
      `${param}.content`,
    );
    if (content !== undefined) result.content = content;
    const calls = message.tool_calls;
    if (Array.isArray(calls) && calls.length === 0) delete result.tool_calls;
    else if (Array.isArray(calls) && !expects.argumentsAsText)
      result.tool_calls = calls.map((call: unknown, j) =>
        normalizeToolCall(call, `${param}.tool_calls[${j}]`),
      );
    return result;
  });
}
