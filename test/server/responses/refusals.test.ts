import { describe, expect, it } from "vitest";
import { says } from "../support.js";
import { base, start, tools, URL } from "./support.js";

describe("POST /v1/responses refuses", () => {
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
    [
      "an id beside other fields",
      { input: [{ id: "msg_1", content: "a" }] },
      "input[0].type",
      /a string/,
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
      "an allowed tool that there is not",
      {
        tools,
        tool_choice: {
          type: "allowed_tools",
          mode: "required",
          tools: [{ type: "function", name: "f" }],
        },
      },
      "tool_choice.tools[0].name",
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

  it("what is not built, by name", async () => {
    const { post } = await start(says("x"));
    const compact = await post(`${URL}/compact`, base);
    expect(compact.statusCode).toBe(404);
    expect(compact.json().error.message).toMatch(/not built yet/);
  });
});
