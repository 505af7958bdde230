import { describe, expect, it } from "vitest";
import { ROUTE_DOCS } from "../../../src/server/openapi-routes.js";
import { API_PATHS } from "../../../src/server/auth.js";
import { duration } from "../../../src/server/limit-requests.js";
import { tinyEncoder } from "../../encoder/tiny-models.js";
import { bytes, says, ScriptedEngine, sseEvents } from "../support.js";
import { serveLimited } from "./support.js";

const URL = "/v1/completions";
const CHAT = "/v1/chat/completions";
const ask = { prompt: "a" };
const messages = [{ role: "user", content: "a" }];

const echo = (): ScriptedEngine => new ScriptedEngine(says("x"));

describe("requests a minute", () => {
  it("are refused before their body is read, until Retry-After says", async () => {
    const engine = echo();
    const { send, clock, refusals } = await serveLimited(
      "ann one rpm=3\nann two\nbob three",
      engine,
    );
    for (const key of ["one", "two", "one"])
      expect((await send(key, URL, ask)).statusCode).toBe(200);
    clock.seconds = 0.5;
    const refused = await send("two", URL, { prompt: 5 });
    expect(refused.statusCode).toBe(429);
    expect(refused.headers).toMatchObject({
      "retry-after": "20",
      "x-ratelimit-limit-requests": "3",
      "x-ratelimit-remaining-requests": "0",
      "x-ratelimit-reset-requests": "59.5s",
    });
    expect(refused.json()).toEqual({
      error: {
        message:
          "Rate limit reached for ann: 3 requests a minute. Try again in 20 s.",
        type: "rate_limit_error",
        param: null,
        code: "rate_limit_exceeded",
      },
    });
    expect((await send("three", URL, ask)).statusCode).toBe(200);
    clock.seconds = 19.5;
    expect((await send("one", URL, ask)).headers["retry-after"]).toBe("1");
    clock.seconds = 20.5;
    expect((await send("one", URL, ask)).statusCode).toBe(200);
    expect((await send("one", URL, ask)).statusCode).toBe(429);
    expect(engine.requests).toHaveLength(5);
    expect(await refusals("ann")).toEqual({
      requests: 3,
      tokens: 0,
      concurrency: 0,
    });
    expect(await refusals("bob")).toEqual({
      requests: 0,
      tokens: 0,
      concurrency: 0,
    });
  });

  it("count a request once, whatever it asks for, and also where it is wrong", async () => {
    const { send } = await serveLimited("ann one rpm=10", echo());
    const left = async (body: object): Promise<unknown> =>
      (await send("one", URL, body)).headers["x-ratelimit-remaining-requests"];
    expect(await left({ prompt: ["a", "b"], n: 4 })).toBe("9");
    expect(await left({ prompt: 5 })).toBe("8");
    expect(await left({ ...ask, stream: true })).toBe("7");
  });

  it("hold on every guarded POST; what makes nothing is free", async () => {
    const engine = echo();
    const encoder = await tinyEncoder();
    const { send, reload } = await serveLimited("ann one rpm=1", engine, {
      encoder: { encoder, names: ["tiny-encoder"] },
    });
    const routes = Object.keys(ROUTE_DOCS).map((route) => route.split(" "));
    const limited: string[] = [];
    for (const [method, route = ""] of routes) {
      if (!API_PATHS.test(route)) continue;
      const url = route.replace("{id}", "x");
      // As if ann were new.
      reload("bob two");
      await send("two", "/v1/models", {}, "GET");
      await send("two", URL, ask);
      reload("ann one rpm=1");
      const verb = method as "GET" | "POST" | "DELETE";
      const first = await send("one", url, {}, verb);
      expect(first.statusCode, route).not.toBe(429);
      const second = await send("one", url, {}, verb);
      if (second.statusCode === 429) limited.push(`${method} ${route}`);
    }
    const guarded = Object.keys(ROUTE_DOCS).filter((route) => {
      const [method, url = ""] = route.split(" ");
      return method === "POST" && API_PATHS.test(url);
    });
    const free = "POST /v1/responses/{id}/cancel";
    expect(guarded).toContain(free);
    expect(limited).toEqual(guarded.filter((route) => route !== free));
  });

  it("leave keys without limits and strangers as they are", async () => {
    const { send } = await serveLimited("ann one\nbob two rpm=1", echo(), {
      apiKeys: ["static"],
    });
    for (const key of ["one", "static"]) {
      const { statusCode, headers } = await send(key, URL, ask);
      expect(statusCode).toBe(200);
      expect(Object.keys(headers).join()).not.toContain("ratelimit");
    }
    for (let i = 0; i < 3; i++)
      expect((await send("wrong", URL, ask)).statusCode).toBe(401);
    expect((await send("two", URL, ask)).statusCode).toBe(200);
  });
});

