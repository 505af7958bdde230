/** Clients that hang up at any moment: their places come back, each once. */
import fc from "fast-check";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { expect, it } from "vitest";
import WebSocket from "ws";
import { bytes, END, ScriptedEngine } from "../support.js";
import { serveLimited } from "./support.js";

const PLACES = 6;
const messages = [{ role: "user", content: "a" }];
const POSTS: readonly (readonly [path: string, body: object])[] = [
  ["/v1/completions", { prompt: ["a", "b"], n: 2 }],
  ["/v1/completions", { prompt: "a", max_tokens: "wrong" }],
  ["/v1/chat/completions", { messages, n: 3 }],
  ["/v1/messages", { model: "tiny", messages, max_tokens: 90 }],
  ["/v1/responses", { input: "a" }],
  ["/tokenize", { prompt: "a" }],
];

type Wire = "http" | "pipelined" | "half a body" | "websocket";
interface Visit {
  readonly wire: Wire;
  readonly post: number;
  readonly stream: boolean;
  /** Milliseconds before it begins, and until it hangs up; null: it stays to the end. */
  readonly begins: number;
  readonly leaves: number | null;
}

const visits = fc.array(
  fc.record<Visit>({
    wire: fc.constantFrom("http", "pipelined", "half a body", "websocket"),
    post: fc.nat(POSTS.length - 1),
    stream: fc.boolean(),
    begins: fc.nat(40),
    leaves: fc.oneof(fc.nat(12), fc.constant(null)),
  }),
  { minLength: 20, maxLength: 60 },
);

const after = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms));

/** Settles when the client is gone, one way or the other. */
async function visit(port: number, visit: Visit): Promise<void> {
  await after(visit.begins);
  if (visit.wire === "websocket") return visitSocket(port, visit);
  if (visit.wire === "http") return visitHttp(port, visit);
  return visitRaw(port, visit);
}

function bodyOf({ post, stream }: Visit): { path: string; body: string } {
  const [path, body] = POSTS[post] ?? ["", {}];
  return { path, body: JSON.stringify(stream ? { ...body, stream } : body) };
}

function visitHttp(port: number, one: Visit): Promise<void> {
  const { path, body } = bodyOf(one);
  return new Promise((resolve) => {
    const request = http.request({
      port,
      path,
      method: "POST",
      headers: {
        authorization: "Bearer one",
        "content-type": "application/json",
      },
    });
    request.on("error", () => undefined).on("close", resolve);
    request.on("response", (answer) => {
      answer.on("error", () => undefined).resume();
    });
    request.end(body);
    if (one.leaves !== null) setTimeout(() => request.destroy(), one.leaves);
  });
}

/** Two requests at once on a connection, or one that never comes whole. */
function visitRaw(port: number, one: Visit): Promise<void> {
  const { path, body } = bodyOf(one);
  const half = one.wire === "half a body";
  const request = (last: boolean): string =>
    `POST ${path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer one\r\ncontent-type: application/json\r\n` +
    `content-length: ${body.length}\r\n${last ? "connection: close\r\n" : ""}\r\n${body}`;
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("error", () => undefined).on("close", () => resolve());
    socket.resume();
    socket.write(
      half ? request(true).slice(0, -3) : request(false) + request(true),
    );
    const leaves = half ? (one.leaves ?? 5) : one.leaves;
    if (leaves !== null) setTimeout(() => socket.destroy(), leaves);
  });
}

function visitSocket(port: number, { leaves }: Visit): Promise<void> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/responses`, {
      headers: { authorization: "Bearer one" },
    });
    socket.on("error", () => undefined).on("close", () => resolve());
    const create = (stream_id: string): void =>
      socket.send(
        JSON.stringify({ type: "response.create", input: "a", stream_id }),
      );
    socket.on("open", () => ["a", "b", "a"].forEach(create));
    let ends = 0;
    socket.on("message", (data) => {
      const { type } = JSON.parse((data as Buffer).toString());
      if (/^error$|^response\.(completed|incomplete|failed)$/.test(type))
        ends++;
      if (ends === 3) socket.close();
    });
    if (leaves !== null) setTimeout(() => socket.terminate(), leaves);
  });
}

it("come back, each once, whenever clients hang up", async () => {
  const engine = new ScriptedEngine(({ promptTokenIds }) => [
    ...bytes("abcdefgh".repeat(promptTokenIds.length % 5)),
    END,
  ]);
  const { app, client, send, refusals } = await serveLimited(
    `ann one concurrency=${PLACES}`,
    engine,
  );
  await app.listen({ port: 0, host: "127.0.0.1" });
  const { port } = app.server.address() as AddressInfo;

  /** As many as there are places are let in at once, and not one more. */
  const expectAllFree = async (): Promise<void> => {
    await expect.poll(() => client.numPending).toBe(0);
    engine.running = false;
    const ask = { prompt: "a" };
    // A connection that is gone is heard of a moment later.
    const held = Array.from({ length: PLACES }, async () => {
      for (let tries = 0; ; tries++) {
        const answer = await send("one", "/v1/completions", ask);
        if (answer.statusCode !== 429 || tries === 200) return answer;
        await after(5);
      }
    });
    await expect.poll(() => client.numPending).toBe(PLACES);
    const refused = await send("one", "/v1/completions", ask);
    expect(refused.statusCode).toBe(429);
    engine.running = true;
    void client.call("checkIntegrity");
    for (const answer of held) expect((await answer).statusCode).toBe(200);
  };

  await fc.assert(
    fc.asyncProperty(visits, async (all) => {
      await Promise.all(all.map((one) => visit(port, one)));
      await expectAllFree();
    }),
    { numRuns: 8, endOnFailure: true },
  );
  expect((await refusals("ann")).concurrency).toBeGreaterThan(0);
}, 60_000);
