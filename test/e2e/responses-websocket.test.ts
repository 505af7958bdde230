/** WebSocket /v1/responses: the openai package's ResponsesWS, and plain `ws` clients. */
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";
import { describe, expect, it } from "vitest";
import { pagedEngine } from "../server/known-engine.js";
import { checkEvents } from "../server/responses/check-events.js";
import { isEnd, listen, open } from "../server/responses/socket-client.js";
import { parseSeries } from "../server/series.js";
import {
  bytes,
  END,
  says,
  serve,
  TOOL_TEMPLATE,
  type Json,
  type Script,
} from "../server/support.js";

const model = "tiny";
const endless: Script = () => bytes("a");
const info = { maxModelLen: 10_000_000 };

/** Says what the last message of the prompt says. */
const echo: Script = ({ promptTokenIds }) => {
  const prompt = Buffer.from(promptTokenIds).toString();
  const last =
    /<\|im_start\|>user\n(\w*)<\|im_end\|>\n<\|im_start\|>assistant\n$/;
  return [...bytes(last.exec(prompt)?.[1] ?? "?"), END];
};

describe("the openai package's ResponsesWS", () => {
  it("goes on from turn to turn, with store false too", async () => {
    const { url, engine } = await listen(says("Hi."), { apiKeys: ["secret"] });
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "secret" });
    const ws = new ResponsesWS(client);
    const turn = (body: object): Promise<OpenAI.Responses.Response> =>
      new Promise((resolve, reject) => {
        ws.once("response.completed", ({ response }) => resolve(response));
        ws.once("error", reject);
        ws.send({ type: "response.create", model, store: false, ...body });
      });
    const first = await turn({ input: "My name is Ada." });
    expect(first.output).toMatchObject([{ content: [{ text: "Hi." }] }]);
    await turn({ input: "Who am I?", previous_response_id: first.id });
    const prompt = Buffer.from(engine.requests[1]?.promptTokenIds ?? []);
    expect(prompt.toString()).toContain("My name is Ada.");
    expect(prompt.toString()).toContain("assistant\nHi.");
    const lost = turn({ input: "a", previous_response_id: "resp_1" });
    await expect(lost).rejects.toMatchObject({
      error: { error: { code: "previous_response_not_found" }, status: 400 },
    });
    await expect(client.responses.retrieve(first.id)).rejects.toBeInstanceOf(
      OpenAI.NotFoundError,
    );
    ws.close();
  });
});

