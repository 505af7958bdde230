import { expect, it } from "vitest";
import { Answer } from "../../src/page/answer.js";
import { requestMessages, transcript } from "../../src/page/conversation.js";
import { factsOf } from "../../src/page/message-view.js";
import { blocksOf } from "../../src/page/rich-text.js";

it.each([
  ["", []],
  ["plain `x`\n\ntext", [["plain `x`\n\ntext", null]]],
  [
    "a\n```ts title\nlet x;\n\n  y\n```\nb",
    [
      ["a", null],
      ["let x;\n\n  y", "ts"],
      ["b", null],
    ],
  ],
  [
    "a\n\n```\nx\n```\n\n  b\n",
    [
      ["a", null],
      ["x", ""],
      ["  b", null],
    ],
  ],
  // Not closed yet, or by another fence.
  ["```\nx", [["x", ""]]],
  ["```\n", [["", ""]]],
  ["~~~py\n```\nx\n~~~", [["```\nx", "py"]]],
  ["````\n```\nx\n```\n````\n", [["```\nx\n```", ""]]],
  ["```js\n``` x\n```", [["``` x", "js"]]],
  ["no ``` fence", [["no ``` fence", null]]],
])("cuts %j at its fences", (text, expected) => {
  const blocks = blocksOf(text).map((block) => [
    block.text,
    block.code?.language ?? null,
  ]);
  expect(blocks).toEqual(expected);
});

function answerOf(fields: Partial<Answer>): Answer {
  return Object.assign(new Answer(), { state: "done" }, fields);
}

it("sends the conversation back as the API takes it", () => {
  const call = { id: "call_1", name: "f", arguments: "{}" };
  const calling = answerOf({ reasoning: "hm" });
  calling.toolCalls.push(call);
  const messages = [
    { role: "user", text: "a" } as const,
    answerOf({ state: "failed" }),
    { role: "user", text: "b" } as const,
    calling,
    { role: "tool", callId: "call_1", name: "f", text: "1" } as const,
    answerOf({ text: "c", state: "stopped" }),
  ];
  expect(requestMessages("s", messages)).toEqual([
    { role: "system", content: "s" },
    { role: "user", content: "a" },
    { role: "user", content: "b" },
    {
      role: "assistant",
      content: null,
      tool_calls: [
        {
          id: "call_1",
          type: "function",
          function: { name: "f", arguments: "{}" },
        },
      ],
    },
    { role: "tool", tool_call_id: "call_1", content: "1" },
    { role: "assistant", content: "c" },
  ]);
  expect(requestMessages("", messages.slice(0, 1))).toHaveLength(1);
  expect(transcript("s", messages)).toBe(
    "System:\ns\n\nUser:\na\n\nAssistant:\n\nUser:\nb\n\nAssistant:\nCall: f({})\n\nResult of f:\n1\n\nAssistant:\nc",
  );
});

it("says what an answer took", () => {
  const usage = {
    prompt_tokens: 20,
    completion_tokens: 57,
    prompt_tokens_details: { cached_tokens: 16 },
  };
  const whole = { ttft: 12.3, tokensPerSecond: 340.4, finishReason: "stop" };
  expect(factsOf(answerOf({ ...whole, usage }))).toBe(
    "first token 12 ms · 340 tokens/s · 57 tokens · prompt 20, 16 cached · stop",
  );
  expect(factsOf(answerOf({ finishReason: "length" }))).toBe(
    "cut at the limit",
  );
  expect(factsOf(answerOf({ state: "stopped", ttft: 12_345 }))).toBe(
    "first token 12.3 s · stopped",
  );
});
