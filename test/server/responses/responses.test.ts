import { describe, expect, it } from "vitest";
import { pagedEngine } from "../known-engine.js";
import {
  bytes,
  END,
  says,
  ScriptedEngine,
  serve,
  sseEvents,
  TOOL_TEMPLATE,
  type Json,
  type Script,
} from "../support.js";
import { checkEvents } from "./check-events.js";

const URL = "/v1/responses";
const base = { model: "tiny", input: "Weather?" };
const weather = {
  type: "function",
  name: "get_weather",
  description: "Weather now",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: false,
};
const tools = [weather];
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
  const create = async (body: object): Promise<Json> => {
    const response = await server.post(URL, { ...base, ...body });
    expect(response.statusCode, response.body).toBe(200);
    return response.json();
  };
  return { ...server, engine, prompt, create };
}

/** Server-sent events whose names are their types. */
function eventsOf(body: string): Json[] {
  const lines = body.split("\n").filter((line) => line.startsWith("event: "));
  const events = sseEvents(body.replace(/^event: .*\n/gm, ""));
  expect(events.map(({ type }) => `event: ${type}`)).toEqual(lines);
  return events;
}

const text = (response: Json): string =>
  response.output
    .flatMap((item: Json) => (item.type === "message" ? item.content : []))
    .map((part: Json) => part.text)
    .join("");

