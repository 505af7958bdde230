import { describe, expect, it } from "vitest";
import { pagedEngine } from "../known-engine.js";
import { says, serve, type Json } from "../support.js";
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
    const { input_tokens, input_tokens_details } = first.usage;
    expect(input_tokens_details).toEqual({
      cached_tokens: 0,
      cache_write_tokens: input_tokens - (input_tokens % 16),
    });
    const later = second.usage.input_tokens_details;
    expect(later.cached_tokens).toBeGreaterThanOrEqual(16);
    expect(later.cached_tokens + later.cache_write_tokens).toBe(
      second.usage.input_tokens - (second.usage.input_tokens % 16),
    );
    const { post: uncached } = await serve(pagedEngine(), {
      cacheConfig: { enablePrefixCaching: false, gpuMemoryUtilization: 0.9 },
    });
    const { usage } = (await uncached(URL, body)).json();
    expect(usage.input_tokens_details.cache_write_tokens).toBe(0);
  });

  it("is counted without an answer", async () => {
    const { post, create, engine } = await start(says("Hi."));
    const body = { instructions: "Be brief.", tools };
    const count = async (fields: object): Promise<number> => {
      const answer = await post(`${URL}/input_tokens`, { ...base, ...fields });
      expect(answer.json()).toEqual({
        object: "response.input_tokens",
        input_tokens: expect.any(Number),
      });
      return answer.json().input_tokens;
    };
    const counted = await count(body);
    expect(engine.requests).toHaveLength(0);
    const { id, usage } = await create(body);
    expect(counted).toBe(usage.input_tokens);
    expect(await count({ previous_response_id: id })).toBeGreaterThan(
      await count({}),
    );
    const refused = await post(`${URL}/input_tokens`, { input: [] });
    expect(refused.json().error.param).toBe("input");
  });

  it("takes a reference without a type, and an item twice", async () => {
    const { app, create, prompt } = await start(says("Hi."));
    const [{ id }] = (await create({})).output;
    const twice = { role: "user", type: "message", id: "mine", content: "Eh?" };
    const last = await create({ input: [{ id }, twice, { id }, twice] });
    const hi = "<|im_start|>assistant\nHi.<|im_end|>\n";
    const eh = "<|im_start|>user\nEh?<|im_end|>\n";
    expect(prompt(1)).toContain(hi + eh + hi + eh);
    const path = `${URL}/${last.id}/input_items?order=asc`;
    const { data } = (await app.inject(path)).json();
    const ids = data.map((item: Json) => item.id);
    expect(ids.slice(0, 2)).toEqual([id, "mine"]);
    expect(new Set(ids).size).toBe(4);
  });
});