describe("tokens a minute", () => {
  it("are the prompt's and the answer's; the last request may run up a debt", async () => {
    const engine = new ScriptedEngine(() => bytes("x"));
    const { send, clock, refusals } = await serveLimited(
      "ann one tpm=60",
      engine,
    );
    const first = await send("one", URL, { prompt: "12345", max_tokens: 15 });
    expect(first.headers).toMatchObject({
      "x-ratelimit-limit-tokens": "60",
      "x-ratelimit-remaining-tokens": "40",
      "x-ratelimit-reset-tokens": "20s",
    });
    expect(first.headers).not.toHaveProperty("x-ratelimit-limit-requests");
    // The prompt once, each of n answers, over all prompts.
    const body = { prompt: ["abc", "de"], n: 3, max_tokens: 10 };
    expect((await send("one", CHAT, { messages: 1 })).statusCode).toBe(400);
    expect((await send("one", URL, body)).statusCode).toBe(200);
    const refused = await send("one", URL, ask);
    expect(refused.statusCode).toBe(429);
    expect(refused.json().error.message).toContain("60 tokens a minute");
    // 40 - (5 + 60) = -25: a token is there after 26 s.
    expect(refused.headers["retry-after"]).toBe("26");
    expect(refused.headers["x-ratelimit-remaining-tokens"]).toBe("0");
    expect(refused.headers["x-ratelimit-reset-tokens"]).toBe("1m25s");
    clock.seconds = 25.9;
    expect((await send("one", URL, ask)).statusCode).toBe(429);
    clock.seconds = 26;
    expect((await send("one", URL, ask)).statusCode).toBe(200);
    expect((await refusals("ann")).tokens).toBe(2);
  });

  it("are paid as they come: a stream under way counts, its prompt at once", async () => {
    const engine = new ScriptedEngine(() => bytes("x"));
    engine.running = false;
    const { send, client } = await serveLimited("ann one tpm=60", engine);
    const streamed = send("one", URL, {
      prompt: "0123456789",
      max_tokens: 20,
      stream: true,
    });
    await expect.poll(() => engine.requests.length).toBe(1);
    const left = async (): Promise<unknown> =>
      (await send("one", "/tokenize", ask)).headers[
        "x-ratelimit-remaining-tokens"
      ];
    expect(await left()).toBe("50");
    engine.running = true;
    void client.call("checkIntegrity");
    const { body, headers } = await streamed;
    expect(headers["x-ratelimit-remaining-tokens"]).toBe("50");
    expect(sseEvents(body).length).toBeGreaterThan(0);
    expect(await left()).toBe("30");
  });

  it("are not paid where the engine takes nothing", async () => {
    const engine = echo();
    engine.running = false;
    const { send, client } = await serveLimited("ann one tpm=60", engine, {
      bounds: { maxNumQueuedReqs: 1, maxNumQueuedTokens: 0 },
    });
    const refused = await send("one", URL, { prompt: ["abc", "def"] });
    expect(refused.statusCode).toBe(503);
    expect(refused.headers["x-ratelimit-remaining-tokens"]).toBe("60");
    await expect.poll(() => client.numPending).toBe(0);
  });

  it("are none for tokenizing, which goes on in debt", async () => {
    const { send } = await serveLimited("ann one tpm=1 rpm=7", echo());
    expect((await send("one", URL, ask)).statusCode).toBe(200);
    expect((await send("one", URL, ask)).statusCode).toBe(429);
    const body = { messages, model: "tiny" };
    const counted = await send("one", "/v1/messages/count_tokens", body);
    expect(counted.statusCode).toBe(200);
    const items = { input: "a" };
    expect(
      (await send("one", "/v1/responses/input_tokens", items)).statusCode,
    ).toBe(200);
    const { statusCode, headers } = await send("one", "/tokenize", ask);
    expect(statusCode).toBe(200);
    expect(headers["x-ratelimit-remaining-requests"]).toBe("3");
  });

  it("are those of the inputs for embeddings and scores", async () => {
    const encoder = await tinyEncoder();
    const { send } = await serveLimited("ann one tpm=1000", echo(), {
      encoder: { encoder, names: ["tiny-encoder"] },
    });
    let left = 1000;
    const requests: [string, object][] = [
      ["/v1/embeddings", { input: ["a cat", "the dog runs"] }],
      ["/v1/rerank", { query: "a cat", documents: ["the dog", "a bird"] }],
      ["/v1/score", { text_1: "a cat", text_2: ["the dog", "a bird"] }],
    ];
    for (const [url, body] of requests) {
      const { headers, ...answer } = await send("one", url, body);
      expect(answer.statusCode, answer.body).toBe(200);
      left -= answer.json().usage.total_tokens;
      expect(headers["x-ratelimit-remaining-tokens"]).toBe(String(left));
    }
    expect(left).toBeLessThan(1000);
  });
});