describe("POST /v1/responses", () => {
  it("answers with a response of every field that the specification has", async () => {
    const { create } = await start(says("Hi."));
    const metadata = { a: "b" };
    const response = await create({ instructions: "Be brief.", metadata });
    expect(response).toEqual({
      id: expect.stringMatching(/^resp_[0-9a-f]{32}$/),
      object: "response",
      created_at: expect.any(Number),
      completed_at: expect.any(Number),
      status: "completed",
      background: false,
      error: null,
      incomplete_details: null,
      instructions: "Be brief.",
      max_output_tokens: null,
      max_tool_calls: null,
      metadata,
      model: "tiny",
      output: [
        {
          type: "message",
          id: expect.stringMatching(/^msg_/),
          status: "completed",
          role: "assistant",
          content: [
            { type: "output_text", text: "Hi.", annotations: [], logprobs: [] },
          ],
        },
      ],
      parallel_tool_calls: true,
      presence_penalty: 0,
      frequency_penalty: 0,
      previous_response_id: null,
      prompt_cache_key: null,
      reasoning: { effort: null, summary: null },
      safety_identifier: null,
      service_tier: "default",
      store: true,
      temperature: 1,
      text: { format: { type: "text" }, verbosity: "medium" },
      tool_choice: "auto",
      tools: [],
      top_logprobs: 0,
      top_p: 1,
      truncation: "disabled",
      usage: {
        input_tokens: expect.any(Number),
        input_tokens_details: { cached_tokens: 0 },
        output_tokens: 4,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: expect.any(Number),
      },
      user: null,
    });
  });

  it("answers with items of reasoning, text and a call", async () => {
    const { create, prompt } = await start(thinks);
    const response = await create({ tools });
    expect(response.output).toEqual([
      {
        type: "reasoning",
        id: expect.stringMatching(/^rs_/),
        status: "completed",
        summary: [],
        content: [{ type: "reasoning_text", text: "Hm." }],
      },
      {
        type: "message",
        id: expect.stringMatching(/^msg_/),
        status: "completed",
        role: "assistant",
        content: [
          {
            type: "output_text",
            text: "Let me see.",
            annotations: [],
            logprobs: [],
          },
        ],
      },
      {
        type: "function_call",
        id: expect.stringMatching(/^fc_/),
        status: "completed",
        call_id: expect.stringMatching(/^call_/),
        name: "get_weather",
        arguments: '{"city": "Paris"}',
      },
    ]);
    const { output_tokens, output_tokens_details } = response.usage;
    expect(output_tokens).toBe(thinks({} as never, 0).length);
    // "<think>\nHm.\n</think>", give or take the white space around it.
    expect(output_tokens_details.reasoning_tokens).toBeGreaterThanOrEqual(11);
    expect(output_tokens_details.reasoning_tokens).toBeLessThanOrEqual(24);
    expect(prompt()).toContain('"name": "get_weather"');
  });

  it("streams the events of each item in their order", async () => {
    const { post, create } = await start(thinks);
    const streamed = await post(URL, { ...base, tools, stream: true });
    const events = eventsOf(streamed.body);
    const built = checkEvents(events);
    const whole = await create({ tools });
    const same = (response: Json) =>
      JSON.stringify(response).replace(
        /"(id|call_id)":"[^"]*"|"\w+_at":\d+/g,
        "",
      );
    expect(same(built)).toBe(same(whole));
    expect(events.map(({ type }) => type).filter(unlikeBefore)).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.reasoning_text.delta",
      "response.reasoning_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.completed",
    ]);
  });

  it("is incomplete at max_output_tokens", async () => {
    const { post, create } = await start(says("one two three"));
    const body = { max_output_tokens: 3 };
    const response = await create(body);
    expect(response).toMatchObject({
      status: "incomplete",
      completed_at: null,
      incomplete_details: { reason: "max_output_tokens" },
      output: [{ status: "incomplete", content: [{ text: "one" }] }],
    });
    const streamed = await post(URL, { ...base, ...body, stream: true });
    expect(checkEvents(eventsOf(streamed.body)).status).toBe("incomplete");
  });

  it("fails in the middle of a stream with an event", async () => {
    const { client, post, engine, app } = await start(says("x".repeat(100)));
    engine.running = false;
    const pending = post(URL, { ...base, stream: true });
    await expect.poll(() => engine.requests.length).toBe(1);
    engine.failNext = true;
    engine.running = true;
    void client.call("checkIntegrity").catch(() => undefined);
    const response = checkEvents(eventsOf((await pending).body));
    expect(response).toMatchObject({
      status: "failed",
      error: { code: "server_error", message: expect.any(String) },
    });
    const kept = await app.inject(`${URL}/${response.id}`);
    expect(kept.json()).toEqual(response);
  });

  it("reports log-probabilities of the text alone", async () => {
    const { create } = await start(thinks);
    const response = await create({
      tools,
      top_logprobs: 2,
      include: ["message.output_text.logprobs"],
    });
    const { logprobs } = response.output[1].content[0];
    const said = logprobs.map((entry: Json) => entry.token).join("");
    expect(said).toBe("Let me see.");
    expect(logprobs[0].top_logprobs).toHaveLength(2);
  });

  it("renders every kind of item", async () => {
    const { create, prompt } = await start(says("21 degrees."));
    await create({
      instructions: "Be brief.",
      tools,
      input: [
        { role: "developer", content: "Metric." },
        {
          type: "message",
          role: "user",
          content: [
            { type: "input_text", text: "Weather?" },
            { type: "input_text", text: "Now." },
          ],
        },
        {
          type: "reasoning",
          id: "rs_1",
          summary: [],
          content: [{ type: "reasoning_text", text: "Hm." }],
        },
        {
          type: "message",
          role: "assistant",
          content: [{ type: "output_text", text: "I look.", annotations: [] }],
        },
        {
          type: "function_call",
          call_id: "c1",
          name: "get_weather",
          arguments: '{"city":"Paris"}',
        },
        {
          type: "function_call_output",
          call_id: "c1",
          output: [{ type: "input_text", text: "21" }],
        },
      ],
    });
    expect(prompt()).toContain(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>developer\nMetric.<|im_end|>\n<|im_start|>user\nWeather?\nNow.<|im_end|>\n" +
        `<|im_start|>assistant\nI look.#258\n${PARIS}\n#259<|im_end|>\n` +
        "<|im_start|>tool\n21<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  it("gives a call back whose arguments are no JSON", async () => {
    const { create, prompt } = await start(says("x"));
    const call = { type: "function_call", call_id: "c", name: "get_weather" };
    await create({ tools, input: [{ ...call, arguments: "{city" }] });
    expect(prompt()).toContain('"arguments": "{city"');
  });

  it("leaves the oldest turns out with truncation auto", async () => {
    const { create, post, prompt } = await start(says("x"));
    const turn = (i: number) => [
      { role: "user", content: `question ${i} ${"y".repeat(500)}` },
      { role: "assistant", content: `answer ${i}` },
    ];
    const input = [
      ...Array.from({ length: 12 }, (_, i) => turn(i)).flat(),
      { role: "user", content: "last" },
    ];
    const body = { instructions: "Be brief.", input };
    const refused = await post(URL, { ...base, ...body });
    expect(refused.statusCode).toBe(400);
    expect(refused.json().error).toMatchObject({
      code: "context_length_exceeded",
      param: "input",
    });
    const response = await create({ ...body, truncation: "auto" });
    expect(response.usage.input_tokens).toBeLessThanOrEqual(4096 - 512);
    expect(prompt()).toMatch(/^<\|im_start\|>system\nBe brief\./);
    expect(prompt()).not.toContain("answer 4");
    expect(prompt()).toContain("<|im_start|>user\nquestion 6");
    const long = [{ role: "user", content: "z".repeat(5000) }];
    const hopeless = await post(URL, { input: long, truncation: "auto" });
    expect(hopeless.json().error.code).toBe("context_length_exceeded");
  });

  it("counts cached tokens of the conversation", async () => {
    const { post } = await serve(pagedEngine());
    const input = "The very same prompt, of more than one block.";
    const body = { input, max_output_tokens: 4, temperature: 0 };
    const first = (await post(URL, body)).json();
    const second = (
      await post(URL, {
        ...body,
        input: "And?",
        previous_response_id: first.id,
      })
    ).json();
    expect(first.usage.input_tokens_details.cached_tokens).toBe(0);
    expect(
      second.usage.input_tokens_details.cached_tokens,
    ).toBeGreaterThanOrEqual(16);
  });

  const image = { type: "input_image", image_url: "data:image/png;base64,AA" };
  const call = {
    type: "function_call",
    call_id: "c",
    name: "f",
    arguments: "{}",
  };
  const refused: [string, object, string, RegExp][] = [
    ["no input", { input: undefined }, "input", /expected a string or a list/],
    ["an empty list", { input: [] }, "input", /at least one item/],
    ["a number", { input: 1 }, "input", /expected a string or a list of items/],
    [
      "an image",
      { input: [{ role: "user", content: [image] }] },
      "input[0].content[0]",
      /only text parts are supported, got type "input_image"/,
    ],
    [
      "a role",
      { input: [{ role: "x", content: "" }] },
      "input[0].role",
      /one of user/,
    ],
    [
      "no content",
      { input: [{ role: "user" }] },
      "input[0].content",
      /a string or/,
    ],
    [
      "an item",
      { input: [{ type: "web_search_call" }] },
      "input[0].type",
      /not built/,
    ],
    ["no item", { input: [null] }, "input[0]", /an item/],
    [
      "an unknown reference",
      { input: [{ type: "item_reference", id: "msg_1" }] },
      "input[0].id",
      /a stored item/,
    ],
    [
      "an output without its call",
      {
        input: [
          call,
          { type: "function_call_output", call_id: "d", output: "" },
        ],
      },
      "input[1].call_id",
      /earlier function_call/,
    ],
    ["background", { background: true }, "background", /not built/],
    ["a conversation", { conversation: "c" }, "conversation", /not built/],
    ["max_tokens", { max_tokens: 5 }, "max_tokens", /use max_output_tokens/],
    ["no tokens", { max_output_tokens: 0 }, "max_output_tokens", /at least 1/],
    ["include", { include: ["x"] }, "include[0]", /one of message/],
    ["metadata", { metadata: { a: 1 } }, "metadata.a", /a string/],
    ["truncation", { truncation: "x" }, "truncation", /one of "auto"/],
    [
      "a server tool",
      { tools: [{ type: "web_search" }] },
      "tools[0].type",
      /only function tools are built/,
    ],
    [
      "a tool in the chat route's shape",
      { tools: [{ type: "function", function: { name: "f" } }] },
      "tools[0].name",
      /expected 1 to 128/,
    ],
    [
      "a choice",
      { tools, tool_choice: { type: "function", name: "f" } },
      "tool_choice.name",
      /one of get_weather/,
    ],
    [
      "a format",
      { text: { format: { type: "x" } } },
      "text.format.type",
      /one of text/,
    ],
    [
      "a schema",
      { text: { format: { type: "json_schema", name: "a" } } },
      "text.format.schema",
      /a JSON Schema/,
    ],
    ["verbosity", { text: { verbosity: "low" } }, "text.verbosity", /no such/],
    [
      "a summary",
      { reasoning: { summary: "concise" } },
      "reasoning.summary",
      /in full/,
    ],
    [
      "an unknown response",
      { previous_response_id: "resp_1" },
      "previous_response_id",
      /not found/,
    ],
  ];
  it.each(refused)("400 for %s", async (_, body, param, message) => {
    const { post, engine } = await start(says("x"));
    const response = await post(URL, { ...base, ...body });
    expect(response.statusCode).toBe(400);
    expect(response.json().error).toMatchObject({
      type: "invalid_request_error",
      param,
      message: expect.stringMatching(message),
    });
    expect(engine.requests).toHaveLength(0);
  });
});

