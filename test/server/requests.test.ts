import http from "node:http";
import { describe, expect, it } from "vitest";
import { RequestRegistry } from "../../src/server/request-registry.js";
import { GatedEngine, pagedEngine } from "./known-engine.js";
import { bytes, says, ScriptedEngine, serve, type Json } from "./support.js";

const URL = "/v1/completions";

/** When an event of a prompt's timeline happened, in milliseconds since the request arrived. */
function at(prompt: Json, name: string): number {
  return prompt.events.find((event: Json) => event.event === name).at;
}

describe("GET /v1/requests/{id}", () => {
  it("tells what happened, in order, and what the prefix cache had", async () => {
    const { app, post } = await serve(pagedEngine());
    const ask = (id: string) =>
      post(URL, {
        prompt: bytes("p".repeat(50)),
        max_tokens: 3,
        ignore_eos: true,
        request_id: id,
      });
    await ask("one");
    await ask("two");
    const one = (await app.inject("/v1/requests/one")).json();
    expect(one).toMatchObject({
      id: "one",
      object: "request",
      route: URL,
      status: "finished",
    });
    expect(one.prompts).toHaveLength(1);
    expect(one.prompts[0]).toMatchObject({
      prompt_tokens: 50,
      cached_tokens: 0,
      cache_miss: "cold",
      completion_tokens: 3,
      finish_reason: "length",
      preemptions: 0,
      error: null,
    });
    const names = one.prompts[0].events.map((event: Json) => event.event);
    expect(names).toEqual([
      "arrived",
      "queued",
      "scheduled",
      "first_token",
      "last_token",
      "ended",
    ]);
    const [prompt] = one.prompts;
    expect(at(prompt, "arrived")).toBe(0);
    const between = (from: string, to: string): number =>
      at(prompt, to) - at(prompt, from);
    expect(prompt.queue_ms).toBeCloseTo(between("queued", "scheduled"), 2);
    expect(prompt.prefill_ms).toBeCloseTo(
      between("scheduled", "first_token"),
      2,
    );
    expect(prompt.decode_ms).toBeCloseTo(
      between("first_token", "last_token"),
      2,
    );
    const two = (await app.inject("/v1/requests/two")).json();
    expect(two.prompts[0]).toMatchObject({
      cached_tokens: 48,
      cache_miss: null,
    });
  });

  it("tells of a preemption while the request goes on", async () => {
    const engine = new GatedEngine(
      pagedEngine({
        numBlocks: 8,
        maxModelLen: 96,
        enablePrefixCaching: false,
      }),
    );
    const { app, client, post } = await serve(engine, {
      info: { numBlocks: 8, maxModelLen: 96 },
    });
    const ask = (id: string) =>
      post(URL, {
        prompt: bytes(id.repeat(40)),
        max_tokens: 40,
        ignore_eos: true,
        request_id: id,
      });
    const answers = [ask("a"), ask("b")];
    await expect.poll(() => client.numPending).toBe(2);
    const look = async (): Promise<Json> =>
      (await app.inject("/v1/requests/b")).json();
    expect((await look()).status).toBe("queued");
    // Five blocks each hold 80 tokens: both start, and one must give way before both have 64.
    engine.allow(60);
    await client.call("checkIntegrity");
    await Promise.race(answers);
    const during = await look();
    engine.allow(1000);
    await client.call("checkIntegrity");
    await Promise.all(answers);
    const [prompt] = (await look()).prompts;
    expect(prompt.preemptions).toBeGreaterThan(0);
    const preempted = prompt.events.filter(
      (event: Json) => event.event === "preempted",
    );
    expect(preempted).toHaveLength(prompt.preemptions);
    expect(preempted[0].at).toBeGreaterThan(at(prompt, "scheduled"));
    expect(during.status).toBe("running");
    expect(during.prompts[0].preemptions).toBe(prompt.preemptions);
  });

  it("keys see only their own requests; unknown ids are 404", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")), {
      apiKeys: ["first", "second"],
    });
    const as = (key: string, id = "mine", method: "GET" | "POST" = "GET") =>
      app.inject({
        method,
        url: method === "POST" ? URL : `/v1/requests/${id}`,
        headers: { authorization: `Bearer ${key}`, "x-request-id": id },
        ...(method === "POST" && { payload: { prompt: "a" } }),
      });
    await as("first", "mine", "POST");
    expect((await as("first")).statusCode).toBe(200);
    const hidden = await as("second");
    expect(hidden.statusCode).toBe(404);
    expect(hidden.json().error.code).toBe("not_found");
    // The same id under another key hides nothing.
    await as("second", "mine", "POST");
    expect((await as("first")).statusCode).toBe(200);
    expect((await as("first", "other")).statusCode).toBe(404);
    const metrics = (await app.inject("/metrics")).body;
    for (const key of ["key-1", "key-2"]) {
      const line = (kind: string) => `key="${key}",kind="${kind}"`;
      expect(metrics).toContain(`${line("prompt")}} 1\n`);
      expect(metrics).toContain(`${line("generation")}} 2\n`);
    }
  });

  it("tells of refused prompts, and of several", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { app, post, client } = await serve(engine, {
      bounds: { maxNumQueuedReqs: 2, maxNumQueuedTokens: 0 },
    });
    engine.running = false;
    const refused = await post(URL, {
      prompt: ["a", "b", "c"],
      request_id: "full",
    });
    expect(refused.statusCode).toBe(503);
    const full = (await app.inject("/v1/requests/full")).json();
    expect(full.prompts.map((prompt: Json) => prompt.id)).toEqual([
      "full-0",
      "full-1",
      "full-2",
    ]);
    expect(full.prompts[2]).toMatchObject({
      finish_reason: null,
      error: { code: "queue_full" },
    });
    engine.running = true;
    await client.call("checkIntegrity");
    await expect.poll(() => client.numPending).toBe(0);
    const ended = (await app.inject("/v1/requests/full")).json();
    expect(ended.status).toBe("failed");
    expect(ended.prompts[0].finish_reason).toBe("abort");
  });

  it("remembers a bounded number of ended requests, and all that are under way", () => {
    const registry = new RequestRegistry(null, undefined, 2);
    const begin = (id: string, key = "none") => {
      const origin = {
        arrivalTime: 1,
        route: URL,
        key,
        quota: null,
        traceparent: undefined,
        tracestate: undefined,
        record: null,
      };
      return registry.begin(id, origin);
    };
    begin("running");
    for (const id of ["a", "b", "b", "c"]) begin(id).seal();
    const known = ["running", "a", "b", "c"].filter((id) =>
      registry.find(id, "none"),
    );
    // The first "b" was forgotten, the second one of that name is there.
    expect(known).toEqual(["running", "b", "c"]);
    expect(registry.find("c", "key-1")).toBeUndefined();
  });
});

