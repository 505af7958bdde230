/** WebSocket /v1/responses where clients are hostile, slow or gone. */
import type { Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { ApiKey } from "../../../src/server/keys-file.js";
import { sha256 } from "../../../src/server/keys-file.js";
import { bytes, says, type Json } from "../support.js";
import { isEnd, listen, open } from "./socket-client.js";

const info = { maxModelLen: 10_000_000 };
const template =
  "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";

afterEach(() => {
  vi.useRealTimers();
});

/** The client's side of the connection, to write what no client would. */
function rawOf(socket: object): Socket {
  return (socket as { _socket: Socket })._socket;
}

describe("a WebSocket", () => {
  it("begins no response while its reader is behind", async () => {
    const { url, engine } = await listen(says("Hi."), { template });
    const { create, socket, events } = await open(url);
    socket.pause();
    const instructions = "x".repeat(3 * 2 ** 20);
    for (let i = 0; i < 8; i++)
      create({ input: "a", instructions, stream_id: String(i) });
    await expect.poll(() => engine.requests.length).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(engine.requests.length).toBeLessThan(8);
    socket.resume();
    await expect
      .poll(() => events.filter(isEnd).length, { timeout: 10_000 })
      .toBe(8);
  });

  it("that is gone lets go of what was held back", async () => {
    const { app, url, engine, client } = await listen(says("Hi."), {
      template,
    });
    const { create, socket } = await open(url);
    socket.pause();
    const instructions = "x".repeat(3 * 2 ** 20);
    for (let i = 0; i < 8; i++)
      create({ input: "a", instructions, stream_id: String(i) });
    await expect.poll(() => engine.requests.length).toBeGreaterThan(0);
    socket.terminate();
    await expect
      .poll(async () => (await app.inject("/load")).json())
      .toEqual({ server_load: 0 });
    await expect.poll(() => client.numPending).toBe(0);
  });

  it("cancels as often as it is asked, what waits too", async () => {
    const { url, client } = await listen(() => bytes("a"), { info });
    const { create, send, events } = await open(url);
    const cancel = (): void => send({ type: "response.cancel" });
    for (const input of ["a", "b", "c"]) {
      create({ input });
      cancel();
    }
    await expect.poll(() => events.filter(isEnd).length).toBe(3);
    for (const { response } of events.filter(isEnd))
      expect(response.status).toBe("cancelled");
    expect(events.filter(({ type }) => type === "error")).toEqual([]);
    await expect.poll(() => client.numPending).toBe(0);
  });

  it("takes no more once its key is none", async () => {
    const keysFile: { keys: readonly ApiKey[] } = {
      keys: [{ name: "alice", hash: sha256("secret"), limits: {} }],
    };
    const { url, engine } = await listen(says("Hi."), { keysFile });
    const headers = { authorization: "Bearer secret" };
    const { create, until } = await open(url, { headers });
    create({ input: "a" });
    await until(isEnd);
    keysFile.keys = [];
    create({ input: "b", stream_id: "s" });
    const error = await until(({ type }) => type === "error");
    expect(error).toMatchObject({
      status: 401,
      stream_id: "s",
      error: { code: "invalid_api_key" },
    });
    expect(engine.requests).toHaveLength(1);
  });

  it("has a line in the log for each response, as a request has", async () => {
    const lines: Json[] = [];
    const { url } = await listen(says("Hi."), {
      apiKeys: ["secret"],
      logLevel: "info",
      logStream: { write: (line: string) => lines.push(JSON.parse(line)) },
    });
    const headers = { authorization: "Bearer secret" };
    const { create, until, events } = await open(url, { headers });
    create({ input: "a" });
    await until(isEnd);
    create({ input: "a", previous_response_id: "resp_1" });
    await until(({ type }) => type === "error");
    const told = lines.filter(({ method }) => method === "WEBSOCKET");
    expect(told).toMatchObject([
      {
        msg: "request",
        request_id: expect.stringMatching(/^req_/),
        route: "/v1/responses",
        status: 200,
        key: "key-1",
        prompt_tokens: events.find(isEnd).response.usage.input_tokens,
        completion_tokens: 4,
      },
      { status: 400 },
    ]);
    const path = `${url}/v1/requests/${told[0].request_id}`;
    expect((await fetch(path, { headers })).status).toBe(200);
  });

  it("is dropped when it answers no ping", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const { url } = await listen(says("Hi."));
    const deaf = await open(url, { autoPong: false });
    const alive = await open(url);
    const pings = [deaf, alive].map(
      ({ socket }) => new Promise((resolve) => socket.once("ping", resolve)),
    );
    vi.advanceTimersByTime(30_000);
    await Promise.all(pings);
    // The pong is there before what is sent after it.
    alive.create({ input: "a" });
    await alive.until(isEnd);
    vi.advanceTimersByTime(30_000);
    expect(await deaf.closed).toBe(1006);
    alive.create({ input: "b" });
    await expect.poll(() => alive.events.filter(isEnd).length).toBe(2);
  });

  it.each([
    ["a frame without a mask", [0x81, 0x02, 0x7b, 0x7d], 1002],
    ["an unknown opcode", [0x83, 0x80, 0, 0, 0, 0], 1002],
    ["text that is no UTF-8", [0x81, 0x81, 0, 0, 0, 0, 0xff], 1007],
    ["a reserved bit", [0xc1, 0x80, 0, 0, 0, 0], 1002],
  ])("ends at %s, and nothing else does", async (_, frame, code) => {
    const { url, client } = await listen(() => bytes("a"), { info });
    const bad = await open(url);
    const good = await open(url);
    bad.create({ input: "a" });
    await bad.until(({ type }) => type === "response.created");
    rawOf(bad.socket).write(Buffer.from(frame));
    expect(await bad.closed).toBe(code);
    await expect.poll(() => client.numPending).toBe(0);
    good.create({ input: "a", max_output_tokens: 1 });
    await good.until(isEnd);
  });

  it("answers pings, and takes messages in pieces", async () => {
    const { url } = await listen(says("Hi."));
    const { socket, until } = await open(url);
    const pong = new Promise((resolve) => socket.once("pong", resolve));
    socket.ping("x");
    expect(String(await pong)).toBe("x");
    const text = JSON.stringify({ type: "response.create", input: "é" });
    socket.send(text.slice(0, 5), { fin: false });
    socket.send(text.slice(5), { fin: true });
    const { response } = await until(isEnd);
    expect(response.status).toBe("completed");
  });

  it("knows its own responses by key alone", async () => {
    const { url } = await listen(says("Hi."), { apiKeys: ["one", "two"] });
    const as = (key: string) => ({
      headers: { authorization: `Bearer ${key}` },
    });
    const one = await open(url, as("one"));
    one.create({ input: "a" });
    const { response } = await one.until(isEnd);
    const two = await open(url, as("two"));
    two.create({ input: "b", previous_response_id: response.id });
    const error: Json = await two.until(({ type }) => type === "error");
    expect(error.error.code).toBe("previous_response_not_found");
    const again = await open(url, as("one"));
    again.create({ input: "b", previous_response_id: response.id });
    await again.until(isEnd);
    one.create({ input: "c", store: false, stream_id: "own" });
    const own = await one.until((e) => isEnd(e) && e.stream_id === "own");
    again.create({ input: "d", previous_response_id: own.response.id });
    const lost = await again.until(({ type }) => type === "error");
    expect(lost.error.code).toBe("previous_response_not_found");
  });

  it("goes on from no response that was deleted", async () => {
    const { app, url } = await listen(says("Hi."));
    const { create, until } = await open(url);
    create({ input: "a" });
    const { id } = (await until(isEnd)).response;
    await app.inject({ method: "DELETE", url: `/v1/responses/${id}` });
    create({ input: "b", previous_response_id: id });
    const error = await until(({ type }) => type === "error");
    expect(error.error.code).toBe("previous_response_not_found");
  });
});