describe("responses that are kept", () => {
  it("are the beginning of what follows them", async () => {
    const { create, prompt } = await start(thinks);
    const first = await create({ instructions: "Be brief.", tools });
    const { call_id } = first.output[2];
    const second = await create({
      tools,
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id, output: "21" }],
    });
    expect(second.previous_response_id).toBe(first.id);
    // Instructions are of one response; reasoning goes where the template puts it: here, nowhere.
    expect(prompt(1)).toContain(
      `<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\nLet me see.#258\n${PARIS}\n#259<|im_end|>\n<|im_start|>tool\n21<|im_end|>`,
    );
    expect(prompt(1)).not.toContain("Be brief.");
    await create({ previous_response_id: second.id, input: "So?" });
    expect(prompt(2)).toContain("<|im_start|>tool\n21<|im_end|>");
    expect(prompt(2).match(/Weather\?/g)).toHaveLength(1);
  });

  it("can be got, listed and deleted, but not with store false", async () => {
    const { app, create } = await start(says("Hi."));
    const input = ["a", "b", "c"].map((content) => ({ role: "user", content }));
    const response = await create({ input });
    const url = `${URL}/${response.id}`;
    const get = async (path: string) => (await app.inject(path)).json();
    expect(await get(url)).toEqual(response);
    const texts = (page: Json) =>
      page.data.map((item: Json) => item.content[0].text);
    const all = await get(`${url}/input_items`);
    expect(all).toMatchObject({ object: "list", has_more: false });
    expect(texts(all)).toEqual(["c", "b", "a"]);
    const page = await get(`${url}/input_items?order=asc&limit=2`);
    expect(page.has_more).toBe(true);
    expect(page.last_id).toBe(page.data[1].id);
    const rest = await get(
      `${url}/input_items?order=asc&after=${page.last_id}`,
    );
    expect([...texts(page), ...texts(rest)]).toEqual(["a", "b", "c"]);
    for (const query of ["limit=0", "limit=x", "order=x", "after=x"]) {
      const bad = await app.inject(`${url}/input_items?${query}`);
      expect(bad.statusCode).toBe(400);
      expect(bad.json().error.param).toBe(query.split("=")[0]);
    }
    const deleted = await app.inject({ method: "DELETE", url });
    expect(deleted.json()).toEqual({
      id: response.id,
      object: "response",
      deleted: true,
    });
    expect((await app.inject(url)).statusCode).toBe(404);
    const unkept = await create({ store: false });
    expect((await app.inject(`${URL}/${unkept.id}`)).statusCode).toBe(404);
  });

  it("are found item by item", async () => {
    const { create, prompt } = await start(says("Hi."));
    const first = await create({});
    const reference = { type: "item_reference", id: first.output[0].id };
    await create({ input: [reference, { role: "user", content: "And?" }] });
    expect(prompt(1)).toContain("<|im_start|>assistant\nHi.<|im_end|>");
  });

  it("are seen by the key alone that made them", async () => {
    const { app } = await start(says("Hi."), { apiKeys: ["one", "two"] });
    const as = (key: string) => ({
      headers: { authorization: `Bearer ${key}` },
    });
    const create = (key: string, body: object) =>
      app.inject({ method: "POST", url: URL, payload: body, ...as(key) });
    const { id, output } = (await create("one", base)).json();
    expect((await app.inject({ url: `${URL}/${id}` })).statusCode).toBe(401);
    for (const [key, status] of [
      ["one", 200],
      ["two", 404],
    ] as const) {
      const got = await app.inject({ url: `${URL}/${id}`, ...as(key) });
      expect(got.statusCode).toBe(status);
    }
    const url = `${URL}/${id}`;
    const stranger = { method: "DELETE" as const, url, ...as("two") };
    expect((await app.inject(stranger)).statusCode).toBe(404);
    const theft = { ...base, previous_response_id: id };
    expect((await create("two", theft)).json().error.code).toBe(
      "previous_response_not_found",
    );
    const reference = { type: "item_reference", id: output[0].id };
    expect((await create("two", { input: [reference] })).statusCode).toBe(400);
    expect((await create("one", theft)).statusCode).toBe(200);
  });

  it("can be cancelled while they are under way", async () => {
    const { app, client, engine } = await start(() => bytes("a"), {
      info: { maxModelLen: 10_000_000 },
    });
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const answer = await fetch(url + URL, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...base, stream: true }),
    });
    const reader = answer.body?.getReader();
    let body = Buffer.from((await reader?.read())?.value ?? []).toString();
    const id = /"id":"(resp_\w+)"/.exec(body)?.[1] ?? "";
    const next = { ...base, previous_response_id: id };
    const early = await app.inject({
      method: "POST",
      url: URL,
      payload: next,
    });
    expect(early.json().error.message).toMatch(/still in progress/);
    const cancel = () =>
      app.inject({ method: "POST", url: `${URL}/${id}/cancel` });
    const cancelled = await cancel();
    expect(cancelled.json()).toMatchObject({ id, status: "cancelled" });
    for (;;) {
      const { value, done } = (await reader?.read()) ?? { done: true };
      if (done) break;
      body += Buffer.from(value ?? []).toString();
    }
    const response = checkEvents(eventsOf(body));
    expect(response.status).toBe("cancelled");
    expect(text(response)).toMatch(/^a+$/);
    await expect.poll(() => client.numPending).toBe(0);
    expect(engine.aborts).toEqual([{ choice: -1, reason: "abort" }]);
    const again = await cancel();
    expect(again.statusCode).toBe(400);
    expect(again.json().error.message).toMatch(/has ended \(cancelled\)/);
  });

  it.each([true, false])(
    "are cancelled by a closed connection (stream %s)",
    async (stream) => {
      const { app, client, engine } = await start(() => bytes("a"), {
        info: { maxModelLen: 10_000_000 },
      });
      engine.running = false;
      const url = await app.listen({ port: 0, host: "127.0.0.1" });
      const controller = new AbortController();
      const answer = fetch(url + URL, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...base, stream }),
        signal: controller.signal,
      });
      answer.catch(() => undefined);
      await expect.poll(() => engine.requests.length).toBe(1);
      controller.abort();
      await expect.poll(() => client.numPending).toBe(0);
      expect(engine.aborts).toEqual([{ choice: -1, reason: "abort" }]);
      expect((await app.inject("/load")).json()).toEqual({ server_load: 0 });
    },
  );
});

function unlikeBefore(type: string, i: number, types: string[]): boolean {
  return type !== types[i - 1];
}