describe("WebSocket /v1/responses", () => {
  it("sends the very events of a stream", async () => {
    const { url } = await listen(says("Hello there."));
    const { create, until, events } = await open(url);
    create({ input: "a" });
    const last = await until(isEnd);
    expect(checkEvents(events)).toEqual(last.response);
    expect(last.response.store).toBe(true);
  });

  it("runs conversations side by side, each in its order", async () => {
    const { url, engine } = await listen(echo);
    engine.running = false;
    const { create, until, events } = await open(url);
    for (const text of ["one", "two", "three"])
      for (const stream_id of ["a", "b"])
        create({ stream_id, input: `${text}${stream_id}` });
    // The first of each stream; the others wait.
    await expect.poll(() => engine.requests.length).toBe(2);
    engine.running = true;
    create({ input: "unnamed" });
    await until((event) => isEnd(event) && event.stream_id === undefined);
    await expect.poll(() => events.filter(isEnd).length).toBe(7);
    for (const stream of ["a", "b"]) {
      const own = events.filter(({ stream_id }) => stream_id === stream);
      const ends = own.flatMap((event, i) => (isEnd(event) ? [i] : []));
      const texts = ends.map((end, i) => {
        const turn = own.slice((ends[i - 1] ?? -1) + 1, end + 1);
        return checkEvents(turn).output[0].content[0].text;
      });
      expect(texts).toEqual([`one${stream}`, `two${stream}`, `three${stream}`]);
    }
  });

  it("cancels by response or by stream, and goes on", async () => {
    const { url, client } = await listen(endless, { info });
    const { create, send, until, events } = await open(url);
    create({ input: "a", stream_id: "x" });
    create({ input: "b", stream_id: "y" });
    const begun = ({ type }: Json) => type === "response.created";
    const { response } = await until(
      (event) => begun(event) && event.stream_id === "x",
    );
    await until((event) => begun(event) && event.stream_id === "y");
    send({ type: "response.cancel", response_id: response.id });
    await until((event) => isEnd(event) && event.stream_id === "x");
    send({ type: "response.cancel", stream_id: "y" });
    await until((event) => isEnd(event) && event.stream_id === "y");
    for (const { type, response } of events.filter(isEnd)) {
      expect(type).toBe("response.incomplete");
      expect(response.status).toBe("cancelled");
    }
    await expect.poll(() => client.numPending).toBe(0);
    send({ type: "response.cancel", stream_id: "y" });
    const error = await until(({ type }) => type === "error");
    expect(error).toMatchObject({ stream_id: "y", status: 400 });
    create({ input: "c", stream_id: "x", max_output_tokens: 2 });
    await until(({ response }) => response?.usage?.output_tokens === 2);
  });

  it("answers mistakes with events and stays open", async () => {
    const { url } = await listen(says("Hi."));
    const { create, send, until, events, socket } = await open(url);
    send("{");
    send("[]");
    const deep = "[".repeat(50_000) + "]".repeat(50_000);
    send(`{"type":"response.create","input":${deep}}`);
    socket.send(Buffer.from([1, 2]), { binary: true });
    send({ type: "x" });
    create({ input: "a", stream_id: 1 });
    create({ input: "a", background: true });
    create({ input: "a", stream: false });
    create({ input: "a", temperature: "hot", stream_id: "s" });
    create({ input: "a", model: "other" });
    create({ input: "good" });
    await until(isEnd);
    const errors = events.filter(({ type }) => type === "error");
    expect(errors.map(({ status }) => status).sort()).toEqual([
      400, 400, 400, 400, 400, 400, 400, 400, 400, 404,
    ]);
    const hot = errors.find(({ stream_id }) => stream_id === "s");
    expect(hot.error).toEqual({
      message: 'temperature: expected number, got "hot"',
      type: "invalid_request_error",
      param: "temperature",
      code: "invalid_value",
    });
  });

  it("bounds streams and waiting messages", async () => {
    const { url, engine } = await listen(endless, { info });
    engine.running = false;
    const { create, events, until } = await open(url);
    for (let i = 0; i < 65; i++) create({ input: "a", stream_id: `s${i}` });
    const refused = await until(({ type }) => type === "error");
    expect(refused).toMatchObject({ status: 429, stream_id: "s64" });
    for (let i = 0; i < 65; i++) create({ input: "a", stream_id: "s0" });
    await expect
      .poll(() => events.filter(({ type }) => type === "error").length)
      .toBe(2);
    expect(engine.requests.length).toBe(64);
  });

  it("frees the blocks of a connection that is gone", async () => {
    const engine = pagedEngine({ maxModelLen: 512 });
    const { app, client } = await serve(engine, {
      template: TOOL_TEMPLATE,
      info: { maxModelLen: 512 },
    });
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const { create, socket, until } = await open(url);
    for (const stream_id of ["a", "b"])
      create({ input: "a", stream_id, ignore_eos: true, min_tokens: 400 });
    await until(({ type }) => type === "response.created");
    socket.terminate();
    await expect.poll(() => client.numPending).toBe(0);
    await client.call("checkIntegrity");
    expect(client.stats.kvCacheUsage).toBe(0);
    expect((await app.inject("/load")).json()).toEqual({ server_load: 0 });
  });

  it("drops a reader that falls too far behind", async () => {
    const { url, client } = await listen(endless, {
      info,
      maxStreamBacklogBytes: 64 * 1024,
    });
    const { create, socket } = await open(url);
    create({ input: "a" });
    await expect.poll(() => client.numPending).toBe(1);
    socket.pause();
    await expect
      .poll(() => client.numPending, { timeout: 30_000, interval: 100 })
      .toBe(0);
  });

  it("asks for a key, and browsers for an origin that may", async () => {
    const { app, url } = await listen(says("Hi."), {
      apiKeys: ["secret"],
      allowedOrigins: ["https://good.example"],
    });
    const headers = { authorization: "Bearer secret" };
    await expect(open(url)).rejects.toThrow("401");
    const evil = { headers, origin: "https://evil.example" };
    await expect(open(url, evil)).rejects.toThrow("403");
    await open(url, { headers, origin: "https://good.example" });
    await open(url, { headers, origin: url });
    const plain = await app.inject({ url: "/v1/responses", headers });
    expect(plain.statusCode).toBe(404);
  });

  it("refuses messages that are too large", async () => {
    const { url } = await listen(says("Hi."), { bodyLimitBytes: 1000 });
    const { create, closed } = await open(url);
    create({ input: "x".repeat(2000) });
    expect(await closed).toBe(1009);
  });

  it("is counted, and closed by a server that shuts down when its answers have ended", async () => {
    const { app, url, engine, client } = await listen(says("Hi."));
    const busy = await open(url);
    const idle = await open(url);
    engine.running = false;
    busy.create({ input: "a" });
    await expect.poll(() => engine.requests.length).toBe(1);
    const count = async () => parseSeries((await app.inject("/metrics")).body);
    expect((await count()).get("vllm:websocket_connections_active")).toBe(2);
    app.beginDrain();
    expect(await idle.closed).toBe(1001);
    busy.create({ input: "b", stream_id: "late" });
    const late = await busy.until(({ type }) => type === "error");
    expect(late.error.code).toBe("shutting_down");
    engine.running = true;
    await client.call("checkIntegrity");
    expect(await busy.closed).toBe(1001);
    expect(busy.events.filter(isEnd)).toHaveLength(1);
    await expect
      .poll(async () =>
        (await count()).get("vllm:websocket_connections_active"),
      )
      .toBe(0);
    const series = await count();
    expect(series.get("vllm:websocket_connections_total")).toBe(2);
    expect(series.get("vllm:websocket_connection_duration_seconds_count")).toBe(
      2,
    );
  });
});
