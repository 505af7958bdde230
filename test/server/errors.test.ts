import { describe, expect, it } from "vitest";
import { ADMIN_PATHS } from "../../src/server/auth.js";
import { says, ScriptedEngine, serve, sseEvents } from "./support.js";

const URL = "/v1/completions";

describe("bad requests", () => {
  const cases: [body: object, param: string, text: string][] = [
    [{}, "prompt", "expected a string"],
    [{ prompt: 5 }, "prompt", "got 5"],
    [{ prompt: [] }, "prompt", "empty list"],
    [{ prompt: "" }, "prompt", "empty prompt"],
    [{ prompt: ["a", 5] }, "prompt[1]", "got 5"],
    [{ prompt: [1, "a"] }, "prompt[1]", 'got "a"'],
    [{ prompt: [1, 260] }, "prompt[1]", "from 0 to 259"],
    [{ prompt: [-1] }, "prompt[0]", "got -1"],
    [{ prompt: [1.5] }, "prompt[0]", "got 1.5"],
    [
      { prompt: "a", max_tokens: "5" },
      "max_tokens",
      'expected integer, got "5"',
    ],
    [{ prompt: "a", max_tokens: 0 }, "max_tokens", "at least 1"],
    [{ prompt: "a", max_tokens: -1 }, "max_tokens", "at least 0, got -1"],
    [{ prompt: "a", max_tokens: 1.5 }, "max_tokens", "got 1.5"],
    [{ prompt: "a", temperature: -0.1 }, "temperature", "at least 0, got -0.1"],
    [{ prompt: "a", temperature: true }, "temperature", "expected number"],
    [{ prompt: "a", top_p: 0 }, "top_p", "above 0"],
    [{ prompt: "a", top_p: 1.1 }, "top_p", "at most 1"],
    [{ prompt: "a", top_k: -2 }, "top_k", "got -2"],
    [{ prompt: "a", min_p: 2 }, "min_p", "at most 1"],
    [{ prompt: "a", repetition_penalty: 0 }, "repetition_penalty", "above 0"],
    [{ prompt: "a", presence_penalty: 3 }, "presence_penalty", "at most 2"],
    [
      { prompt: "a", frequency_penalty: -3 },
      "frequency_penalty",
      "at least -2",
    ],
    [{ prompt: "a", n: 0 }, "n", "at least 1"],
    [{ prompt: "a", n: 1000 }, "n", "at most 128"],
    [{ prompt: "a", best_of: 2 }, "best_of", "equal to n"],
    [{ prompt: "a", suffix: "b" }, "suffix", "not built"],
    [{ prompt: "a", logprobs: 21 }, "logprobs", "at most 20"],
    [
      { prompt: "a", prompt_logprobs: 1, stream: true },
      "prompt_logprobs",
      "stream",
    ],
    [{ prompt: "a", stop: 5 }, "stop", "got 5"],
    [{ prompt: "a", stop: [""] }, "stop[0]", "1 to"],
    [{ prompt: "a", stop: Array(65).fill("x") }, "stop", "at most 64"],
    [{ prompt: "a", stop_token_ids: [300] }, "stop_token_ids[0]", "below 260"],
    [{ prompt: "a", allowed_token_ids: [] }, "allowed_token_ids", "at least 1"],
    [
      { prompt: "a", allowed_token_ids: [400] },
      "allowed_token_ids[0]",
      "below 260",
    ],
    [{ prompt: "a", logit_bias: { x: 1 } }, "logit_bias", 'got "x"'],
    [{ prompt: "a", logit_bias: { "05": 1 } }, "logit_bias", 'got "05"'],
    [{ prompt: "a", logit_bias: { "5": 101 } }, "logit_bias.5", "-100 to 100"],
    [{ prompt: "a", bad_words: [""] }, "bad_words[0]", "at least 1"],
    [
      { prompt: "a", min_tokens: 5, max_tokens: 4 },
      "min_tokens",
      "at most max_tokens (4)",
    ],
    [
      { prompt: "a", truncate_prompt_tokens: 0 },
      "truncate_prompt_tokens",
      "got 0",
    ],
    [{ prompt: "a", stream_options: {} }, "stream_options", "unless stream"],
    [{ prompt: "a", stream: "yes" }, "stream", "expected boolean"],
    [{ prompt: "a", guided_regex: 5 }, "guided_regex", "a string"],
    [
      { prompt: "a", structured_outputs: { regex: "a", json: {} } },
      "structured_outputs",
      "exactly one",
    ],
    [
      { prompt: "a", guided_choice: ["a"], guided_regex: "a" },
      "guided_choice",
      "one constraint",
    ],
    [
      { prompt: "a", response_format: { type: "json_schema" } },
      "response_format.json_schema",
      "an object",
    ],
    [{ prompt: "a", use_beam_search: true }, "use_beam_search", "not built"],
  ];
  it("name the field, what was expected and what came; none reaches the engine", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { post } = await serve(engine);
    for (const [body, param, text] of cases) {
      const response = await post(URL, body);
      const { error } = response.json();
      expect([response.statusCode, error.param], JSON.stringify(body)).toEqual([
        400,
        param,
      ]);
      expect(error.message).toContain(text);
      expect(error.type).toBe("invalid_request_error");
    }
    expect(engine.requests).toEqual([]);
  });

  it("takes null for every optional field, and fields it does not know", async () => {
    const { post } = await serve(new ScriptedEngine(says("x")));
    const names =
      "n temperature top_p stop max_tokens logit_bias seed logprobs stream stream_options user";
    const nulls = Object.fromEntries(
      names.split(" ").map((name) => [name, null]),
    );
    const response = await post(URL, {
      prompt: "a",
      ...nulls,
      store: true,
      new_field: 1,
    });
    expect(response.statusCode).toBe(200);
  });

  it("context_length_exceeded in OpenAI's words; a default max_tokens is cut instead", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { post } = await serve(engine);
    const long = await post(URL, { prompt: "a".repeat(128) });
    expect(long.json().error).toMatchObject({
      code: "context_length_exceeded",
      param: "prompt",
    });
    const sum = await post(URL, { prompt: "a".repeat(100), max_tokens: 29 });
    expect(sum.statusCode).toBe(400);
    expect(sum.json().error).toMatchObject({
      code: "context_length_exceeded",
      param: "max_tokens",
      message: expect.stringContaining(
        "maximum context length is 128 tokens. However, you requested 129 tokens (100 in the prompt, 29 in the completion)",
      ),
    });
    const fits = await post(URL, { prompt: "a".repeat(120) });
    expect(fits.statusCode).toBe(200);
    expect(engine.requests[0]?.params.maxTokens).toBe(8);
  });

  it("404 for other models, routes and what is not built; 405 for methods", async () => {
    const { app, post } = await serve(new ScriptedEngine(says("x")));
    const model = await post(URL, { model: "gpt-4", prompt: "a" });
    expect(model.statusCode).toBe(404);
    expect(model.json().error).toMatchObject({
      code: "model_not_found",
      param: "model",
    });
    const route = await app.inject("/v2/nothing");
    expect(route.statusCode).toBe(404);
    expect(route.json().error.message).toContain("no route GET /v2/nothing");
    const unbuilt = await post("/v1/load_lora_adapter", {});
    expect(unbuilt.statusCode).toBe(404);
    expect(unbuilt.json().error.message).toContain("not built yet");
    const method = await app.inject(URL);
    expect(method.statusCode).toBe(405);
    expect(method.headers.allow).toBe("POST");
    expect((await app.inject("/%zz")).statusCode).toBe(400);
  });

  it("400 for malformed JSON, 415 for another type, 413 for too much", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")), {
      bodyLimitBytes: 100,
    });
    const send = (payload: string, type = "application/json") =>
      app.inject({
        method: "POST",
        url: URL,
        payload,
        headers: { "content-type": type },
      });
    for (const payload of ["{", "", "[]", '"x"', "null"]) {
      const response = await send(payload);
      expect([payload, response.statusCode]).toEqual([payload, 400]);
      expect(response.json().error.type).toBe("invalid_request_error");
    }
    expect((await send("<a/>", "text/xml")).statusCode).toBe(415);
    const large = await send(JSON.stringify({ prompt: "a".repeat(200) }));
    expect(large.statusCode).toBe(413);
    expect(large.json().error.code).toBe("payload_too_large");
  });
});

