/** Items of a conversation: read from a request, and as the messages that chat templates know. */
import type { ChatMessage } from "../../text/chat-template.js";
import { invalidField, shown, unsupportedField } from "../errors.js";
import { isFields, type Fields } from "../tools.js";
import {
  newId,
  type CallOutputItem,
  type Item,
  type ItemStatus,
  type Part,
  type TextPart,
} from "./resource.js";

const MAX_ITEMS = 65536;
const ROLES = ["user", "assistant", "system", "developer"];

/** What ids begin with. */
const PREFIXES = {
  message: "msg_",
  function_call: "fc_",
  function_call_output: "fco_",
  reasoning: "rs_",
} as const;

/**
 * The items of a request's `input`, each checked and with an id of its own: what comes a second time, by a reference or
 * with an id of the client's, gets a new one.
 * @param find an item of an earlier response, for item_reference
 * Errors: 400 that names the path.
 */
export function readInput(
  input: unknown,
  find: (id: string) => Item | undefined,
): Item[] {
  if (typeof input === "string")
    return [messageOf("user", [{ type: "input_text", text: input }])];
  if (!Array.isArray(input))
    throw invalidField("input", "a string or a list of items", input);
  if (input.length > MAX_ITEMS)
    throw invalidField("input", `at most ${MAX_ITEMS} items`, input.length);
  const ids = new Set<string>();
  return input.map((item: unknown, i) => {
    const read = readItem(item, `input[${i}]`, find);
    const own = ids.has(read.id)
      ? { ...read, id: newId(PREFIXES[read.type]) }
      : read;
    ids.add(own.id);
    return own;
  });
}

function messageOf(
  role: string,
  content: Part[],
  id = newId(PREFIXES.message),
  status: ItemStatus = "completed",
): Item {
  return { type: "message", id, status, role, content };
}

function readItem(
  item: unknown,
  param: string,
  find: (id: string) => Item | undefined,
): Item {
  if (!isFields(item)) throw invalidField(param, "an item", item);
  const type = typeOf(item);
  switch (type) {
    case "message":
      return readMessage(item, param);
    case "function_call":
      return {
        type: "function_call",
        id: idOf(item, PREFIXES.function_call, param),
        status: statusOf(item, param),
        call_id: textOf(item, "call_id", param),
        name: textOf(item, "name", param),
        arguments: textOf(item, "arguments", param),
      };
    case "function_call_output":
      return {
        type: "function_call_output",
        id: idOf(item, PREFIXES.function_call_output, param),
        status: statusOf(item, param),
        call_id: textOf(item, "call_id", param),
        output: readOutput(item["output"], `${param}.output`),
      };
    case "reasoning":
      return {
        type: "reasoning",
        id: idOf(item, PREFIXES.reasoning, param),
        status: statusOf(item, param),
        summary: [],
        content: readReasoning(item, param),
      };
    case "item_reference": {
      const id = textOf(item, "id", param);
      const found = find(id);
      if (found !== undefined) return found;
      throw invalidField(`${param}.id`, "the id of a stored item", id);
    }
    default:
      if (typeof type === "string")
        throw unsupportedField(
          `${param}.type`,
          `items of type ${shown(type)} are not built; messages, function calls and their outputs, reasoning and references are`,
        );
      throw invalidField(`${param}.type`, "a string", type);
  }
}

/** Messages and references may come without one. */
function typeOf(item: Fields): unknown {
  if (item["type"] != null) return item["type"];
  if (item["role"] != null) return "message";
  const only = Object.keys(item).filter((field) => field !== "type");
  return only.length === 1 && only[0] === "id" ? "item_reference" : undefined;
}

function readMessage(item: Fields, param: string): Item {
  const { role, content } = item;
  if (typeof role !== "string" || !ROLES.includes(role))
    throw invalidField(`${param}.role`, `one of ${ROLES.join(", ")}`, role);
  const own = role === "assistant" ? "output_text" : "input_text";
  const parts: Part[] =
    typeof content === "string"
      ? [textPart(own, content)]
      : readParts(content, own, `${param}.content`);
  return messageOf(
    role,
    parts,
    idOf(item, PREFIXES.message, param),
    statusOf(item, param),
  );
}

function textPart(type: TextPart["type"], text: string): TextPart {
  return type === "output_text"
    ? { type, text, annotations: [] }
    : { type, text };
}

function readParts(
  parts: unknown,
  own: TextPart["type"],
  param: string,
): Part[] {
  if (!Array.isArray(parts))
    throw invalidField(param, "a string or a list of parts", parts);
  return parts.map((part: unknown, i): Part => {
    const at = `${param}[${i}]`;
    if (!isFields(part)) throw invalidField(at, "a part", part);
    const { type } = part;
    if (type === "refusal" && own === "output_text")
      return { type, refusal: textOf(part, "refusal", at) };
    if (type === "input_text" || type === "output_text" || type === "text")
      return textPart(own, textOf(part, "text", at));
    if (typeof type !== "string")
      throw invalidField(`${at}.type`, `"${own}"`, type);
    throw unsupportedField(
      at,
      `only text parts are supported, got type ${shown(type)}`,
    );
  });
}

