/** Bodies with tools and blocks, damaged in random places: answers and refusals, never a failure. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { expect, it } from "vitest";
import { says, ScriptedEngine, serve, TOOL_TEMPLATE } from "./support.js";

const parameters = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city"],
};
const chat = {
  max_tokens: 4,
  messages: [
    { role: "system", content: "Be brief." },
    { role: "user", content: [{ type: "text", text: "Weather?" }] },
    {
      role: "assistant",
      content: null,
      reasoning: "Hm.",
      tool_calls: [
        {
          id: "call_1",
          type: "function",
          function: { name: "get_weather", arguments: '{"city":"Paris"}' },
        },
      ],
    },
    { role: "tool", tool_call_id: "call_1", content: "21" },
  ],
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "",
        parameters,
        strict: true,
      },
    },
  ],
  tool_choice: "auto",
  parallel_tool_calls: false,
  include_reasoning: true,
  thinking_token_budget: 3,
};
const message = {
  model: "tiny",
  max_tokens: 4,
  system: [{ type: "text", text: "Be brief." }],
  thinking: { type: "enabled", budget_tokens: 3 },
  messages: [
    { role: "user", content: "Weather?" },
    {
      role: "assistant",
      content: [
        { type: "thinking", thinking: "Hm.", signature: "" },
        { type: "text", text: "I look." },
        { type: "tool_use", id: "1", name: "get_weather", input: { city: "" } },
      ],
    },
    {
      role: "user",
      content: [
        { type: "tool_result", tool_use_id: "1", content: "21" },
        { type: "text", text: "So?" },
      ],
    },
  ],
  tools: [{ name: "get_weather", description: "", input_schema: parameters }],
  tool_choice: { type: "auto", disable_parallel_tool_use: true },
};

/** Every place of a JSON value. */
function places(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== "object" || value === null) return [path];
  return [
    path,
    ...Object.entries(value).flatMap(([key, child]) =>
      places(child, [...path, key]),
    ),
  ];
}

function replaced(
  value: unknown,
  path: readonly string[],
  by: unknown,
): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return by;
  const copy: Record<string, unknown> = Array.isArray(value)
    ? ([...(value as unknown[])] as never)
    : { ...(value as object) };
  if (rest.length === 0 && by === undefined) delete copy[key];
  else copy[key] = replaced(copy[key], rest, by);
  return copy;
}

const junk = fc.oneof(
  fc.constantFrom(undefined, null, true, "", "x", -1, 1e300, [], {}),
  fc.jsonValue({ maxDepth: 2 }),
);

it.each([
  ["/v1/chat/completions", chat],
  ["/v1/messages", message],
  ["/v1/messages/count_tokens", message],
])("%s", async (url, body) => {
  const engine = new ScriptedEngine(says("<think>x</think>y"));
  const { client, post } = await serve(engine, {
    template: `${TOOL_TEMPLATE}{# </think> #}`,
    info: { maxModelLen: 4096 },
  });
  expect((await post(url, body)).statusCode).toBe(200);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom(...places(body).slice(1)), junk), {
        minLength: 1,
        maxLength: 3,
      }),
      async (changes) => {
        let damaged: unknown = body;
        for (const [path, value] of changes)
          if (places(damaged).some((place) => isDeepStrictEqual(place, path)))
            damaged = replaced(damaged, path, value);
        const { statusCode } = await post(url, damaged);
        expect([200, 400, 404]).toContain(statusCode);
      },
    ),
    { numRuns: process.env.OCTAVO_LONG ? 5_000 : 150 },
  );
  expect(client.numPending).toBe(0);
});
