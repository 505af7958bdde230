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

const URL = "/v1/messages";
const base = {
  model: "tiny",
  max_tokens: 200,
  messages: [{ role: "user", content: "Weather?" }],
};
const tools = [
  {
    name: "get_weather",
    description: "Weather now",
    input_schema: {
      type: "object",
      properties: { city: { type: "string" } },
    },
  },
];
const PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
const thinks: Script = () => [
  ...bytes("<think>\nHm.\n</think>\n\nLet me see.\n"),
  258,
  ...bytes(`\n${PARIS}\n`),
  259,
  END,
];
const template = `${TOOL_TEMPLATE}{# <think></think> #}`;

async function start(script: Script, options: object = {}) {
  const engine = new ScriptedEngine(script);
  const info = { maxModelLen: 4096 };
  const server = await serve(engine, { template, info, ...options });
  const prompt = (i = 0): string =>
    [...(engine.requests[i]?.promptTokenIds ?? [])]
      .map((id) => (id < 256 ? String.fromCharCode(id) : `#${id}`))
      .join("");
  return { ...server, engine, prompt };
}

/** The events of a stream, each checked to be named by its type. */
function events(body: string): Json[] {
  return body
    .trimEnd()
    .split("\n\n")
    .map((text) => {
      const match = /^event: (\w+)\ndata: (.*)$/.exec(text);
      const event: Json = JSON.parse(match?.[2] ?? "null");
      expect(event.type).toBe(match?.[1]);
      return event;
    });
}

