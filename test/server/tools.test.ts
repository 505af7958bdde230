import { describe, expect, it } from "vitest";
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
} from "./support.js";

const URL = "/v1/chat/completions";
const messages = [{ role: "user", content: "Weather?" }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Weather now",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
};
const ping = { type: "function", function: { name: "net.ping" } };
const tools = [weather, ping];

/** The markers are special tokens, as in the models that have them. */
const [CALL, CALL_END] = [258, 259];
const callTokens = (json: string): number[] => [
  CALL,
  ...bytes(`\n${json}\n`),
  CALL_END,
];
const PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
const PING = '{"name": "net.ping", "arguments": {}}';
const calls: Script = () => [
  ...bytes("Let me see.\n"),
  ...callTokens(PARIS),
  ...bytes("\n"),
  ...callTokens(PING),
  END,
];

const start = (script: Script, options: Parameters<typeof serve>[1] = {}) =>
  serve(new ScriptedEngine(script), {
    template: TOOL_TEMPLATE,
    info: { maxModelLen: 4096 },
    ...options,
  });

/** Puts a choice's deltas together, checking OpenAI's shape on the way. */
function assemble(events: Json[], index = 0) {
  const calls: { id: string; name: string; arguments: string }[] = [];
  let content = "";
  let finish: string | null = null;
  for (const event of events) {
    const choice = event.choices[0];
    if (choice?.index !== index) continue;
    expect(finish).toBeNull();
    finish = choice.finish_reason;
    content += choice.delta.content ?? "";
    for (const call of choice.delta.tool_calls ?? []) {
      if (call.id === undefined) {
        expect(Object.keys(call).sort()).toEqual(["function", "index"]);
        expect(call.index).toBe(calls.length - 1);
      } else {
        expect(call).toEqual({
          index: calls.length,
          id: expect.stringMatching(/^call_[0-9a-f]{24}$/),
          type: "function",
          function: { name: expect.any(String), arguments: "" },
        });
        calls.push({ id: call.id, name: call.function.name, arguments: "" });
      }
      const current = calls.at(-1);
      if (current) current.arguments += call.function.arguments;
    }
  }
  return { content, calls, finish };
}