describe("requests at once", () => {
  it("give their place back when they end; tokenizing takes none", async () => {
    const engine = echo();
    engine.running = false;
    const { send, client, refusals } = await serveLimited(
      "ann one concurrency=2\nann two",
      engine,
    );
    const running = [
      send("one", URL, { ...ask, n: 4 }),
      send("two", CHAT, { messages, stream: true }),
    ];
    await expect.poll(() => engine.requests.length).toBe(2);
    const refused = await send("two", URL, ask);
    expect(refused.statusCode).toBe(429);
    expect(refused.headers["retry-after"]).toBe("1");
    expect(refused.json().error.message).toContain("2 requests at once");
    expect((await send("one", "/tokenize", ask)).statusCode).toBe(200);
    engine.running = true;
    void client.call("checkIntegrity");
    for (const answer of running) expect((await answer).statusCode).toBe(200);
    for (let i = 0; i < 3; i++) {
      expect((await send("one", URL, ask)).statusCode).toBe(200);
      expect((await send("one", URL, { prompt: 5 })).statusCode).toBe(400);
    }
    expect((await refusals("ann")).concurrency).toBe(1);
  });
});

describe("what a request may ask for", () => {
  it("has bounds by key; a default is cut instead", async () => {
    const engine = new ScriptedEngine(() => bytes("x"));
    const { send } = await serveLimited(
      "ann one max_tokens=9 max_choices=4\nbob two max_tokens=9999",
      engine,
    );
    const refused = async (url: string, body: object) => {
      const answer = await send("one", url, body);
      expect(answer.statusCode).toBe(400);
      return answer.json().error.message as string;
    };
    expect(await refused(URL, { ...ask, max_tokens: 10 })).toBe(
      "max_tokens: expected at most 9 with this API key, got 10",
    );
    const chat = { messages, max_completion_tokens: 10 };
    expect(await refused(CHAT, chat)).toMatch(/^max_completion_tokens: /);
    expect(
      await refused("/v1/responses", { input: "a", max_output_tokens: 10 }),
    ).toMatch(/^max_output_tokens: expected at most 9 /);
    expect(
      await refused("/v1/messages", {
        messages,
        model: "tiny",
        max_tokens: 10,
      }),
    ).toMatch(/^max_tokens: expected at most 9 /);
    expect(await refused(URL, { prompt: ["a", "b", "c"], n: 2 })).toBe(
      "n: expected at most 4 choices over all prompts with this API key, got 6",
    );
    expect(engine.requests).toEqual([]);
    const taken: [string, string, object][] = [
      ["one", URL, { ...ask, max_tokens: 9, n: 4 }],
      ["one", URL, ask],
      ["one", CHAT, { messages }],
      ["one", "/v1/responses", { input: "a" }],
      ["two", URL, ask],
    ];
    for (const [key, url, body] of taken)
      expect((await send(key, url, body)).statusCode).toBe(200);
    expect(engine.requests.map(({ params }) => params.maxTokens)).toEqual([
      9, 9, 9, 9, 16,
    ]);
  });
});

