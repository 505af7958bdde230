/** The openai package and LangChain against /v1/responses, over a socket. */
import {
  HumanMessage,
  ToolMessage,
  type AIMessageChunk,
} from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import OpenAI from "openai";
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
const ANSWER = "It is 21 degrees in Paris.";
const QUESTION = "How warm is Paris?";
const tools: OpenAI.Responses.FunctionTool[] = [
  {
    type: "function",
    name: "get_weather",
    description: "Temperature of a city",
    strict: false,
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
];

/** Thinks, then calls; answers once a result of 21 is in the prompt. */
const script: Script = ({ promptTokenIds }) => {
  const prompt = Buffer.from(promptTokenIds).toString();
  if (prompt.includes("<|im_start|>tool\n21"))
    return [...bytes(`<think>\nGood.\n</think>\n\n${ANSWER}`), END];
  const call = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
  const calls = [258, ...bytes(`\n${call}\n`), 259];
  return [...bytes("<think>\nHm.\n</think>\n\nI look.\n"), ...calls, END];
};

let client: OpenAI;

beforeEach(async () => {
  const { app } = await serve(new ScriptedEngine(script), {
    template: `${TOOL_TEMPLATE}{# <think></think> #}`,
    info: { maxModelLen: 4096 },
    apiKeys: ["secret"],
  });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  client = new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: "secret",
    maxRetries: 0,
  });
});

function callOf(
  response: OpenAI.Responses.Response,
): OpenAI.Responses.ResponseFunctionToolCall {
  const call = response.output.find((item) => item.type === "function_call");
  if (call === undefined) throw new Error("no call");
  return call;
}

describe("the openai package's responses", () => {
  it("gets a call, sends its result after the id, gets the answer", async () => {
    const body = { model, tools, instructions: "Be brief." };
    const first = await client.responses.create({ ...body, input: QUESTION });
    expect(first.status).toBe("completed");
    expect(first.output_text).toBe("I look.");
    const { call_id, name, arguments: json } = callOf(first);
    expect(name).toBe("get_weather");
    expect(JSON.parse(json)).toEqual({ city: "Paris" });
    const second = await client.responses.create({
      ...body,
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id, output: "21" }],
    });
    expect(second.output_text).toBe(ANSWER);
    const kept = await client.responses.retrieve(second.id);
    expect(kept.output_text).toBe(ANSWER);
    const items = [];
    for await (const item of client.responses.inputItems.list(second.id))
      items.push(item);
    expect(items).toMatchObject([{ type: "function_call_output", call_id }]);
    await client.responses.delete(first.id);
    await expect(client.responses.retrieve(first.id)).rejects.toBeInstanceOf(
      OpenAI.NotFoundError,
    );
  });

  it("sends a whole conversation back, reasoning and all", async () => {
    const input: OpenAI.Responses.ResponseInput = [
      { role: "user", content: QUESTION },
    ];
    const first = await client.responses.create({
      model,
      tools,
      input,
      store: false,
      include: ["reasoning.encrypted_content"],
    });
    input.push(...(first.output as OpenAI.Responses.ResponseInput));
    const { call_id } = callOf(first);
    input.push({ type: "function_call_output", call_id, output: "21" });
    const second = await client.responses.create({
      model,
      tools,
      input,
      store: false,
    });
    expect(second.output_text).toBe(ANSWER);
  });

  it("accumulates a stream", async () => {
    const texts: string[] = [];
    const stream = client.responses
      .stream({ model, tools, input: QUESTION })
      .on("response.output_text.delta", ({ delta, snapshot }) => {
        texts.push(delta);
        expect(snapshot).toBe(texts.join(""));
      });
    const types = new Set<string>();
    for await (const event of stream) types.add(event.type);
    const response = await stream.finalResponse();
    expect(types).toContain("response.reasoning_text.delta");
    expect(types).toContain("response.function_call_arguments.done");
    expect(response.output_text).toBe("I look.");
    expect(callOf(response).arguments).toBe('{"city": "Paris"}');
    expect(response.usage?.output_tokens).toBe(
      script({ promptTokenIds: [] } as never, 0).length,
    );
  });

  it("raises the errors that it knows", async () => {
    const { responses } = client;
    await expect(
      responses.create({ model: "other", input: "a" }),
    ).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(
      responses.create({ model, input: "a", previous_response_id: "resp_1" }),
    ).rejects.toMatchObject({
      status: 400,
      code: "previous_response_not_found",
    });
    await expect(
      responses.create({ model, input: "a", background: true }),
    ).rejects.toMatchObject({ status: 400, param: "background" });
  });
});

describe("@langchain/openai in its Responses mode", () => {
  const bound = (fields: object = {}) =>
    new ChatOpenAI({
      model,
      apiKey: "secret",
      maxRetries: 0,
      configuration: { baseURL: client.baseURL },
      useResponsesApi: true,
      ...fields,
    }).bindTools(
      // In the shape of the chat route: LangChain turns it into the other.
      tools.map(({ type, ...fn }) => ({ type, function: fn })),
    );

  it.each([false, true])(
    "gets a call, sends its result, gets the answer (zdr %s)",
    async (zdrEnabled) => {
      const chat = bound({ zdrEnabled });
      const question = new HumanMessage(QUESTION);
      const message = await chat.invoke([question]);
      expect(message.text).toBe("I look.");
      const [call] = message.tool_calls ?? [];
      expect(call).toMatchObject({ args: { city: "Paris" } });
      const result = new ToolMessage({
        content: "21",
        tool_call_id: call?.id ?? "",
      });
      const answer = await chat.invoke([question, message, result]);
      expect(answer.text).toBe(ANSWER);
      const previous_response_id = String(message.response_metadata["id"]);
      const next = chat.invoke([result], { previous_response_id });
      // Nothing is kept of what asks for that.
      if (zdrEnabled) await expect(next).rejects.toThrow("not found");
      else expect((await next).text).toBe(ANSWER);
    },
  );

  it("adds up a stream", async () => {
    const stream = await bound().stream([new HumanMessage(QUESTION)]);
    let sum: AIMessageChunk | undefined;
    for await (const chunk of stream) sum = sum?.concat(chunk) ?? chunk;
    expect(sum?.text).toBe("I look.");
    expect(sum?.tool_calls).toMatchObject([
      { name: "get_weather", args: { city: "Paris" } },
    ]);
    expect(sum?.usage_metadata?.input_tokens).toBeGreaterThan(0);
  });
});