describe("POST /v1/messages", () => {
  it("answers with blocks of thinking, text and tool use", async () => {
    const { post } = await start(thinks);
    const response = await post(URL, { ...base, tools });
    expect(response.json()).toEqual({
      id: expect.stringMatching(/^msg_[0-9a-f]{32}$/),
      type: "message",
      role: "assistant",
      model: "tiny",
      content: [
        { type: "thinking", thinking: "Hm.", signature: "" },
        { type: "text", text: "Let me see." },
        {
          type: "tool_use",
          id: expect.stringMatching(/^toolu_/),
          name: "get_weather",
          input: { city: "Paris" },
        },
      ],
      stop_reason: "tool_use",
      stop_sequence: null,
      usage: {
        input_tokens: expect.any(Number),
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 0,
        output_tokens: thinks({} as never, 0).length,
      },
    });
  });

  it("streams blocks one after the other", async () => {
    const { post } = await start(thinks);
    const response = await post(URL, { ...base, tools, stream: true });
    const all = events(response.body);
    expect(all[0]).toMatchObject({
      type: "message_start",
      message: { role: "assistant", content: [], stop_reason: null },
    });
    expect(all[1]).toEqual({ type: "ping" });
    expect(all.at(-1)).toEqual({ type: "message_stop" });
    expect(all.at(-2)).toMatchObject({
      type: "message_delta",
      delta: { stop_reason: "tool_use", stop_sequence: null },
      usage: { output_tokens: thinks({} as never, 0).length },
    });
    const blocks: { kind: string; text: string; stopped: boolean }[] = [];
    for (const event of all.slice(2, -2)) {
      const last = blocks.at(-1);
      if (event.type === "content_block_start") {
        expect(last?.stopped ?? true).toBe(true);
        expect(event.index).toBe(blocks.length);
        const kind: string = event.content_block.type;
        blocks.push({ kind, text: "", stopped: false });
        continue;
      }
      expect(event.index).toBe(blocks.length - 1);
      if (last === undefined) throw new Error("no block");
      if (event.type === "content_block_stop") last.stopped = true;
      else {
        const { thinking, text, partial_json } = event.delta;
        last.text += thinking ?? text ?? partial_json;
      }
    }
    expect(blocks).toEqual([
      { kind: "thinking", text: "Hm.", stopped: true },
      { kind: "text", text: "Let me see.", stopped: true },
      { kind: "tool_use", text: '{"city": "Paris"}', stopped: true },
    ]);
    expect(response.body).not.toContain("[DONE]");
  });

  it("renders system, tool results, thinking and text of earlier turns", async () => {
    const { post, prompt } = await start(says("21 degrees."));
    const response = await post(URL, {
      ...base,
      system: [
        {
          type: "text",
          text: "Be brief.",
          cache_control: { type: "ephemeral" },
        },
        { type: "text", text: "Metric." },
      ],
      messages: [
        { role: "user", content: [{ type: "text", text: "Weather?" }] },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "Hm.", signature: "x" },
            { type: "text", text: "Let me see." },
            {
              type: "tool_use",
              id: "toolu_1",
              name: "get_weather",
              input: { city: "Paris" },
            },
          ],
        },
        {
          role: "user",
          content: [
            {
              type: "tool_result",
              tool_use_id: "toolu_1",
              content: [{ type: "text", text: "21" }],
            },
            { type: "text", text: "So?" },
          ],
        },
      ],
    });
    expect(response.json().content).toEqual([
      { type: "text", text: "21 degrees." },
    ]);
    expect(response.json().stop_reason).toBe("end_turn");
    expect(prompt()).toBe(
      "<|im_start|>system\nBe brief.\nMetric.<|im_end|>\n<|im_start|>user\nWeather?<|im_end|>\n" +
        `<|im_start|>assistant\nLet me see.#258\n${PARIS}\n#259<|im_end|>\n` +
        "<|im_start|>tool\n21<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  it("goes on from a last message of the assistant", async () => {
    const { post, prompt } = await start(says(" degrees."));
    const messages = [
      ...base.messages,
      { role: "assistant", content: "It is 21" },
    ];
    await post(URL, { ...base, messages });
    expect(prompt().endsWith("<|im_start|>assistant\nIt is 21")).toBe(true);
  });

  it("says why it stopped", async () => {
    const { post } = await start(says("one two three"));
    const stop = { ...base, stop_sequences: ["two", "x"] };
    expect((await post(URL, stop)).json()).toMatchObject({
      content: [{ type: "text", text: "one " }],
      stop_reason: "stop_sequence",
      stop_sequence: "two",
    });
    const short = { ...base, max_tokens: 3, stream: true };
    const streamed = events((await post(URL, short)).body);
    expect(streamed.at(-2).delta.stop_reason).toBe("max_tokens");
  });

  it("bounds thinking by budget_tokens", async () => {
    const { post, engine } = await start(says("Hm.</think>Yes."));
    const thinking = { type: "enabled", budget_tokens: 50 };
    const response = await post(URL, { ...base, thinking });
    expect(response.json().content).toEqual([
      { type: "thinking", thinking: "Hm.", signature: "" },
      { type: "text", text: "Yes." },
    ]);
    expect(engine.requests[0]?.constraint).toMatchObject({ freeTokens: 50 });
  });

  it("gives text instead of a tool use whose arguments are no JSON", async () => {
    const broken: Script = () => [
      258,
      ...bytes('{"name": "get_weather", "arguments": {city}}'),
      259,
      END,
    ];
    const { post } = await start(broken);
    const response = await post(URL, { ...base, tools });
    expect(response.json().content).toEqual([{ type: "text", text: "{city}" }]);
  });

  it("counts tokens of the very prompt", async () => {
    const { post, engine } = await start(says("x"));
    const body = { ...base, tools, system: "Be brief." };
    await post(URL, body);
    const { max_tokens: _, ...rest } = body;
    const response = await post(`${URL}/count_tokens`, rest);
    expect(response.json()).toEqual({
      input_tokens: engine.requests[0]?.promptTokenIds.length,
    });
  });

  it("counts the mark that begins a bounded thinking too", async () => {
    const { post, engine } = await start(says("Hm.</think>Yes."));
    const thinking = { type: "enabled", budget_tokens: 50 };
    const { usage } = (await post(URL, { ...base, thinking })).json();
    const { max_tokens: _, ...rest } = { ...base, thinking };
    const response = await post(`${URL}/count_tokens`, rest);
    expect(response.json()).toEqual({
      input_tokens: engine.requests[0]?.promptTokenIds.length,
    });
    expect(response.json().input_tokens).toBe(
      usage.input_tokens + usage.cache_read_input_tokens,
    );
  });

  it("leaves the text of thinking out where it is omitted", async () => {
    const { post } = await start(thinks);
    const thinking = { type: "adaptive", display: "omitted" };
    const body = { ...base, tools, thinking };
    const whole = (await post(URL, body)).json();
    expect(whole.content[0]).toEqual({
      type: "thinking",
      thinking: "",
      signature: "",
    });
    expect(whole.content[1].text).toBe("Let me see.");
    const streamed = await post(URL, { ...body, stream: true });
    const all = events(streamed.body);
    expect(all[2].content_block.type).toBe("thinking");
    expect(all[3]).toEqual({ type: "content_block_stop", index: 0 });
    expect(streamed.body).not.toContain("thinking_delta");
  });

  it("lets the model read that a tool failed", async () => {
    const { post, prompt } = await start(says("Oh."));
    const result = { type: "tool_result", tool_use_id: "1", is_error: true };
    const content = [
      { ...result, content: "no such city" },
      { ...result, content: [{ type: "text", text: "HTTP error 500" }] },
      { ...result, is_error: false, content: "21" },
    ];
    await post(URL, { ...base, messages: [{ role: "user", content }] });
    const results = [...prompt().matchAll(/tool\n([^<]*)/g)];
    expect(results.map(([, text]) => text)).toEqual([
      "Error: no such city",
      "HTTP error 500",
      "21",
    ]);
  });

  it("hands parameters beyond Anthropic's to the engine", async () => {
    const { post, engine } = await start(says("x"));
    await post(URL, {
      ...base,
      temperature: 0.5,
      top_k: 3,
      top_p: 0.9,
      min_p: 0.1,
      repetition_penalty: 1.5,
      presence_penalty: 1,
      frequency_penalty: -1,
      seed: 7,
      min_tokens: 2,
      stop_token_ids: [9],
      logit_bias: { "5": -100 },
      allowed_token_ids: [5, 6],
      bad_words: ["no"],
      ignore_eos: true,
      cache_salt: "me",
      priority: 3,
      request_id: "mine",
    });
    expect(engine.requests[0]).toMatchObject({
      id: "mine",
      priority: 3,
      cacheSalt: "me",
      params: {
        temperature: 0.5,
        topK: 3,
        topP: 0.9,
        minP: 0.1,
        repetitionPenalty: 1.5,
        presencePenalty: 1,
        frequencyPenalty: -1,
        seedLo: 7,
        seedHi: 0,
        minTokens: 2,
        stopTokenIds: [9],
        logitBias: [[5, -100]],
        allowedTokenIds: [5, 6],
        badWordsTokenIds: [bytes("no")],
        ignoreEos: true,
        maxTokens: 200,
      },
    });
  });

  it("names the request as Anthropic's clients read it", async () => {
    const { app, post } = await start(says("x"));
    for (const body of [base, { ...base, stream: true }, {}]) {
      const { headers } = await post(URL, body);
      expect(headers["request-id"]).toBe(headers["x-request-id"]);
      expect(headers["request-id"]).toMatch(/./);
    }
    const other = await app.inject("/v1/models");
    expect(other.headers["request-id"]).toBeUndefined();
  });

  it("tells of a failure in the middle of a stream", async () => {
    const { client, post, engine } = await start(says("x".repeat(100)));
    engine.running = false;
    const pending = post(URL, { ...base, stream: true });
    await expect.poll(() => engine.requests.length).toBe(1);
    engine.failNext = true;
    engine.running = true;
    void client.call("checkIntegrity").catch(() => undefined);
    const last = events((await pending).body).at(-1);
    expect(last).toMatchObject({ type: "error", error: { type: "api_error" } });
  });

  const image = { type: "image", source: {} };
  const refused: [string, object, RegExp][] = [
    [
      "no max_tokens",
      { max_tokens: undefined },
      /^max_tokens: expected a value/,
    ],
    ["no model", { model: undefined }, /^model: /],
    [
      "a role",
      { messages: [{ role: "tool", content: "" }] },
      /^messages\[0\]\.role/,
    ],
    [
      "an image",
      { messages: [{ role: "user", content: [image] }] },
      /^messages\[0\]\.content\[0\]: only text and tool blocks/,
    ],
    [
      "an image in a result",
      {
        messages: [
          {
            role: "user",
            content: [
              { type: "tool_result", tool_use_id: "1", content: [image] },
            ],
          },
        ],
      },
      /^messages\[0\]\.content\[0\]\.content\[0\]/,
    ],
    [
      "a server tool",
      { tools: [{ type: "web_search_20250305", name: "web_search" }] },
      /^tools\[0\]\.type/,
    ],
    ["no schema", { tools: [{ name: "a" }] }, /^tools\[0\]\.input_schema/],
    [
      "an unknown tool",
      { tools, tool_choice: { type: "tool", name: "b" } },
      /^tool_choice\.name: expected one of get_weather/,
    ],
    ["a choice", { tools, tool_choice: { type: "x" } }, /^tool_choice\.type/],
    [
      "a choice that is neither",
      { tools, tool_choice: { type: "auto", disable_parallel_tool_use: 1 } },
      /^tool_choice\.disable_parallel_tool_use: expected true or false/,
    ],
    [
      "a tool that is searched for",
      { tools: [{ ...tools[0], defer_loading: true }] },
      /^tools\[0\]\.defer_loading/,
    ],
    [
      "a tool for programs only",
      {
        tools: [{ ...tools[0], allowed_callers: ["code_execution_20260120"] }],
      },
      /^tools\[0\]\.allowed_callers/,
    ],
    [
      "examples",
      { tools: [{ ...tools[0], input_examples: [{ city: "Rome" }] }] },
      /^tools\[0\]\.input_examples/,
    ],
    [
      "a description",
      { tools: [{ ...tools[0], description: 5 }] },
      /^tools\[0\]\.description/,
    ],
    ["strict", { tools: [{ ...tools[0], strict: 1 }] }, /^tools\[0\]\.strict/],
    [
      "a display",
      { thinking: { type: "adaptive", display: "x" } },
      /^thinking\.display/,
    ],
    [
      "an is_error",
      {
        messages: [
          {
            role: "user",
            content: [{ type: "tool_result", tool_use_id: "1", is_error: 1 }],
          },
        ],
      },
      /^messages\[0\]\.content\[0\]\.is_error/,
    ],
    ["a budget", { thinking: { type: "enabled" } }, /^thinking\.budget_tokens/],
    ["stop_sequences", { stop_sequences: [""] }, /^stop_sequences\[0\]/],
    ["MCP", { mcp_servers: [{}] }, /^mcp_servers: .*not built/],
    [
      "a call without its result",
      {
        messages: [
          {
            role: "assistant",
            content: [{ type: "tool_use", id: "1", name: "a", input: {} }],
          },
        ],
      },
      /^messages\[0\]: expected the results/,
    ],
  ];
  it.each(refused)("400 in Anthropic's shape for %s", async (_, body, text) => {
    const { post } = await start(says("x"));
    const response = await post(URL, { ...base, ...body });
    expect(response.statusCode).toBe(400);
    expect(response.json()).toMatchObject({
      type: "error",
      error: {
        type: "invalid_request_error",
        message: expect.stringMatching(text),
      },
      request_id: expect.any(String),
    });
  });

  it("takes the key from x-api-key, and names other errors as Anthropic does", async () => {
    const { app } = await start(says("Hi."), { apiKeys: ["secret"] });
    const send = (headers: Record<string, string>, fields: object = {}) =>
      app.inject({
        method: "POST",
        url: URL,
        headers,
        payload: { ...base, ...fields },
      });
    expect((await send({ "x-api-key": "secret" })).statusCode).toBe(200);
    const wrong = await send({ "x-api-key": "wrong" });
    expect(wrong.statusCode).toBe(401);
    expect(wrong.json().error.type).toBe("authentication_error");
    const headers = { authorization: "Bearer secret" };
    const unknown = await send(headers, { model: "other" });
    expect(unknown.statusCode).toBe(404);
    expect(unknown.json().error.type).toBe("not_found_error");
  });
});
