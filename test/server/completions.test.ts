import { describe, expect, it } from "vitest";
import {
  bytes,
  END,
  says,
  ScriptedEngine,
  serve,
  sseEvents,
  type Json,
} from "./support.js";

const URL = "/v1/completions";

describe("POST /v1/completions", () => {
  it("answers in OpenAI's shape, counts tokens, and hides the end token", async () => {
    const { post } = await serve(new ScriptedEngine(says(" héllo")));
    const response = await post(URL, { model: "tiny", prompt: "ab" });
    expect(response.statusCode).toBe(200);
    expect(response.json()).toEqual({
      id: expect.stringMatching(/^cmpl-/),
      object: "text_completion",
      created: expect.any(Number),
      model: "tiny",
      choices: [
        {
          index: 0,
          text: " héllo",
          logprobs: null,
          finish_reason: "stop",
          stop_reason: null,
        },
      ],
      usage: {
        prompt_tokens: 2,
        completion_tokens: 8,
        total_tokens: 10,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
  });

  it("streams the same text, never part of a code point, then usage and [DONE]", async () => {
    const { post } = await serve(new ScriptedEngine(says("h€llo 🎈!")));
    const response = await post(URL, {
      prompt: "a",
      stream: true,
      stream_options: { include_usage: true },
    });
    expect(response.headers["content-type"]).toContain("text/event-stream");
    const events = sseEvents(response.body);
    const usage = events.pop();
    expect(usage).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 1, completion_tokens: 14, total_tokens: 15 },
    });
    expect(events.every((event) => event.usage === null)).toBe(true);
    const texts: string[] = events.map((event) => event.choices[0].text);
    expect(texts.join("")).toBe("h€llo 🎈!");
    expect(texts.join("|")).not.toContain("\uFFFD");
    expect(events.at(-1).choices[0].finish_reason).toBe("stop");
  });

  it.each([false, true])(
    "ends at a stop string that tokens split, without leaking it (stream %s)",
    async (stream) => {
      const engine = new ScriptedEngine(says("one STOP two STOP"));
      const { post } = await serve(engine);
      const response = await post(URL, {
        prompt: "a",
        stop: ["XX", "STOP"],
        max_tokens: 50,
        stream,
        ...(stream && { stream_options: { include_usage: true } }),
      });
      const events = stream ? sseEvents(response.body) : [response.json()];
      const choices = events.flatMap((event) => event.choices);
      expect(choices.map((choice) => choice.text).join("")).toBe("one ");
      expect(choices.at(-1)).toMatchObject({
        finish_reason: "stop",
        stop_reason: "STOP",
      });
      expect(events.at(-1).usage.completion_tokens).toBe("one STOP".length);
      expect(engine.aborts).toEqual([{ choice: 0, reason: "stop" }]);
    },
  );

  it("lets held text out at the end, and includes stop strings on request", async () => {
    const { post } = await serve(new ScriptedEngine(says("one STO")));
    const held = await post(URL, { prompt: "a", stop: "STOP" });
    expect(held.json().choices[0].text).toBe("one STO");
    const { post: again } = await serve(new ScriptedEngine(says("a STOP b")));
    const included = await again(URL, {
      prompt: "a",
      stop: "STOP",
      include_stop_str_in_output: true,
    });
    expect(included.json().choices[0].text).toBe("a STOP");
  });

  it("ignores stop strings before min_tokens", async () => {
    const { post } = await serve(new ScriptedEngine(says("a.b.c")));
    const response = await post(URL, { prompt: "a", stop: ".", min_tokens: 3 });
    expect(response.json().choices[0].text).toBe("a.b");
  });

  it("reports stop_token_ids and hides their text", async () => {
    const { post } = await serve(new ScriptedEngine(says("ab!cd")));
    const response = await post(URL, {
      prompt: "a",
      stop_token_ids: bytes("!"),
    });
    expect(response.json().choices[0]).toMatchObject({
      text: "ab",
      finish_reason: "stop",
      stop_reason: 33,
    });
  });

  it("numbers choices prompt by prompt and sums usage", async () => {
    const engine = new ScriptedEngine((request, choice) => [
      ...bytes(`${request.promptTokenIds.length}${"xyz"[choice]}`),
      END,
    ]);
    const { post } = await serve(engine);
    const response = await post(URL, { prompt: [[1], [1, 2]], n: 2 });
    const { choices, usage } = response.json();
    expect(choices.map((c: Json) => [c.index, c.text])).toEqual([
      [0, "1x"],
      [1, "1y"],
      [2, "2x"],
      [3, "2y"],
    ]);
    expect(usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 12 });
    const streamed = await post(URL, {
      prompt: ["a", "bc"],
      n: 2,
      stream: true,
    });
    const texts = ["", "", "", ""];
    for (const { choices } of sseEvents(streamed.body))
      texts[choices[0].index] += choices[0].text;
    expect(texts).toEqual(["1x", "1y", "2x", "2y"]);
  });

  it("reports log-probabilities with alternatives and offsets", async () => {
    const { post } = await serve(new ScriptedEngine(() => bytes("abc")));
    const response = await post(URL, {
      prompt: "x",
      max_tokens: 2,
      logprobs: 2,
    });
    const { logprobs } = response.json().choices[0];
    expect(logprobs.tokens).toEqual(["a", "b"]);
    expect(logprobs.text_offset).toEqual([0, 1]);
    expect(logprobs.token_logprobs[1]).toBeCloseTo(-0.98, 5);
    expect(Object.keys(logprobs.top_logprobs[0])).toEqual(["a", "b"]);
    const chosen = await post(URL, { prompt: "x", max_tokens: 1, logprobs: 0 });
    expect(
      Object.keys(chosen.json().choices[0].logprobs.top_logprobs[0]),
    ).toEqual(["a"]);
  });

  it.each([false, true])(
    "echoes the prompt with its log-probabilities, the first one null (stream %s)",
    async (stream) => {
      const engine = new ScriptedEngine(() => bytes("cd"));
      const { post } = await serve(engine);
      const body = {
        prompt: "ab",
        echo: true,
        logprobs: 1,
        max_tokens: 2,
        stream,
      };
      const response = await post(URL, body);
      const events = stream ? sseEvents(response.body) : [response.json()];
      const choices = events.flatMap((event) => event.choices);
      const all = (field: string): unknown[] =>
        choices.flatMap((choice) => choice.logprobs[field]);
      expect(choices.map((choice) => choice.text).join("")).toBe("abcd");
      expect(all("tokens")).toEqual(["a", "b", "c", "d"]);
      expect(all("text_offset")).toEqual([0, 1, 2, 3]);
      expect(all("token_logprobs")[0]).toBeNull();
      expect(all("token_logprobs")[1]).toBeCloseTo(-0.98, 5);
      expect(engine.requests[0]?.bypassPrefixCache).toBe(true);
    },
  );

  it("counts offsets in code points, those of split ones where they end", async () => {
    const { post } = await serve(new ScriptedEngine(() => bytes("🎈b")));
    const body = { prompt: "🎈", echo: true, logprobs: 0, max_tokens: 5 };
    const { text, logprobs } = (await post(URL, body)).json().choices[0];
    expect(text).toBe("🎈🎈b");
    expect(logprobs.text_offset).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 2]);
  });

  it("scores a prompt alone: echo with max_tokens 0", async () => {
    const { post } = await serve(new ScriptedEngine(() => bytes("zz")));
    const body = { prompt: "ab", echo: true, logprobs: 0, max_tokens: 0 };
    const answer = (await post(URL, body)).json();
    expect(answer.choices[0]).toMatchObject({
      text: "ab",
      finish_reason: "length",
    });
    expect(answer.choices[0].logprobs.tokens).toEqual(["a", "b"]);
    expect(answer.usage.completion_tokens).toBe(0);
  });

  it("reports prompt_logprobs and token ids in vLLM's shape", async () => {
    const { post } = await serve(new ScriptedEngine(says("z")));
    const response = await post(URL, {
      prompt: "ab",
      prompt_logprobs: 2,
      return_token_ids: true,
    });
    const choice = response.json().choices[0];
    expect(choice.prompt_logprobs[0]).toBeNull();
    expect(choice.prompt_logprobs[1]["98"]).toMatchObject({
      rank: 1,
      decoded_token: "b",
    });
    expect(Object.keys(choice.prompt_logprobs[1])).toEqual(["98", "99"]);
    expect(choice.prompt_token_ids).toEqual([97, 98]);
    expect(choice.token_ids).toEqual([122, END]);
  });

  it("hands every sampling parameter to the engine", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { post } = await serve(engine, {
      info: { generationDefaults: { temperature: 0.5, topK: 7 } },
    });
    await post(URL, {
      prompt: "abcdef",
      truncate_prompt_tokens: 2,
      top_p: 0.5,
      min_p: 0.1,
      repetition_penalty: 1.5,
      presence_penalty: -1,
      frequency_penalty: 2,
      seed: -2,
      logit_bias: { "5": -100 },
      allowed_token_ids: [5, 6],
      bad_words: ["no"],
      min_tokens: 1,
      max_tokens: 3,
      ignore_eos: true,
      stop_token_ids: [9],
      priority: -1,
      cache_salt: "me",
      request_id: "mine",
      user: "u",
    });
    const request = engine.requests[0];
    expect(request).toMatchObject({
      id: "mine",
      priority: -1,
      cacheSalt: "me",
      params: {
        temperature: 0.5,
        topK: 7,
        topP: 0.5,
        minP: 0.1,
        repetitionPenalty: 1.5,
        presencePenalty: -1,
        frequencyPenalty: 2,
        seedLo: 0xfffffffe,
        seedHi: 0xffffffff,
        logitBias: [[5, -100]],
        allowedTokenIds: [5, 6],
        badWordsTokenIds: [bytes("no")],
        minTokens: 1,
        maxTokens: 3,
        stopTokenIds: [9],
        ignoreEos: true,
      },
    });
    expect([...(request?.promptTokenIds ?? [])]).toEqual(bytes("ef"));
  });
});
