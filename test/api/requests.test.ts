import { expect, it } from "vitest";
import {
  chat,
  type ChatEvent,
  type ChatResult,
} from "../../src/api/requests.js";
import { Run } from "../../src/api/run.js";
import { createContext } from "../../src/server/context.js";
import type { ChatBody } from "../../src/server/schemas.js";
import { loadChatTemplate } from "../../src/text/chat-template.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { pino } from "pino";
import {
  directory,
  says,
  ScriptedEngine,
  serve,
  TOOL_TEMPLATE,
} from "../server/support.js";

const CALL =
  '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>';

async function run(body: ChatBody): Promise<Run<ChatEvent, ChatResult>> {
  const { client } = await serve(new ScriptedEngine(says(`Well. ${CALL}`)), {
    info: { maxModelLen: 512 },
  });
  const context = createContext(
    {
      engine: client,
      tokenizer: await loadTokenizer(directory),
      chatTemplate: await loadChatTemplate(directory, TOOL_TEMPLATE),
      servedModelNames: ["tiny"],
      modelPath: directory,
      metrics: false,
    },
    pino({ level: "silent" }),
  );
  return new Run((sink, signal) => chat(context, body, sink, signal));
}

it("tells calls as they are made, under the ids of the whole message", async () => {
  const look = { name: "look", parameters: { type: "object" } };
  const answering = await run({
    messages: [{ role: "user", content: "?" }],
    tools: [{ type: "function", function: look }],
    n: 2,
  });
  const events: ChatEvent[] = [];
  for await (const event of answering) events.push(event);
  const { choices, message } = await answering.result;
  expect(choices).toHaveLength(2);
  expect(choices[0]?.message).toBe(message);
  for (const { index, message, finishReason } of choices) {
    const own = events.filter((event) => event.index === index);
    const starts = own.filter((event) => event.type === "call-start");
    expect(starts).toHaveLength(1);
    expect(message.content?.trim()).toBe("Well.");
    expect(message.tool_calls).toEqual([
      {
        id: starts[0]?.id,
        type: "function",
        function: { name: "look", arguments: '{"at": "sky"}' },
      },
    ]);
    const pieces = own.map((event) =>
      event.type === "call-arguments" ? event.text : "",
    );
    expect(pieces.join("")).toBe('{"at": "sky"}');
    expect(own.at(-1)?.type).toBe("call-end");
    expect(finishReason).toBe("tool_calls");
  }
});
