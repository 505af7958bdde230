/** What becomes of answers when their connections are slow, or gone. */
import { describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../../src/text/tokenizer.js";
import { bytes, directory, says, ScriptedEngine, serve } from "../support.js";
import { checkEvents } from "./check-events.js";
import { isEnd, listen, open } from "./socket-client.js";
import { base, eventsOf, start, URL } from "./support.js";

const info = { maxModelLen: 100_000_000 };

/** Leaves out what is long. */
const template =
  "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
const instructions = "x".repeat(6 * 2 ** 20);

/** A tokenizer that encodes nothing until it is let. */
async function heldTokenizer() {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let asked = 0;
  const tokenizer = new Proxy(await loadTokenizer(directory), {
    get(target, name: keyof Tokenizer) {
      if (name !== "encode") {
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      }
      return async (...args: Parameters<Tokenizer["encode"]>) => {
        asked++;
        await released;
        return target.encode(...args);
      };
    },
  });
  return { tokenizer, release, asked: () => asked };
}

describe("a connection", () => {
  it.each([true, false])(
    "that closes before its response has begun leaves nothing (stream %s)",
    async (stream) => {
      const held = await heldTokenizer();
      const errors: string[] = [];
      const engine = new ScriptedEngine(() => bytes("a"));
      const { app, client } = await serve(engine, {
        info,
        tokenizer: held.tokenizer,
        logLevel: "error",
        logStream: { write: (line) => void errors.push(line) },
      });
      const url = await app.listen({ port: 0, host: "127.0.0.1" });
      const controller = new AbortController();
      const answer = fetch(url + URL, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...base, stream }),
        signal: controller.signal,
      }).catch(() => undefined);
      await expect.poll(held.asked).toBe(1);
      controller.abort();
      await answer;
      // The server hears of it in a turn of its own.
      await new Promise((resolve) => setTimeout(resolve, 50));
      held.release();
      await expect.poll(() => engine.requests.length).toBe(1);
      await expect.poll(() => client.numPending).toBe(0);
      expect((await app.inject("/load")).json()).toEqual({ server_load: 0 });
      expect(errors).toEqual([]);
    },
  );

  it("is not slow because an event is long", async () => {
    const { app } = await start(says("Hi."), { template });
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const answer = await fetch(url + URL, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...base, instructions, stream: true }),
    });
    const response = checkEvents(eventsOf(await answer.text()));
    expect(response.instructions).toHaveLength(instructions.length);
  });

  it("of a WebSocket is not slow because an event is long", async () => {
    const { url } = await listen(says("Hi."), { template });
    const { create, until, events } = await open(url);
    create({ input: "a", instructions });
    await until(isEnd);
    expect(checkEvents(events).status).toBe("completed");
  });

  it("of a WebSocket is not slow because it has many streams", async () => {
    const { url } = await listen(says("Hi."), { template });
    const { create, events } = await open(url);
    for (let i = 0; i < 64; i++)
      create({
        input: "a",
        instructions: "x".repeat(60_000),
        stream_id: String(i),
      });
    await expect
      .poll(() => events.filter(isEnd).length, { timeout: 10_000 })
      .toBe(64);
  });
});

it("tells the times of a stream in its header and trailer", async () => {
  const { app } = await start(says("Hi."));
  const payload = { ...base, stream: true };
  const headers = { te: "trailers" };
  const answer = await app.inject({
    method: "POST",
    url: URL,
    payload,
    headers,
  });
  expect(answer.headers["server-timing"]).toMatch(/^prepare;dur=/);
  expect(answer.trailers["server-timing"]).toMatch(/prefill;dur=.*decode;dur=/);
});