/** The durations of a Server-Timing value. */
function durations(value: unknown): Record<string, number> {
  return Object.fromEntries(
    String(value)
      .split(", ")
      .map((entry) => entry.split(";dur="))
      .map(([name, milliseconds]) => [name, Number(milliseconds)]),
  );
}

describe("Server-Timing", () => {
  it("has every phase of a whole answer", async () => {
    const { post } = await serve(pagedEngine());
    const { headers } = await post(URL, { prompt: "abc", max_tokens: 4 });
    const timing = durations(headers["server-timing"]);
    expect(Object.keys(timing)).toEqual([
      "prepare",
      "queue",
      "prefill",
      "decode",
    ]);
    for (const value of Object.values(timing))
      expect(value).toBeGreaterThanOrEqual(0);
  });

  it.each([true, false])(
    "has what is known at a stream's headers; the rest trails (TE: %s)",
    async (te) => {
      const { app } = await serve(pagedEngine());
      const url = await app.listen({ port: 0 });
      const response = await new Promise<http.IncomingMessage>((resolve) =>
        http
          .request(
            `${url}${URL}`,
            {
              method: "POST",
              headers: {
                "content-type": "application/json",
                ...(te && { te: "trailers" }),
              },
            },
            resolve,
          )
          .end(JSON.stringify({ prompt: "a", max_tokens: 3, stream: true })),
      );
      for await (const _ of response);
      expect(Object.keys(durations(response.headers["server-timing"]))).toEqual(
        ["prepare"],
      );
      const { trailers } = response;
      if (te)
        expect(Object.keys(durations(trailers["server-timing"]))).toEqual([
          "prepare",
          "queue",
          "prefill",
          "decode",
        ]);
      else expect(trailers).toEqual({});
    },
  );
});
