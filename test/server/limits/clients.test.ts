/** Limits by key as real clients see them, over sockets. */
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";
import { afterEach, describe, expect, it, vi } from "vitest";
import WebSocket from "ws";
import { bytes, says, ScriptedEngine, type Json } from "../support.js";
import { serveLimited } from "./support.js";

const model = "tiny";
const endless = () => bytes("x");
const info = { maxModelLen: 10_000_000 };

const sockets: WebSocket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.terminate();
});

/** A plain WebSocket client that remembers what it was told. */
async function open(url: string, key: string) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/v1/responses`, {
    headers: { authorization: `Bearer ${key}` },
  });
  sockets.push(socket);
  const events: Json[] = [];
  socket.on("message", (data) =>
    events.push(JSON.parse((data as Buffer).toString())),
  );
  await new Promise((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  const create = (body: object): void =>
    socket.send(
      JSON.stringify({ type: "response.create", input: "a", ...body }),
    );
  const heard = (type: string, count = 1): Promise<Json> =>
    expect
      .poll(() => events.filter((event) => event.type === type).length)
      .toBe(count)
      .then(() => events.findLast((event) => event.type === type));
  return { socket, create, heard };
}

describe("the openai package", () => {
  it("gets a RateLimitError with the headers, or asks again when Retry-After has passed", async () => {
    const { app, clock, refusals } = await serveLimited(
      "ann one rpm=40",
      new ScriptedEngine(says("x")),
    );
    const baseURL = `${await app.listen({ port: 0, host: "127.0.0.1" })}/v1`;
    const client = new OpenAI({ baseURL, apiKey: "one", maxRetries: 0 });
    const ask = { model, prompt: "a" };
    for (let left = 39; left >= 0; left--) {
      const { response } = await client.completions.create(ask).withResponse();
      expect(response.headers.get("x-ratelimit-remaining-requests")).toBe(
        String(left),
      );
    }
    const refused = client.completions.create(ask);
    const error: unknown = await refused.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    expect(error).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
    const { headers } = error as InstanceType<typeof OpenAI.RateLimitError>;
    expect(headers.get("retry-after")).toBe("2");

    const timers = vi.spyOn(globalThis, "setTimeout");
    const again = client.completions.create(ask, { maxRetries: 1 });
    await expect
      .poll(() => timers.mock.calls.map(([, wait]) => wait))
      .toContain(2000);
    timers.mockRestore();
    clock.seconds = 2;
    expect((await again).choices).toHaveLength(1);
    expect((await refusals("ann")).requests).toBe(2);
  });

  it("gets an error event for each response.create that is refused, and goes on with the next", async () => {
    const { app, clock } = await serveLimited(
      "ann one rpm=1",
      new ScriptedEngine(says("Hi.")),
    );
    const baseURL = `${await app.listen({ port: 0, host: "127.0.0.1" })}/v1`;
    const ws = new ResponsesWS(new OpenAI({ baseURL, apiKey: "one" }));
    const turn = (): Promise<OpenAI.Responses.Response> =>
      new Promise((resolve, reject) => {
        ws.once("response.completed", ({ response }) => resolve(response));
        ws.once("error", reject);
        ws.send({ type: "response.create", model, input: "a" });
      });
    expect((await turn()).status).toBe("completed");
    await expect(turn()).rejects.toMatchObject({
      error: {
        status: 429,
        error: { code: "rate_limit_exceeded" },
        headers: {
          "retry-after": "60",
          "x-ratelimit-limit-requests": "1",
          "x-ratelimit-remaining-requests": "0",
          "x-ratelimit-reset-requests": "1m0s",
        },
      },
    });
    clock.seconds = 60;
    expect((await turn()).status).toBe("completed");
    ws.close();
  });
});

describe("the @anthropic-ai/sdk package", () => {
  it("gets a RateLimitError", async () => {
    const { app } = await serveLimited(
      "ann one rpm=1",
      new ScriptedEngine(says("x")),
    );
    const baseURL = await app.listen({ port: 0, host: "127.0.0.1" });
    const client = new Anthropic({ baseURL, apiKey: "one", maxRetries: 0 });
    const ask = () =>
      client.messages.create({
        model,
        max_tokens: 5,
        messages: [{ role: "user", content: "a" }],
      });
    await ask();
    const error: unknown = await ask().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Anthropic.RateLimitError);
    expect(error).toMatchObject({
      error: { error: { type: "rate_limit_error" } },
    });
  });
});

describe("a WebSocket", () => {
  it("shares its client's places with requests; each response gives its own back", async () => {
    const engine = new ScriptedEngine(endless);
    engine.running = false;
    const { app, send, client } = await serveLimited(
      "ann one concurrency=2",
      engine,
      { info },
    );
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const { socket, create, heard } = await open(url, "one");
    create({ stream_id: "a" });
    create({ stream_id: "b" });
    await expect.poll(() => engine.requests.length).toBe(2);
    create({ stream_id: "c" });
    const refused = await heard("error");
    expect(refused).toMatchObject({
      stream_id: "c",
      status: 429,
      headers: { "retry-after": "1" },
    });
    const ask = { prompt: "a", max_tokens: 1 };
    expect((await send("one", "/v1/completions", ask)).statusCode).toBe(429);
    // What waits on a stream takes its place when its turn has come.
    create({ stream_id: "a", max_output_tokens: 1 });
    socket.send(JSON.stringify({ type: "response.cancel", stream_id: "a" }));
    await expect.poll(() => engine.requests.length).toBe(3);
    engine.running = true;
    await client.call("checkIntegrity");
    await heard("response.incomplete", 2);
    expect((await send("one", "/v1/completions", ask)).statusCode).toBe(200);
    // One that is not even valid.
    create({ stream_id: "d", input: 5 });
    await heard("error", 2);
    socket.terminate();
    await expect.poll(() => client.numPending).toBe(0);
    engine.running = false;
    const both = [0, 1].map(() => send("one", "/v1/completions", ask));
    await expect.poll(() => client.numPending).toBe(2);
    engine.running = true;
    await client.call("checkIntegrity");
    for (const answer of both) expect((await answer).statusCode).toBe(200);
  });
});