function readOutput(output: unknown, param: string): CallOutputItem["output"] {
  if (typeof output === "string") return output;
  return readParts(output, "input_text", param) as TextPart[];
}

/** Its text; where there is only a summary, that. */
function readReasoning(item: Fields, param: string) {
  if (item["encrypted_content"] != null && item["content"] == null)
    throw unsupportedField(
      `${param}.encrypted_content`,
      "reasoning of other servers cannot be read; leave the item out",
    );
  const texts = (field: string): string[] => {
    const parts = item[field];
    if (parts == null) return [];
    if (!Array.isArray(parts))
      throw invalidField(`${param}.${field}`, "a list of parts", parts);
    return parts.map((part: unknown, i) => {
      const at = `${param}.${field}[${i}]`;
      if (!isFields(part)) throw invalidField(at, "a part", part);
      return textOf(part, "text", at);
    });
  };
  const summary = texts("summary");
  const content = texts("content");
  return (content.length > 0 ? content : summary).map((text) => ({
    type: "reasoning_text" as const,
    text,
  }));
}

function textOf(item: Fields, field: string, param: string): string {
  const text = item[field];
  if (typeof text === "string") return text;
  throw invalidField(`${param}.${field}`, "a string", text);
}

function idOf({ id }: Fields, prefix: string, param: string): string {
  if (id == null) return newId(prefix);
  if (typeof id === "string" && id !== "" && id.length <= 256) return id;
  throw invalidField(`${param}.id`, "1 to 256 characters", id);
}

function statusOf({ status }: Fields, param: string): ItemStatus {
  if (status == null) return "completed";
  if (
    status === "in_progress" ||
    status === "completed" ||
    status === "incomplete"
  )
    return status;
  throw invalidField(
    `${param}.status`,
    "in_progress, completed or incomplete",
    status,
  );
}

/** Errors: 400 for an output of a call that `items` do not have before it; `first` is the place of input[0]. */
export function checkCallIds(items: readonly Item[], first: number): void {
  const calls = new Set<string>();
  items.forEach((item, i) => {
    if (item.type === "function_call") calls.add(item.call_id);
    else if (item.type === "function_call_output" && i >= first)
      if (!calls.has(item.call_id))
        throw invalidField(
          `input[${i - first}].call_id`,
          "the call_id of an earlier function_call",
          item.call_id,
        );
  });
}

/** An assistant's message as it is put together from items. */
interface Turn {
  role: "assistant";
  content: string | null;
  reasoning_content?: string;
  tool_calls?: object[];
  [field: string]: unknown;
}

/** A turn of the assistant is one message, however many items it has. */
export function toMessages(
  instructions: string | null,
  items: readonly Item[],
): ChatMessage[] {
  const messages: ChatMessage[] = [];
  let turn: Turn | null = null;
  const begin = (): Turn => {
    const begun: Turn = { role: "assistant", content: null };
    messages.push(begun);
    return (turn = begun);
  };
  /** The open turn, unless `over` says that it has what comes only before. */
  const within = (over: (open: Turn) => boolean): Turn =>
    turn === null || over(turn) ? begin() : turn;
  const names = new Map<string, string>();
  if (instructions !== null && instructions !== "")
    messages.push({ role: "system", content: instructions });
  for (const item of items) {
    if (item.type === "reasoning") {
      const open = within((t) => t.content !== null || hasCalls(t));
      open.reasoning_content =
        (open.reasoning_content ?? "") +
        item.content.map(({ text }) => text).join("\n");
    } else if (item.type === "function_call") {
      names.set(item.call_id, item.name);
      const open = within(() => false);
      (open.tool_calls ??= []).push({
        id: item.call_id,
        type: "function",
        function: { name: item.name, arguments: jsonOf(item.arguments) },
      });
    } else if (item.type === "message" && item.role === "assistant") {
      const open = within((t) => t.content !== null || hasCalls(t));
      open.content = item.content.map(partText).join("");
    } else {
      turn = null;
      messages.push(
        item.type === "message"
          ? { role: item.role, content: item.content.map(partText).join("\n") }
          : outputMessage(item, names.get(item.call_id)),
      );
    }
  }
  return messages;
}

function outputMessage(
  { call_id, output }: CallOutputItem,
  name: string | undefined,
): ChatMessage {
  return {
    role: "tool",
    tool_call_id: call_id,
    ...(name !== undefined && { name }),
    content:
      typeof output === "string" ? output : output.map(partText).join("\n"),
  };
}

function hasCalls(turn: Turn): boolean {
  return turn.tool_calls !== undefined;
}

function partText(part: Part): string {
  return part.type === "refusal" ? part.refusal : part.text;
}

/** Arguments as templates can take them: what a model wrote that is no JSON goes back to it as a JSON string. */
function jsonOf(text: string): string {
  if (text === "") return "{}";
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}
