/** Mutated messages on a WebSocket: each is answered once, none by a failure of the server's own. */
import { describe, expect, it } from "vitest";
import WebSocket from "ws";
import { generator, mutate } from "./mutate.js";
import { RESPONSES } from "./seeds.js";
import { isBuilt, ROUNDS, startFuzzed } from "./support.js";

describe.skipIf(!isBuilt)("fuzz of the WebSocket (needs dist/)", () => {
  it(`${ROUNDS} messages`, { timeout: 60 * ROUNDS }, async () => {
    const server = await startFuzzed();
    const { app, ids } = server;
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/responses`);
    const statuses: number[] = [];
    const failures: string[] = [];
    let ends = 0;
    let answers = 0;
    socket.on("message", (data) => {
      const json = (data as Buffer).toString();
      ids.note(json);
      const event = JSON.parse(json) as {
        type: string;
        status: number;
      };
      if (event.type === "error") statuses.push(event.status);
      else if (/\.(completed|incomplete)$/.test(event.type)) ends++;
      else if (event.type === "response.failed") failures.push(json);
      else return;
      answers++;
    });
    await new Promise((resolve) => socket.once("open", resolve));
    const random = generator(9);
    for (let i = 0; i < ROUNDS; i++) {
      const seed = RESPONSES[i % RESPONSES.length] ?? {};
      const message = mutate(
        { type: "response.create", stream_id: `s${i % 7}`, ...seed },
        random,
      );
      const text = ids.fill(JSON.stringify(message));
      socket.send(
        random() < 0.02
          ? text.slice(0, Math.floor(random() * text.length))
          : text,
      );
      // No more of them are under way than may wait.
      await expect
        .poll(() => answers, { interval: 1, timeout: 10_000 })
        .toBeGreaterThan(i - 8);
    }
    await expect.poll(() => answers, { timeout: 10_000 }).toBe(ROUNDS);
    expect(failures).toEqual([]);
    expect(statuses.filter((status) => status >= 500)).toEqual([]);
    expect(ends).toBeGreaterThan(ROUNDS / 40);
    expect(statuses.length).toBeGreaterThan(ROUNDS / 20);
    expect(socket.readyState).toBe(WebSocket.OPEN);
    socket.terminate();
    await server.expectClean();
  });
});
