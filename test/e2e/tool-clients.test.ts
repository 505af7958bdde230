/**
 * Clients as their users have them, over a socket, against a server whose model is scripted: it asks for the weather
 * once, and answers when it has it.
 */
import Anthropic from "@anthropic-ai/sdk";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  HumanMessage,
  ToolMessage,
  type AIMessageChunk,
} from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import type { RunnableToolFunctionWithParse } from "openai/lib/RunnableFunction";
import { beforeEach, describe, expect, it } from "vitest";
import {
  bytes,
  END,
  ScriptedEngine,
  serve,
  TOOL_TEMPLATE,
  type Script,
} from "../server/support.js";

const model = "tiny";
const CITY = { city: "Paris" };
const ANSWER = "It is 21 degrees in Paris.";
const QUESTION = "How warm is Paris?";
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
} as const;
const description = "Temperature of a city";

/** Thinks, then calls twice; answers once a result of 21 is in the prompt. */
const script: Script = ({ promptTokenIds }) => {
  const prompt = Buffer.from(promptTokenIds).toString();
  if (prompt.includes("<|im_start|>tool\n21"))
    return [...bytes(`<think>\nGood.\n</think>\n\n${ANSWER}`), END];
  const call = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
  const calls = [258, ...bytes(`\n${call}\n`), 259];
  return [...bytes("<think>\nHm.\n</think>\n\nI look.\n"), ...calls, END];
};

let url: string;

beforeEach(async () => {
  const { app } = await serve(new ScriptedEngine(script), {
    template: `${TOOL_TEMPLATE}{# <think></think> #}`,
    info: { maxModelLen: 4096 },
    apiKeys: ["secret"],
  });
  url = await app.listen({ port: 0, host: "127.0.0.1" });
});

describe("the openai package", () => {
  const tools: OpenAI.ChatCompletionTool[] = [
    {
      type: "function",
      function: { name: "get_weather", description, parameters },
    },
  ];
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    { role: "user", content: QUESTION },
  ];
  const connect = () =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey: "secret", maxRetries: 0 });

  it("gets a call, sends its result, gets the answer", async () => {
    const client = connect();
    const first = await client.chat.completions.create({
      model,
      messages,
      tools,
    });
    const [choice] = first.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    const [call] = choice?.message.tool_calls ?? [];
    if (choice === undefined || call?.type !== "function")
      throw new Error("no call");
    expect(JSON.parse(call.function.arguments)).toEqual(CITY);
    const second = await client.chat.completions.create({
      model,
      tools,
      messages: [
        ...messages,
        choice.message,
        { role: "tool", tool_call_id: call.id, content: "21" },
      ],
    });
    expect(second.choices[0]?.message.content).toBe(ANSWER);
    expect(second.choices[0]?.finish_reason).toBe("stop");
  });

  it("accumulates a stream of calls", async () => {
    const names: string[] = [];
    const stream = connect()
      .chat.completions.stream({ model, messages, tools })
      .on("tool_calls.function.arguments.done", ({ name }) => names.push(name));
    const completion = await stream.finalChatCompletion();
    expect(names).toEqual(["get_weather"]);
    const [choice] = completion.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    expect(choice?.message.content).toBe("I look.");
    expect(choice?.message.tool_calls).toMatchObject([
      {
        function: {
          name: "get_weather",
          arguments: JSON.stringify(CITY).replace(":", ": "),
        },
      },
    ]);
  });

  it.each([false, true])("runs tools by itself (stream %s)", async (stream) => {
    const asked: unknown[] = [];
    const weather: RunnableToolFunctionWithParse<{ city: string }> = {
      type: "function",
      function: {
        name: "get_weather",
        description,
        parameters: { ...parameters, required: ["city"] },
        parse: (text) => JSON.parse(text) as { city: string },
        function: (input) => {
          asked.push(input);
          return "21";
        },
      },
    };
    const options = { model, messages, tools: [weather] };
    const { completions } = connect().chat;
    const runner = stream
      ? completions.runTools({ ...options, stream: true })
      : completions.runTools({ ...options, stream: false });
    expect(await runner.finalContent()).toBe(ANSWER);
    expect(asked).toEqual([CITY]);
  });
});