describe("refusals and failures of the engine", () => {
  it("503 with Retry-After when the queue is full, counted, and nothing is left running", async () => {
    const engine = new ScriptedEngine(says("x"));
    engine.running = false;
    const bounds = { maxNumQueuedReqs: 2, maxNumQueuedTokens: 0 };
    const { app, client, post } = await serve(engine, { bounds });
    const response = await post(URL, { prompt: ["a", "b", "c"] });
    expect(response.statusCode).toBe(503);
    expect(response.headers["retry-after"]).toBe("1");
    expect(response.json().error.code).toBe("queue_full");
    await expect.poll(() => client.numPending).toBe(0);
    const metrics = (await app.inject("/metrics")).body;
    expect(metrics).toMatch(
      /admission_rejections_total\{[^}]*reason="max_num_queued_reqs"\} 1\n/,
    );
  });

  it("an error event ends a stream that fails, a 500 a whole answer", async () => {
    for (const stream of [true, false]) {
      const engine = new ScriptedEngine(() => [97]);
      engine.running = false;
      const { client, post } = await serve(engine);
      const answer = post(URL, { prompt: "a", max_tokens: 100, stream });
      await expect.poll(() => engine.requests.length).toBe(1);
      engine.failNext = true;
      engine.running = true;
      void client.call("checkIntegrity").catch(() => undefined);
      const response = await answer;
      expect(response.statusCode).toBe(stream ? 200 : 500);
      const last = stream ? sseEvents(response.body).at(-1) : response.json();
      expect(last.error.type).toBe("server_error");
    }
  });

  it("drains: streams finish, /ready and new requests are 503", async () => {
    const engine = new ScriptedEngine(says("done"));
    const { app, client, post } = await serve(engine);
    expect((await app.inject("/ready")).statusCode).toBe(200);
    engine.running = false;
    const running = post(URL, { prompt: "a", stream: true });
    await expect.poll(() => engine.requests.length).toBe(1);
    app.beginDrain();
    engine.running = true;
    void client.call("checkIntegrity");
    expect((await app.inject("/ready")).statusCode).toBe(503);
    expect((await app.inject("/health")).statusCode).toBe(200);
    const refused = await post(URL, { prompt: "a" });
    expect(refused.statusCode).toBe(503);
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    const text = sseEvents((await running).body).map((e) => e.choices[0].text);
    expect(text.join("")).toBe("done");
  });
});

