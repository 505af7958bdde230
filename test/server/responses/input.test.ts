import { describe, expect, it } from "vitest";
import { pagedEngine } from "../known-engine.js";
import { says, serve } from "../support.js";
import { base, PARIS, start, tools, URL } from "./support.js";

describe("the input of POST /v1/responses", () => {
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
});
