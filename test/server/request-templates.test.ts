import { describe, expect, it } from "vitest";
import {
  bytes,
  END,
  says,
  ScriptedEngine,
  serve,
  TOOL_TEMPLATE,
  type Json,
  type Script,
} from "./support.js";

const URL = "/v1/chat/completions";
const messages = [{ role: "user", content: "hi" }];
const LOUD = "{% for m in messages %}<{{ m.content | upper }}>{% endfor %}";
const TOOL = { type: "function", function: { name: "f" } };
/** The markers are special tokens. */
const calls: Script = () => [
  258,
  ...bytes('\n{"name": "f", "arguments": {}}\n'),
  259,
  END,
];

async function trusting(script = says("ok")) {
  const engine = new ScriptedEngine(script);
  const server = await serve(engine, {
    trustRequestChatTemplate: true,
    info: { maxModelLen: 4096 },
  });
  return { engine, ...server };
}

describe("chat_template of a request", () => {
  it("writes the prompt, of this request alone", async () => {
    const { engine, post } = await trusting();
    for (const chat_template of [LOUD, undefined, LOUD])
      await post(URL, { messages, chat_template });
    const prompts = engine.requests.map(({ promptTokenIds }) => [
      ...promptTokenIds,
    ]);
    const own = bytes("[user]hi[assistant]");
    expect(prompts).toEqual([bytes("<HI>"), own, bytes("<HI>")]);
  });

  it("says how calls are read", async () => {
    const { post } = await trusting(calls);
    const tools = [TOOL];
    const own = await post(URL, { messages, tools });
    expect(own.json<Json>().error.param).toBe("tools");
    const response = await post(URL, {
      messages,
      tools,
      chat_template: TOOL_TEMPLATE,
    });
    const [choice] = response.json<Json>().choices;
    expect(choice.message.tool_calls).toMatchObject([
      { function: { name: "f", arguments: "{}" } },
    ]);
  });

  it("is known however many there have been", async () => {
    const { engine, post } = await trusting();
    for (let i = 0; i < 40; i++)
      await post(URL, { messages, chat_template: LOUD + (i % 20) });
    const last = engine.requests.at(-1)?.promptTokenIds ?? [];
    expect(engine.requests).toHaveLength(40);
    expect([...last]).toEqual(bytes("<HI>19"));
  });

  it("is taken by /tokenize", async () => {
    const { post } = await trusting();
    const body = { messages, chat_template: LOUD };
    const response = await post("/tokenize", body);
    expect(response.json<Json>().tokens).toEqual(bytes("<HI>"));
  });

  it.each([
    ["that cannot be parsed", "{% if %}", /cannot be parsed/],
    ["that refuses", "{{ raise_exception('no') }}", /no/],
    ["that is too long", "a".repeat(200_000), /at most 131072/],
  ])("is refused where it is one %s", async (_, chat_template, message) => {
    const { post } = await trusting();
    const response = await post(URL, { messages, chat_template });
    expect(response.statusCode).toBe(400);
    expect(response.json<Json>().error.message).toMatch(message);
  });

  it("is refused where requests are not trusted, and for prompts", async () => {
    const { post } = await serve(new ScriptedEngine(says("ok")));
    const refused = [
      await post(URL, { messages, chat_template: LOUD }),
      await post("/tokenize", { messages, chat_template: LOUD }),
      await post("/v1/completions", { prompt: "a", chat_template: LOUD }),
    ];
    for (const response of refused) {
      expect(response.statusCode).toBe(400);
      expect(response.json<Json>().error.param).toBe("chat_template");
    }
    expect(refused[0]?.body).toContain("--trust-request-chat-template");
  });
});
