import http from "node:http";
import { describe, expect, it } from "vitest";
import { bytes, says, ScriptedEngine, serve, type Json } from "./support.js";

const URL = "/v1/completions";

/** Takes log lines; `lines(message)` has those with that message, parsed. */
class LogStream {
  private readonly written: Json[] = [];

  write(line: string): void {
    this.written.push(JSON.parse(line));
  }

  lines(message = "request"): Json[] {
    return this.written.filter((entry) => entry.msg === message);
  }

  get text(): string {
    return JSON.stringify(this.written);
  }
}

describe("the access log", () => {
  it("has one line a request: id, key, tokens and times, and never the text", async () => {
    const log = new LogStream();
    const { app } = await serve(new ScriptedEngine(says("the answer")), {
      apiKeys: ["secret-key"],
      logLevel: "info",
      logStream: log,
    });
    const headers = {
      authorization: "Bearer secret-key",
      "x-request-id": "mine",
    };
    const payload = { prompt: "the question", max_tokens: 20 };
    await app.inject({ method: "POST", url: URL, headers, payload });
    await app.inject({ method: "POST", url: URL, payload });
    await app.inject("/nowhere?password=1");
    await app.inject("/health");
    const [good, refused, unknown, ...more] = log.lines();
    expect(more).toEqual([]);
    expect(good).toMatchObject({
      request_id: "mine",
      method: "POST",
      route: URL,
      status: 200,
      key: "key-1",
      prompt_tokens: 12,
      cached_tokens: 0,
      completion_tokens: 11,
      preemptions: 0,
    });
    for (const field of ["duration_ms", "queue_ms", "prefill_ms", "decode_ms"])
      expect(good[field]).toBeGreaterThanOrEqual(0);
    expect(good.duration_ms).toBeGreaterThanOrEqual(good.ttft_ms);
    expect(refused).toMatchObject({ status: 401, key: "none" });
    expect(refused.prompt_tokens).toBeUndefined();
    expect(unknown).toMatchObject({ status: 404, route: "none" });
    expect(log.text).not.toMatch(/question|answer|secret|password/);
  });

  it.each([true, false])(
    "has a connection that closed early, as 499 (stream %s)",
    async (stream) => {
      const log = new LogStream();
      const engine = new ScriptedEngine(() => bytes("a"));
      if (!stream) engine.running = false;
      const { app, client } = await serve(engine, {
        logLevel: "info",
        logStream: log,
        info: { maxModelLen: 10_000_000 },
      });
      const url = await app.listen({ port: 0 });
      const request = http.request(url + URL, {
        method: "POST",
        headers: { "content-type": "application/json" },
      });
      request.on("error", () => undefined);
      const response = new Promise<http.IncomingMessage>((resolve) =>
        request.on("response", resolve),
      );
      request.end(
        JSON.stringify({ prompt: "a", max_tokens: 5_000_000, stream }),
      );
      if (stream) (await response).resume();
      else await expect.poll(() => client.numPending).toBe(1);
      request.destroy();
      await expect.poll(() => client.numPending).toBe(0);
      expect(log.lines()).toHaveLength(1);
      expect(log.lines()[0]).toMatchObject({ status: 499, prompt_tokens: 1 });
      // Fastify's own hook for answers is not called then.
      expect((await app.inject("/metrics")).body).toContain(
        `http_requests_total{method="POST",status="4xx",handler="${URL}"} 1\n`,
      );
    },
  );

  it("has the prompt where the operator asks for it, cut", async () => {
    const log = new LogStream();
    const { post } = await serve(new ScriptedEngine(says("answer")), {
      logLevel: "info",
      logStream: log,
      logRequests: { maxLength: 5 },
    });
    await post(URL, { prompt: "question", temperature: 0.5, request_id: "q" });
    await post(URL, { prompt: "quest" });
    const [first, second] = log.lines("request received");
    expect(first).toMatchObject({
      request_id: "q",
      prompt: "quest...",
      prompt_tokens: 8,
      temperature: 0.5,
    });
    expect(second.prompt).toBe("quest");
    expect(log.text).not.toContain("answer");
  });

  it("has probes at debug level", async () => {
    const log = new LogStream();
    const { app } = await serve(new ScriptedEngine(says("a")), {
      logLevel: "debug",
      logStream: log,
    });
    for (const url of ["/metrics", "/page/main.js", "/"]) await app.inject(url);
    expect(log.lines()).toMatchObject([
      { route: "/metrics", level: 20 },
      { route: "/page/:file", level: 20 },
      { route: "/", level: 30 },
    ]);
  });
});

describe("without metrics", () => {
  it("nothing is counted and /metrics is not there; timelines are", async () => {
    const { app, post } = await serve(new ScriptedEngine(says("a")), {
      metrics: false,
    });
    expect((await post(URL, { prompt: "a", request_id: "r" })).statusCode).toBe(
      200,
    );
    expect((await app.inject("/metrics")).statusCode).toBe(404);
    expect((await app.inject("/v1/requests/r")).json().status).toBe("finished");
  });
});
