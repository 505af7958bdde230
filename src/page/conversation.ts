/// <reference lib="dom" />
import type { Answer } from "./answer.js";

export interface UserMessage {
  readonly role: "user";
  readonly text: string;
}

export interface ToolMessage {
  readonly role: "tool";
  readonly callId: string;
  readonly name: string;
  readonly text: string;
}

export type Message = UserMessage | ToolMessage | Answer;

/** The conversation as the API takes it. Answers that failed before they said anything are left out, reasoning too. */
export function requestMessages(
  system: string,
  messages: readonly Message[],
): object[] {
  const sent = messages.flatMap((message) => sentForm(message) ?? []);
  return system === "" ? sent : [{ role: "system", content: system }, ...sent];
}

function sentForm(message: Message): object | null {
  if (message.role === "user") return { role: "user", content: message.text };
  if (message.role === "tool")
    return {
      role: "tool",
      tool_call_id: message.callId,
      content: message.text,
    };
  if (!message.hasContent) return null;
  const calls = message.toolCalls.map(({ id, name, arguments: text }) => ({
    id,
    type: "function",
    function: { name, arguments: text },
  }));
  return {
    role: "assistant",
    content: message.text === "" ? null : message.text,
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

/** The conversation to paste elsewhere. */
export function transcript(
  system: string,
  messages: readonly Message[],
): string {
  const parts = messages.map((message) => {
    if (message.role === "user") return `User:\n${message.text}`;
    if (message.role === "tool")
      return `Result of ${message.name}:\n${message.text}`;
    const calls = message.toolCalls.map(
      (call) => `Call: ${call.name}(${call.arguments})`,
    );
    const error =
      message.error === null ? [] : [`Error: ${message.error.message}`];
    const said = message.text === "" ? [] : [message.text];
    return ["Assistant:", ...said, ...calls, ...error].join("\n");
  });
  const opening = system === "" ? [] : [`System:\n${system}`];
  return [...opening, ...parts].join("\n\n");
}
