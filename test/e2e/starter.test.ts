import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer, type ServerProcess } from "./server-process.js";

/** `npm start` as a newcomer types it: no model, no network. */
describe("the built-in model", () => {
  let server: ServerProcess;
  let client: OpenAI;

  beforeAll(async () => {
    server = await startServer(["--device", "cpu"]);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none" });
  });

  afterAll(async () => {
    await server.stop();
  });

  async function ask(content: string): Promise<string> {
    const completion = await client.chat.completions.create({
      model: "octavo-starter",
      messages: [{ role: "user", content }],
      temperature: 0,
      max_tokens: 300,
    });
    expect(completion.choices[0]?.finish_reason).toBe("stop");
    return completion.choices[0]?.message.content ?? "";
  }

  test("greets", async () => {
    expect(await ask("Hello!")).toMatch(/^(Hello|Hi)!/);
  });

  test("says what Octavo is", async () => {
    expect(await ask("What is Octavo?")).toContain("inference server");
  });

  test("adds", async () => {
    expect(await ask("What is 17 + 25?")).toContain("42");
  });

  test("tells a story that ends", async () => {
    const story = await ask("Tell me a story about a fox.");
    expect(story).toMatch(/The end\.$/);
    expect(story.length).toBeGreaterThan(200);
  });

  test("writes JSON", async () => {
    const said = await ask(
      "Extract name, age and city as JSON: Anna is 34 years old and lives in Paris.",
    );
    expect(JSON.parse(said)).toEqual({ name: "Anna", age: 34, city: "Paris" });
  });

  test("calls a tool and answers with its result", async () => {
    const tools = [
      {
        type: "function" as const,
        function: {
          name: "get_weather",
          description: "Get the weather in a city",
          parameters: {
            type: "object",
            properties: { city: { type: "string" } },
            required: ["city"],
          },
        },
      },
    ];
    const messages: OpenAI.ChatCompletionMessageParam[] = [
      { role: "user", content: "What is the weather in Rome?" },
    ];
    const request = { model: "octavo-starter", temperature: 0, tools };
    const first = await client.chat.completions.create({
      ...request,
      messages,
    });
    const message = first.choices[0]?.message;
    const call = message?.tool_calls?.[0];
    expect(first.choices[0]?.finish_reason).toBe("tool_calls");
    if (!message || call?.type !== "function") throw new Error("no call");
    expect(call.function.name).toBe("get_weather");
    expect(JSON.parse(call.function.arguments)).toEqual({ city: "Rome" });
    messages.push(message, {
      role: "tool",
      tool_call_id: call.id,
      content: '{"temperature": 21, "condition": "sunny"}',
    });
    const second = await client.chat.completions.create({
      ...request,
      messages,
    });
    expect(second.choices[0]?.message.content).toBe(
      "It is 21 degrees and sunny in Rome.",
    );
  });
});
