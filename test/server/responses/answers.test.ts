import { describe, expect, it } from "vitest";
import { bytes, END, says, type Json } from "../support.js";
import { checkEvents } from "./check-events.js";
import {
  base,
  eventsOf,
  PARIS,
  start,
  text,
  thinks,
  tools,
  URL,
} from "./support.js";

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
        input_tokens_details: {
          cached_tokens: 0,
          cache_write_tokens: expect.any(Number),
        },
        output_tokens: 4,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: expect.any(Number),
      },
      user: null,
    });
  });

  it("tells the model of no other tools than those that are allowed", async () => {
    const { create, prompt } = await start(says("Hi."));
    const ping = { type: "function", name: "ping", strict: false };
    const tool_choice = {
      type: "allowed_tools",
      mode: "auto",
      tools: [{ type: "function", name: "get_weather" }],
    };
    const response = await create({ tools: [ping, ...tools], tool_choice });
    expect(prompt()).toContain("Weather now");
    expect(prompt()).not.toContain('"ping"');
    expect(response.tool_choice).toEqual(tool_choice);
    expect(response.tools).toHaveLength(2);
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

  it("makes one call of several where they may not be parallel", async () => {
    const call = [258, ...bytes(`\n${PARIS}\n`), 259];
    const { create } = await start(() => [...call, ...call, END]);
    const several = await create({ tools });
    expect(several.output).toHaveLength(2);
    const [a, b] = several.output;
    expect(a.call_id).not.toBe(b.call_id);
    const one = await create({ tools, parallel_tool_calls: false });
    expect(one.output).toMatchObject([{ type: "function_call" }]);
    expect(one.parallel_tool_calls).toBe(false);
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

  it("ends where the other routes would, and says as much", async () => {
    const { create } = await start(says("a STOP b"));
    const stop = "STOP";
    expect(text(await create({ stop }))).toBe("a ");
    const included = { stop, include_stop_str_in_output: true };
    expect(text(await create(included))).toBe("a STOP");
    const { create: endless } = await start(() => [...bytes("a"), 256]);
    const body = { max_output_tokens: 4, skip_special_tokens: false };
    expect(text(await endless(body))).toBe("a<|begin|>a<|begin|>");
  });

  it("bounds its reasoning", async () => {
    const { create, engine, prompt } = await start(says("Hm.</think>Yes."));
    const response = await create({ thinking_token_budget: 7 });
    expect(response.output).toMatchObject([
      { type: "reasoning", content: [{ text: "Hm." }] },
      { type: "message", content: [{ text: "Yes." }] },
    ]);
    expect(prompt()).toMatch(/assistant\n<think>\n$/);
    expect(engine.requests[0]?.constraint?.freeTokens).toBe(7);
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
});

function unlikeBefore(type: string, i: number, types: string[]): boolean {
  return type !== types[i - 1];
}