describe("tools on /v1/chat/completions", () => {
  it("answers with calls, and with the text before them", async () => {
    const { post } = await start(calls);
    const response = await post(URL, { messages, tools });
    const [choice] = response.json().choices;
    expect(choice.finish_reason).toBe("tool_calls");
    expect(choice.message).toEqual({
      role: "assistant",
      content: "Let me see.",
      refusal: null,
      tool_calls: [
        {
          id: expect.stringMatching(/^call_/),
          type: "function",
          function: { name: "get_weather", arguments: '{"city": "Paris"}' },
        },
        {
          id: expect.stringMatching(/^call_/),
          type: "function",
          function: { name: "net.ping", arguments: "{}" },
        },
      ],
    });
    const [first, second] = choice.message.tool_calls;
    expect(first.id).not.toBe(second.id);
  });

  it("streams name and id first, then the arguments, never a marker", async () => {
    const { post } = await start(calls);
    const response = await post(URL, { messages, tools, n: 2, stream: true });
    expect(response.body).not.toContain("tool_call>");
    const events = sseEvents(response.body);
    for (const index of [0, 1]) {
      const turn = assemble(events, index);
      expect(turn).toMatchObject({
        content: "Let me see.",
        calls: [
          { name: "get_weather", arguments: '{"city": "Paris"}' },
          { name: "net.ping", arguments: "{}" },
        ],
        finish: "tool_calls",
      });
    }
    // The arguments come as they are made, not in one piece.
    const pieces = events.filter(
      (event: Json) =>
        event.choices[0].index === 0 &&
        event.choices[0].delta.tool_calls?.[0].id === undefined &&
        event.choices[0].delta.tool_calls !== undefined,
    );
    expect(pieces.length).toBeGreaterThan(10);
  });

  it("reports log-probabilities and token ids of every token once", async () => {
    const { post } = await start(calls);
    const body = {
      messages,
      tools,
      logprobs: true,
      top_logprobs: 0,
      return_token_ids: true,
    };
    const whole = (await post(URL, body)).json().choices[0];
    const stream = await post(URL, { ...body, stream: true });
    const chunks = sseEvents(stream.body).map((event) => event.choices[0]);
    expect(chunks.flatMap((chunk: Json) => chunk.token_ids ?? [])).toEqual(
      whole.token_ids,
    );
    expect(
      chunks.flatMap((chunk: Json) => chunk.logprobs?.content ?? []),
    ).toEqual(whole.logprobs.content);
  });

  it("leaves finish_reason and content alone without calls", async () => {
    const { post } = await start(says("No need. "));
    const [choice] = (await post(URL, { messages, tools })).json().choices;
    expect(choice.finish_reason).toBe("stop");
    expect(choice.message).toEqual({
      role: "assistant",
      content: "No need. ",
      refusal: null,
    });
  });

  it("says length where a call was cut off", async () => {
    const { post } = await start(calls);
    const body = { messages, tools, max_tokens: 60 };
    const [choice] = (await post(URL, body)).json().choices;
    expect(choice.finish_reason).toBe("length");
    expect(choice.message.tool_calls).toHaveLength(1);
    const name = choice.message.tool_calls[0].function.name;
    expect(name).toBe("get_weather");
  });

  it("makes one call with parallel_tool_calls false", async () => {
    const { post } = await start(calls);
    const body = { messages, tools, parallel_tool_calls: false };
    const [choice] = (await post(URL, body)).json().choices;
    expect(choice.message.tool_calls).toHaveLength(1);
    const stream = await post(URL, { ...body, stream: true });
    expect(assemble(sseEvents(stream.body)).calls).toHaveLength(1);
  });

  it("tells the model of no other tools than those that are allowed", async () => {
    const engine = new ScriptedEngine(calls);
    const { post } = await serve(engine, {
      template: TOOL_TEMPLATE,
      info: { maxModelLen: 4096 },
    });
    const allowed_tools = {
      mode: "auto",
      tools: [{ type: "function", function: { name: "get_weather" } }],
    };
    const tool_choice = { type: "allowed_tools", allowed_tools };
    const response = await post(URL, { messages, tools, tool_choice });
    expect(response.statusCode, response.body).toBe(200);
    const ids = engine.requests[0]?.promptTokenIds ?? [];
    const prompt = Buffer.from(ids).toString();
    expect(prompt).toContain("Weather now");
    expect(prompt).not.toContain("net.ping");
  });

  it("does not look for calls with tool_choice none, but shows the tools", async () => {
    const engine = new ScriptedEngine(says(`<tool_call>\n${PARIS}`));
    const { post } = await serve(engine, {
      template: TOOL_TEMPLATE,
      info: { maxModelLen: 4096 },
    });
    const body = { messages, tools, tool_choice: "none" };
    const [choice] = (await post(URL, body)).json().choices;
    expect(choice.message.tool_calls).toBeUndefined();
    expect(choice.message.content).toBe(`<tool_call>\n${PARIS}`);
    const ids = engine.requests[0]?.promptTokenIds ?? [];
    expect(Buffer.from(ids).toString()).toContain("Weather now");
  });

  it("renders calls and results of the history", async () => {
    const engine = new ScriptedEngine(says("21 degrees."));
    const { post } = await serve(engine, {
      template: TOOL_TEMPLATE,
      info: { maxModelLen: 4096 },
    });
    const tool_calls = [
      {
        id: "call_1",
        type: "function",
        function: { name: "get_weather", arguments: '{"city":"Paris"}' },
      },
    ];
    const response = await post(URL, {
      messages: [
        ...messages,
        { role: "assistant", content: null, tool_calls },
        { role: "tool", tool_call_id: "call_1", content: "21" },
      ],
    });
    expect(response.json().choices[0].message.content).toBe("21 degrees.");
    const ids = [...(engine.requests[0]?.promptTokenIds ?? [])];
    const text = ids
      .map((id) => (id < 256 ? String.fromCharCode(id) : `#${id}`))
      .join("");
    expect(text).toBe(
      `<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n#258\n${PARIS}\n#259<|im_end|>\n` +
        "<|im_start|>tool\n21<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  it("reads another format where the operator names it", async () => {
    const { post } = await start(says("[get_weather(city='Paris')]"), {
      toolCallParser: "pythonic",
    });
    const [choice] = (await post(URL, { messages, tools })).json().choices;
    expect(choice.message.content).toBeNull();
    expect(choice.message.tool_calls[0].function).toEqual({
      name: "get_weather",
      arguments: '{"city": "Paris"}',
    });
  });

  const fn = (fields: object) => [{ type: "function", function: fields }];
  const refused: [string, object, string, RegExp][] = [
    ["a type", { tools: [{}] }, "tools[0].type", /"function"/],
    [
      "a custom tool",
      { tools: [{ type: "custom" }] },
      "tools[0].type",
      /not built/,
    ],
    [
      "no function",
      { tools: [{ type: "function" }] },
      "tools[0].function",
      /an object/,
    ],
    ["no name", { tools: fn({}) }, "tools[0].function.name", /got nothing/],
    [
      "a bad name",
      { tools: fn({ name: "a b" }) },
      "tools[0].function.name",
      /letters/,
    ],
    [
      "a name twice",
      { tools: [ping, ping] },
      "tools[1].function.name",
      /no other/,
    ],
    [
      "parameters that are none",
      { tools: fn({ name: "a", parameters: [] }) },
      "tools[0].function.parameters",
      /JSON Schema/,
    ],
    [
      "parameters of another type",
      { tools: fn({ name: "a", parameters: { type: "string" } }) },
      "tools[0].function.parameters.type",
      /"object"/,
    ],
    [
      "properties that are none",
      { tools: fn({ name: "a", parameters: { properties: { b: 1 } } }) },
      "tools[0].function.parameters.properties.b",
      /a schema/,
    ],
    [
      "strict",
      { tools: fn({ name: "a", strict: 1 }) },
      "tools[0].function.strict",
      /true or false/,
    ],
    [
      "too many",
      {
        tools: Array.from({ length: 129 }, (_, i) => fn({ name: `f${i}` })[0]),
      },
      "tools",
      /at most 128/,
    ],
    ["a choice", { tools, tool_choice: "any" }, "tool_choice", /none, auto/],
    [
      "a choice without tools",
      { tool_choice: "required" },
      "tool_choice",
      /without tools/,
    ],
    [
      "a choice of another tool",
      {
        tools,
        tool_choice: { type: "function", function: { name: "other" } },
      },
      "tool_choice.function.name",
      /get_weather, net\.ping/,
    ],
    [
      "no way to allow tools",
      {
        tools,
        tool_choice: { type: "allowed_tools", allowed_tools: { tools: [] } },
      },
      "tool_choice.allowed_tools.mode",
      /auto or required/,
    ],
    [
      "an allowed tool that there is not",
      {
        tools,
        tool_choice: {
          type: "allowed_tools",
          allowed_tools: {
            mode: "auto",
            tools: [{ type: "function", function: { name: "other" } }],
          },
        },
      },
      "tool_choice.allowed_tools.tools[0].function.name",
      /get_weather, net\.ping/,
    ],
    [
      "calls of the history that are none",
      { messages: [{ role: "assistant", tool_calls: [{ id: "1" }] }] },
      "messages[0].tool_calls[0].function",
      /an object/,
    ],
    [
      "an id of another type",
      { messages: [{ role: "tool", content: "", tool_call_id: 1 }] },
      "messages[0].tool_call_id",
      /a string/,
    ],
  ];
  it.each(refused)("400 for %s", async (_name, body, param, text) => {
    const { post } = await start(says("x"));
    const response = await post(URL, { messages, ...body });
    expect(response.statusCode).toBe(400);
    expect(response.json().error).toMatchObject({
      param,
      message: expect.stringMatching(text),
    });
  });

  it("400 where the model cannot be told of tools, or its calls are not understood", async () => {
    const blind = await start(says("x"), {
      template: "{{ messages[0].content }}",
      toolCallParser: "hermes",
    });
    const first = await blind.post(URL, { messages, tools });
    expect(first.statusCode).toBe(400);
    expect(first.json().error.message).toMatch(/no place for tools/);
    const mute = await start(says("x"), {
      template: "{{ tools }}{{ messages[0].content }}",
    });
    const second = await mute.post(URL, { messages, tools });
    expect(second.json().error.message).toMatch(/--tool-call-parser/);
  });
});

describe("reasoning on /v1/chat/completions", () => {
  const template = `${TOOL_TEMPLATE}{# <think></think> #}`;

  it("comes beside the content, by both names", async () => {
    const { post } = await start(says("<think>\nHm.\n</think>\n\nYes."), {
      template,
    });
    const whole = (await post(URL, { messages })).json().choices[0].message;
    expect(whole).toEqual({
      role: "assistant",
      content: "Yes.",
      refusal: null,
      reasoning: "Hm.",
      reasoning_content: "Hm.",
    });
    const stream = await post(URL, { messages, stream: true });
    const deltas = sseEvents(stream.body).map((e) => e.choices[0].delta);
    const join = (key: string) =>
      deltas.map((delta: Json) => delta[key] ?? "").join("");
    expect(join("content")).toBe("Yes.");
    expect(join("reasoning")).toBe("Hm.");
    expect(join("reasoning_content")).toBe("Hm.");
  });

  it("goes on where the prompt began it, and is left out on demand", async () => {
    const { post } = await start(says("Hm.</think>Yes."), {
      template: `${TOOL_TEMPLATE}{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}`,
    });
    const body = { messages, include_reasoning: false };
    const hidden = (await post(URL, body)).json().choices[0].message;
    expect(hidden).toEqual({
      role: "assistant",
      content: "Yes.",
      refusal: null,
    });
    const shown = (await post(URL, { messages })).json().choices[0].message;
    expect(shown.reasoning).toBe("Hm.");
    const stream = await post(URL, { ...body, stream: true });
    expect(stream.body).not.toContain("Hm");
  });

  it("comes before calls", async () => {
    const script: Script = () => [
      ...bytes("<think>Hm</think>"),
      ...callTokens(PING),
      END,
    ];
    const { post } = await start(script, { template });
    const { message, finish_reason } = (await post(URL, { messages, tools }))
      .json()
      .choices.at(0);
    expect(finish_reason).toBe("tool_calls");
    expect(message).toMatchObject({ content: null, reasoning: "Hm" });
    expect(message.tool_calls).toHaveLength(1);
  });

  it("is bounded by thinking_token_budget, and begun where the prompt leaves it open", async () => {
    const engine = new ScriptedEngine(says("Hm.</think>Yes."));
    const { post } = await serve(engine, {
      template,
      info: { maxModelLen: 4096 },
    });
    const response = await post(URL, { messages, thinking_token_budget: 7 });
    expect(response.json().choices[0].message).toMatchObject({
      content: "Yes.",
      reasoning: "Hm.",
    });
    const [request] = engine.requests;
    const prompt = Buffer.from(request?.promptTokenIds ?? []).toString();
    expect(prompt.endsWith("assistant\n<think>\n")).toBe(true);
    expect(request?.constraint).toEqual({
      grammar: null,
      startAfter: bytes("</think>"),
      freeTokens: 7,
    });
  });

  it("cannot be bounded where it is not understood", async () => {
    const { post } = await start(says("x"));
    const response = await post(URL, { messages, thinking_token_budget: 7 });
    expect(response.statusCode).toBe(400);
    expect(response.json().error).toMatchObject({
      param: "thinking_token_budget",
      message: expect.stringMatching(/--reasoning-parser/),
    });
  });

  it("is not looked for with --reasoning-parser none", async () => {
    const { post } = await start(says("<think>Hm</think>Yes."), {
      template,
      reasoningParser: "none",
    });
    const { message } = (await post(URL, { messages })).json().choices[0];
    expect(message.content).toBe("<think>Hm</think>Yes.");
  });
});
