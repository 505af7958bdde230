import type { ChatMessage, ChatTemplate } from "../text/chat-template.js";
import { invalidField, shown, unsupportedField } from "./errors.js";
import type { ChatBody } from "./schemas.js";
import { isFields, type Fields } from "./tools.js";

const ROLES = ["system", "developer", "user", "assistant", "tool"];
const TEXT_PARTS = ["text", "input_text", "output_text"];

/** What no template would print. */
const UNBUILT: readonly [field: string, why: string][] = [
  ["function_call", "functions are not built; use tool_calls"],
  ["audio", "audio is not built; send its transcript as content"],
  ["refusal", "refusals are not built; send its text as content"],
];

/** The messages of a chat body, each checked. Errors: 400 that names message and field. */
export function checkMessages(
  messages: ChatBody["messages"],
): readonly ChatMessage[] {
  return messages.map((message, i) => {
    const param = `messages[${i}]`;
    const fields = withReasoning(message);
    if (!ROLES.includes(message.role))
      throw invalidField(
        `${param}.role`,
        `one of ${ROLES.join(", ")}`,
        message.role,
      );
    const { content } = message;
    checkCalls(fields["tool_calls"], `${param}.tool_calls`);
    for (const field of ["tool_call_id", "name"]) {
      const value = fields[field] ?? null;
      if (value !== null && typeof value !== "string")
        throw invalidField(`${param}.${field}`, "a string", value);
    }
    for (const [field, why] of UNBUILT)
      if (fields[field] != null && fields[field] !== "")
        throw unsupportedField(`${param}.${field}`, why);
    if (content === null || content === undefined) {
      if (message.role !== "assistant")
        throw invalidField(
          `${param}.content`,
          "a string or a list of text parts",
          content,
        );
      return { ...fields, role: message.role, content: null };
    }
    if (typeof content === "string")
      return { ...fields, role: message.role, content };
    if (!Array.isArray(content))
      throw invalidField(
        `${param}.content`,
        "a string or a list of text parts",
        content,
      );
    content.forEach((part: unknown, j) =>
      checkPart(part, `${param}.content[${j}]`),
    );
    return { ...fields, role: message.role, content: content as unknown[] };
  });
}

/** Answers carry their reasoning under two names; templates read it under the longer one. */
function withReasoning(fields: Fields): Fields {
  const { reasoning, reasoning_content } = fields;
  return typeof reasoning === "string" && reasoning_content == null
    ? { ...fields, reasoning_content: reasoning }
    : fields;
}

/** The calls of an earlier turn, as OpenAI's clients send them back. */
function checkCalls(calls: unknown, param: string): void {
  if (calls === undefined || calls === null) return;
  if (!Array.isArray(calls)) throw invalidField(param, "a list", calls);
  calls.forEach((call: unknown, i) => {
    const at = `${param}[${i}]`;
    if (!isFields(call)) throw invalidField(at, "an object", call);
    const fn = call["function"];
    if (!isFields(fn)) throw invalidField(`${at}.function`, "an object", fn);
    if (typeof fn["name"] !== "string")
      throw invalidField(`${at}.function.name`, "a string", fn["name"]);
    if (call["id"] != null && typeof call["id"] !== "string")
      throw invalidField(`${at}.id`, "a string", call["id"]);
  });
}

function checkPart(part: unknown, param: string): void {
  if (typeof part === "string") return;
  if (typeof part !== "object" || part === null)
    throw invalidField(param, "a text part", part);
  const { type, text } = part as { type?: unknown; text?: unknown };
  if (typeof type !== "string")
    throw invalidField(`${param}.type`, '"text"', type);
  if (!TEXT_PARTS.includes(type))
    throw unsupportedField(
      param,
      `only text parts are supported, got type ${shown(type)}`,
    );
  if (typeof text !== "string")
    throw invalidField(`${param}.text`, "a string", text);
}

type TemplateFields = Pick<
  ChatBody,
  | "tools"
  | "documents"
  | "add_generation_prompt"
  | "continue_final_message"
  | "chat_template_kwargs"
  | "reasoning_effort"
>;

/** The prompt of a conversation. Errors: 400 where the template refuses, or would leave out what the request brings. */
export function renderPrompt(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  body: TemplateFields,
): string {
  const kwargs = {
    ...(body.reasoning_effort != null && {
      reasoning_effort: body.reasoning_effort,
    }),
    ...body.chat_template_kwargs,
  };
  const continued = body.continue_final_message ?? false;
  const clock = new Date();
  const render = (documents: ChatBody["documents"]): string =>
    template.render(messages, {
      tools: body.tools ?? null,
      documents: documents ?? null,
      addGenerationPrompt: body.add_generation_prompt ?? !continued,
      continueFinalMessage: continued,
      chatTemplateKwargs: kwargs,
      now: clock,
    });
  const text = render(body.documents);
  // A template without a place for documents prints the same text with and without them.
  if ((body.documents?.length ?? 0) > 0 && text === render(null))
    throw unsupportedField(
      "documents",
      "this model's chat template has no place for documents",
    );
  return text;
}