describe("POST /v1/messages", () => {
  it("refuses in Anthropic's shape, under Anthropic's names of headers", async () => {
    const { send } = await serveLimited("ann one rpm=1 tpm=600", echo());
    const body = { messages, model: "tiny", max_tokens: 5 };
    const before = Date.now();
    const answer = await send("one", "/v1/messages", body);
    expect(answer.statusCode).toBe(200);
    const { usage } = answer.json();
    const left = 600 - usage.input_tokens - usage.output_tokens;
    const { headers } = answer;
    expect(headers).toMatchObject({
      "anthropic-ratelimit-requests-limit": "1",
      "anthropic-ratelimit-requests-remaining": "0",
      "anthropic-ratelimit-tokens-limit": "600",
    });
    // The token that ends an answer is none of its usage.
    const remaining = Number(headers["anthropic-ratelimit-tokens-remaining"]);
    expect([left, left - 1]).toContain(remaining);
    const reset = String(headers["anthropic-ratelimit-requests-reset"]);
    expect(reset).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(Date.parse(reset) - before).toBeGreaterThanOrEqual(60_000);
    expect(Object.keys(headers).join()).not.toContain("x-ratelimit");
    const refused = await send("one", "/v1/messages", body);
    expect(refused.statusCode).toBe(429);
    expect(refused.headers["retry-after"]).toBe("60");
    expect(refused.json()).toMatchObject({
      type: "error",
      error: { type: "rate_limit_error" },
    });
  });
});

describe("a reload", () => {
  it("keeps what clients have used and what they have under way", async () => {
    const engine = echo();
    const { send, reload, client } = await serveLimited(
      "ann one rpm=3 tpm=100\nbob two rpm=1",
      engine,
    );
    const left = async (key: string): Promise<unknown> => {
      const { statusCode, headers } = await send(key, "/tokenize", ask);
      return [statusCode, headers["x-ratelimit-remaining-requests"]];
    };
    expect(await left("one")).toEqual([200, "2"]);
    expect(await left("two")).toEqual([200, "0"]);
    reload("ann other rpm=5 tpm=100");
    expect((await send("one", URL, ask)).statusCode).toBe(401);
    expect(await left("other")).toEqual([200, "3"]);
    reload("ann other rpm=2\nbob two rpm=1");
    expect(await left("other")).toEqual([200, "1"]);
    // bob was gone, and begins anew.
    expect(await left("two")).toEqual([200, "0"]);

    engine.running = false;
    reload("ann other");
    const running = send("other", URL, ask);
    await expect.poll(() => engine.requests.length).toBe(1);
    reload("ann other concurrency=1");
    expect((await send("other", URL, ask)).statusCode).toBe(429);
    engine.running = true;
    void client.call("checkIntegrity");
    expect((await running).statusCode).toBe(200);
    expect((await send("other", URL, ask)).statusCode).toBe(200);
  });
});

it("writes durations as OpenAI does", () => {
  const times = [0, 0.2, 20, 999.5, 1500, 60_000, 360_000, 3_630_000];
  expect(times.map(duration)).toEqual([
    "0s",
    "1ms",
    "20ms",
    "1s",
    "1.5s",
    "1m0s",
    "6m0s",
    "1h0m30s",
  ]);
});