describe("keys and origins", () => {
  it("guards /v1 and /tokenize, leaves health and metrics open", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")), {
      apiKeys: ["one", "two"],
    });
    const get = (url: string, key?: string) =>
      app.inject({
        url,
        headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      });
    for (const url of [
      "/v1/models",
      "/v1/unknown",
      "/tokenize",
      "/%76%31/models",
    ]) {
      for (const key of [undefined, "wrong", "on", "onee"]) {
        const response = await get(url, key);
        expect([url, key, response.statusCode]).toEqual([url, key, 401]);
        expect(response.json().error.code).toBe("invalid_api_key");
      }
    }
    for (const key of ["one", "two"])
      expect((await get("/v1/models", key)).statusCode).toBe(200);
    for (const url of [
      "/health",
      "/live",
      "/ready",
      "/metrics",
      "/ping",
      "/version",
      "/load",
    ])
      expect((await get(url)).statusCode).toBe(200);
  });

  it("closes admin routes without an admin key; metrics can have a key", async () => {
    const closed = await serve(new ScriptedEngine(says("x")));
    for (const url of ADMIN_PATHS)
      expect((await closed.post(url, undefined)).statusCode).toBe(403);
    const { app } = await serve(new ScriptedEngine(says("x")), {
      apiKeys: ["user"],
      adminApiKey: "admin",
      metricsApiKey: "scrape",
    });
    const reset = (key: string) =>
      app.inject({
        method: "POST",
        url: "/reset_prefix_cache",
        headers: { authorization: `Bearer ${key}` },
      });
    expect((await reset("user")).statusCode).toBe(401);
    expect((await reset("admin")).json()).toEqual({ success: true });
    expect((await app.inject("/metrics")).statusCode).toBe(401);
  });

  it("answers preflights and marks answers for allowed origins only", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")), {
      allowedOrigins: ["https://a.example"],
      apiKeys: ["k"],
    });
    const preflight = (origin: string) =>
      app.inject({
        method: "OPTIONS",
        url: URL,
        headers: {
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization",
        },
      });
    const good = await preflight("https://a.example");
    expect(good.statusCode).toBe(204);
    expect(good.headers["access-control-allow-origin"]).toBe(
      "https://a.example",
    );
    expect(good.headers["access-control-allow-headers"]).toBe("authorization");
    const bad = await preflight("https://b.example");
    expect(bad.headers["access-control-allow-origin"]).toBeUndefined();
  });
});
