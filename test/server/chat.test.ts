import { describe, expect, it } from "vitest";
import {
  bytes,
  END,
  says,
  ScriptedEngine,
  serve,
  sseEvents,
  type Json,
} from "./support.js";

const URL = "/v1/chat/completions";
const messages = [{ role: "user", content: "hi" }];

describe("POST /v1/chat/completions", () => {
  it("renders the template and answers in OpenAI's shape", async () => {
    const engine = new ScriptedEngine(says("Hello"));
    const { post } = await serve(engine);
    const response = await post(URL, { model: "org/tiny", messages });
    expect(response.json()).toMatchObject({
      id: expect.stringMatching(/^chatcmpl-/),
      object: "chat.completion",
      model: "org/tiny",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello", refusal: null },
          logprobs: null,
          finish_reason: "stop",
          stop_reason: null,
        },
      ],
      usage: { prompt_tokens: 19, completion_tokens: 6 },
    });
    const [request] = engine.requests;
    expect([...(request?.promptTokenIds ?? [])]).toEqual(
      bytes("[user]hi[assistant]"),
    );
    // Without a limit: the rest of the context.
    expect(request?.params.maxTokens).toBe(128 - 19);
  });

  it("streams the role first, then the content, then usage", async () => {
    const { post } = await serve(new ScriptedEngine(says("Hé")));
    const response = await post(URL, {
      messages,
      n: 2,
      stream: true,
      stream_options: { include_usage: true, continuous_usage_stats: true },
    });
    const events = sseEvents(response.body);
    expect(events.slice(0, 2).map((event) => event.choices[0])).toEqual(
      [0, 1].map((index) => ({
        index,
        delta: { role: "assistant", content: "" },
        logprobs: null,
        finish_reason: null,
      })),
    );
    const usage = events.pop();
    expect(usage.choices).toEqual([]);
    expect(usage.usage.completion_tokens).toBe(8);
    const mine = events.filter((event) => event.choices[0].index === 1);
    const text = mine.map((event) => event.choices[0].delta.content ?? "");
    expect(text.join("")).toBe("Hé");
    expect(mine.at(-1).choices[0]).toMatchObject({
      delta: {},
      finish_reason: "stop",
    });
    expect(mine.at(-1).usage.completion_tokens).toBeGreaterThan(0);
    expect(events.every((e) => e.object === "chat.completion.chunk")).toBe(
      true,
    );
  });

  it("reports log-probabilities with bytes and alternatives", async () => {
    const { post } = await serve(new ScriptedEngine(() => bytes("é")));
    const response = await post(URL, {
      messages,
      max_completion_tokens: 2,
      logprobs: true,
      top_logprobs: 1,
    });
    const { content } = response.json().choices[0].logprobs;
    expect(content.map((entry: Json) => entry.bytes)).toEqual([[0xc3], [0xa9]]);
    expect(content[0].logprob).toBeCloseTo(-1.95, 5);
    expect(content[0].top_logprobs).toHaveLength(1);
    const none = await post(URL, { messages, max_tokens: 1, logprobs: true });
    expect(none.json().choices[0].logprobs.content[0].top_logprobs).toEqual([]);
  });

  it("takes text parts, every role, history with tool calls, and a message to continue", async () => {
    const engine = new ScriptedEngine(() => [END]);
    const { post } = await serve(engine);
    const response = await post(URL, {
      messages: [
        { role: "system", content: [{ type: "text", text: "S" }] },
        { role: "developer", content: "D" },
        {
          role: "assistant",
          content: null,
          tool_calls: [
            {
              id: "1",
              type: "function",
              function: { name: "f", arguments: "{}" },
            },
          ],
        },
        { role: "tool", tool_call_id: "1", content: "T" },
        { role: "assistant", content: "A" },
      ],
      add_generation_prompt: false,
      continue_final_message: true,
    });
    expect(response.statusCode).toBe(200);
    const prompt = Buffer.from(engine.requests[0]?.promptTokenIds ?? []);
    expect(prompt.toString()).toBe(
      "[system]S[developer]D[assistant][tool]T[assistant]A",
    );
  });

  it("passes template variables on; tools reach the template with tool_choice none", async () => {
    const engine = new ScriptedEngine(() => [END]);
    const { post } = await serve(engine, {
      template: "{{ mood }}{{ reasoning_effort }}{{ tools | length }}",
    });
    await post(URL, {
      messages,
      chat_template_kwargs: { mood: "ok" },
      reasoning_effort: "low",
      tools: [{ type: "function", function: { name: "f" } }],
      tool_choice: "none",
    });
    const prompt = Buffer.from(engine.requests[0]?.promptTokenIds ?? []);
    expect(prompt.toString()).toBe("oklow1");
  });

  it("goes by the request_id of the request, if there is one", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { app, post } = await serve(engine);
    const named = await post(URL, { messages, request_id: "mine" });
    expect(named.json().id).toBe("chatcmpl-mine");
    const stream = await post(URL, {
      messages,
      request_id: "mine",
      stream: true,
    });
    for (const event of sseEvents(stream.body))
      expect(event.id).toBe("chatcmpl-mine");
    const completion = { prompt: "a", request_id: "mine" };
    expect((await post("/v1/completions", completion)).json().id).toBe(
      "cmpl-mine",
    );
    const { headers } = await post(URL, { messages, request_id: "" });
    expect(engine.requests.at(-1)?.id).toBe(headers["x-request-id"]);
    expect((await app.inject("/v1/requests/mine")).statusCode).toBe(200);
  });

  it("shows names to the template, and takes top_logprobs 0 without logprobs", async () => {
    const engine = new ScriptedEngine(() => [END]);
    const { post } = await serve(engine, {
      template:
        "{% for m in messages %}{{ m.name }}:{{ m.content }}{% endfor %}",
    });
    const bob = { role: "user", name: "bob", content: "hi" };
    const body = { messages: [bob], logprobs: false, top_logprobs: 0 };
    expect((await post(URL, body)).statusCode).toBe(200);
    const prompt = Buffer.from(engine.requests[0]?.promptTokenIds ?? []);
    expect(prompt.toString()).toBe("bob:hi");
  });

  const refused: [name: string, body: object, param: string, text: RegExp][] = [
    ["no messages", { messages: [] }, "messages", /at least 1/],
    [
      "an unknown role",
      { messages: [{ role: "x", content: "" }] },
      "messages[0].role",
      /one of system/,
    ],
    [
      "no content",
      { messages: [{ role: "user" }] },
      "messages[0].content",
      /got nothing/,
    ],
    [
      "a number as content",
      { messages: [{ role: "user", content: 5 }] },
      "messages[0].content",
      /got 5/,
    ],
    [
      "an image",
      {
        messages: [
          { role: "user", content: [{ type: "image_url", image_url: {} }] },
        ],
      },
      "messages[0].content[0]",
      /only text parts/,
    ],
    [
      "an unknown form of output",
      { messages, response_format: { type: "xml" } },
      "response_format.type",
      /json_schema/,
    ],
    [
      "a template",
      { messages, chat_template: "{{ 1 }}" },
      "chat_template",
      /--chat-template/,
    ],
    [
      "top_logprobs alone",
      { messages, top_logprobs: 1 },
      "top_logprobs",
      /logprobs is true/,
    ],
    [
      "documents without a place",
      { messages, documents: [{ text: "d" }] },
      "documents",
      /no place/,
    ],
    [
      "both ways to go on",
      { messages, continue_final_message: true, add_generation_prompt: true },
      "continue_final_message",
      /both true/,
    ],
    [
      "a number as a name",
      { messages: [{ role: "user", name: 5, content: "a" }] },
      "messages[0].name",
      /a string, got 5/,
    ],
    [
      "an old function call",
      {
        messages: [
          { role: "assistant", content: null, function_call: { name: "f" } },
        ],
      },
      "messages[0].function_call",
      /use tool_calls/,
    ],
    [
      "a refusal that nobody would print",
      { messages: [{ role: "assistant", content: null, refusal: "No." }] },
      "messages[0].refusal",
      /as content/,
    ],
    [
      "a best_of beyond n",
      { messages, n: 2, best_of: 3 },
      "best_of",
      /equal to n/,
    ],
    [
      "audio",
      { messages, modalities: ["text", "audio"] },
      "modalities",
      /text/,
    ],
  ];
  it.each(refused)("400 for %s", async (_name, body, param, text) => {
    const { post } = await serve(new ScriptedEngine(says("x")));
    const response = await post(URL, body);
    expect(response.statusCode).toBe(400);
    expect(response.json().error).toMatchObject({
      param,
      type: "invalid_request_error",
      message: expect.stringMatching(text),
    });
  });

  it("400 naming --chat-template where the model has none", async () => {
    const { post } = await serve(new ScriptedEngine(says("x")), {
      template: null,
    });
    const response = await post(URL, { messages });
    expect(response.statusCode).toBe(400);
    expect(response.json().error.message).toContain("--chat-template");
  });
});
