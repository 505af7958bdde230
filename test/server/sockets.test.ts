import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { bytes, ScriptedEngine, serve } from "./support.js";

/** Opens a completion over a socket. */
async function open(
  url: string,
  body: object,
): Promise<{
  request: http.ClientRequest;
  response: Promise<http.IncomingMessage>;
}> {
  const request = http.request(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
  });
  request.on("error", () => undefined);
  const response = new Promise<http.IncomingMessage>((resolve) =>
    request.on("response", resolve),
  );
  request.end(JSON.stringify({ prompt: "a", ...body }));
  return { request, response };
}

describe("connections", () => {
  it.each([true, false])(
    "a closed one aborts its request (stream %s)",
    async (stream) => {
      const engine = new ScriptedEngine(() => bytes("a"));
      if (!stream) engine.running = false;
      const { app, client } = await serve(engine, {
        info: { maxModelLen: 10_000_000 },
      });
      const url = await app.listen({ port: 0 });
      const { request, response } = await open(url, {
        stream,
        n: 2,
        max_tokens: 5_000_000,
      });
      if (stream) (await response).resume();
      else await expect.poll(() => client.numPending).toBe(1);
      request.destroy();
      await expect.poll(() => client.numPending).toBe(0);
      expect(engine.numLive).toBe(0);
      expect(engine.aborts).toEqual([{ choice: -1, reason: "abort" }]);
      const metrics = await app.inject("/metrics");
      expect(metrics.body).toMatch(
        /request_success_total\{[^}]*finished_reason="abort"\} 1\n/,
      );
      expect((await app.inject("/load")).json()).toEqual({ server_load: 0 });
    },
  );

  it("a closed one aborts also the request that waits behind another for its answer", async () => {
    const engine = new ScriptedEngine(() => bytes("a"));
    engine.running = false;
    const { app, client } = await serve(engine);
    await app.listen({ port: 0, host: "127.0.0.1" });
    const { port } = app.server.address() as AddressInfo;
    const body = JSON.stringify({ prompt: "a", max_tokens: 100 });
    const request = `POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const socket = net.connect(port, "127.0.0.1");
    socket.write(request + request);
    await expect.poll(() => client.numPending).toBe(2);
    socket.destroy();
    await expect.poll(() => client.numPending).toBe(0);
    expect((await app.inject("/load")).json()).toEqual({ server_load: 0 });
    const metrics = await app.inject("/metrics");
    expect(metrics.body).toMatch(
      /http_requests_total\{[^}]*status="4xx",handler="\/v1\/completions"\} 2\n/,
    );
  });

  it("a reader that falls too far behind is dropped", async () => {
    const engine = new ScriptedEngine(() => bytes("a"));
    const { app, client } = await serve(engine, {
      info: { maxModelLen: 100_000_000 },
      maxStreamBacklogBytes: 64 * 1024,
    });
    const url = await app.listen({ port: 0 });
    const { response } = await open(url, {
      stream: true,
      max_tokens: 50_000_000,
    });
    // Never read: the kernel's buffers fill, then ours.
    (await response).pause();
    await expect
      .poll(() => client.numPending, { timeout: 30_000, interval: 100 })
      .toBe(0);
    expect(engine.aborts).toEqual([{ choice: -1, reason: "abort" }]);
  });

  it("one write carries what a step brings", async () => {
    const engine = new ScriptedEngine(() => bytes("ab"));
    engine.running = false;
    const { app, client } = await serve(engine);
    const url = await app.listen({ port: 0 });
    const { response } = await open(url, {
      stream: true,
      n: 8,
      max_tokens: 1,
    });
    const incoming = await response;
    const chunks: string[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk.toString()));
    engine.running = true;
    await client.call("checkIntegrity");
    await new Promise((resolve) => incoming.on("end", resolve));
    expect(chunks).toHaveLength(1);
    expect(chunks[0]?.match(/data: /g)).toHaveLength(9);
  });
});