describe("@anthropic-ai/sdk", () => {
  const tools: Anthropic.Tool[] = [
    {
      name: "get_weather",
      description,
      input_schema: { ...parameters, required: ["city"] },
    },
  ];
  const base = {
    model,
    max_tokens: 500,
    tools,
    thinking: { type: "enabled" as const, budget_tokens: 1024 },
    messages: [{ role: "user" as const, content: QUESTION }],
  };
  const connect = () =>
    new Anthropic({ baseURL: url, apiKey: "secret", maxRetries: 0 });

  it("gets a tool use, sends its result, gets the answer", async () => {
    const client = connect();
    const first = await client.messages.create({
      ...base,
      thinking: { type: "adaptive" },
    });
    expect(first.stop_reason).toBe("tool_use");
    expect(first.content.map(({ type }) => type)).toEqual([
      "thinking",
      "text",
      "tool_use",
    ]);
    const use = first.content.at(-1);
    if (use?.type !== "tool_use") throw new Error("no tool use");
    expect(use.input).toEqual(CITY);
    const second = await client.messages.create({
      ...base,
      thinking: { type: "adaptive" },
      messages: [
        ...base.messages,
        { role: "assistant", content: first.content },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: use.id, content: "21" },
          ],
        },
      ],
    });
    expect(second.stop_reason).toBe("end_turn");
    expect(second.content.at(-1)).toMatchObject({ type: "text", text: ANSWER });
  });

  it("accumulates a stream", async () => {
    const seen: string[] = [];
    const stream = connect()
      .messages.stream({ ...base, thinking: { type: "adaptive" } })
      .on("thinking", (delta) => seen.push(delta))
      .on("text", (delta) => seen.push(delta));
    const message = await stream.finalMessage();
    expect(seen.join("")).toBe("Hm.I look.");
    expect(message.stop_reason).toBe("tool_use");
    expect(message.content.at(-1)).toMatchObject({
      type: "tool_use",
      name: "get_weather",
      input: CITY,
    });
    expect(message.usage.output_tokens).toBe(
      script({ promptTokenIds: [] } as never, 0).length,
    );
  });

  it("counts tokens and raises Anthropic's errors", async () => {
    const client = connect();
    const { max_tokens: _, thinking: __, ...rest } = base;
    const { input_tokens } = await client.messages.countTokens(rest);
    expect(input_tokens).toBeGreaterThan(QUESTION.length);
    await expect(
      client.messages.create({ ...base, model: "other" }),
    ).rejects.toMatchObject({
      constructor: Anthropic.NotFoundError,
      error: { error: { type: "not_found_error" } },
    });
    const stranger = new Anthropic({
      baseURL: url,
      apiKey: "x",
      maxRetries: 0,
    });
    await expect(stranger.messages.create(base)).rejects.toBeInstanceOf(
      Anthropic.AuthenticationError,
    );
  });
});

describe("the ai package", () => {
  const options = () => {
    const provider = createOpenAICompatible({
      name: "octavo",
      baseURL: `${url}/v1`,
      apiKey: "secret",
    });
    return {
      model: provider(model),
      prompt: QUESTION,
      maxRetries: 0,
      stopWhen: stepCountIs(3),
      tools: {
        get_weather: tool({
          description,
          inputSchema: jsonSchema<{ city: string }>({
            ...parameters,
            required: ["city"],
          }),
          execute: async ({ city }) => (city === "Paris" ? 21 : 0),
        }),
      },
    };
  };

  it("generates through the tool", async () => {
    const result = await generateText(options());
    expect(result.text).toBe(ANSWER);
    expect(result.steps).toHaveLength(2);
    expect(result.steps[0]?.toolCalls).toMatchObject([{ input: CITY }]);
    expect(result.steps[0]?.finishReason).toBe("tool-calls");
    expect(result.reasoningText).toBe("Good.");
  });

  it("streams through the tool", async () => {
    const result = streamText(options());
    let text = "";
    for await (const part of result.textStream) text += part;
    expect(text).toBe(`I look.${ANSWER}`);
    expect(await result.reasoningText).toBe("Good.");
    expect((await result.steps)[0]?.toolCalls).toMatchObject([{ input: CITY }]);
  });
});

describe("@langchain/openai", () => {
  const bound = () =>
    new ChatOpenAI({
      model,
      apiKey: "secret",
      maxRetries: 0,
      configuration: { baseURL: `${url}/v1` },
    }).bindTools([
      {
        type: "function",
        function: { name: "get_weather", description, parameters },
      },
    ]);

  it("gets a call, sends its result, gets the answer", async () => {
    const chat = bound();
    const question = new HumanMessage(QUESTION);
    const message = await chat.invoke([question]);
    const [call] = message.tool_calls ?? [];
    expect(call).toMatchObject({ name: "get_weather", args: CITY });
    const result = new ToolMessage({
      content: "21",
      tool_call_id: call?.id ?? "",
    });
    const answer = await chat.invoke([question, message, result]);
    expect(answer.content).toBe(ANSWER);
  });

  it("adds up a stream", async () => {
    const stream = await bound().stream([new HumanMessage(QUESTION)]);
    let sum: AIMessageChunk | undefined;
    for await (const chunk of stream) sum = sum?.concat(chunk) ?? chunk;
    expect(sum?.content).toBe("I look.");
    expect(sum?.tool_calls).toMatchObject([
      { name: "get_weather", args: CITY },
    ]);
  });
});
