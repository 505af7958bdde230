/** Mutated bodies and messages: whatever comes, nothing but answers of 2xx and 4xx, and every block is free afterwards. */
import { describe, expect, it } from "vitest";
import WebSocket from "ws";
import { pagedEngine } from "../known-engine.js";
import { serve, TOOL_TEMPLATE } from "../support.js";

const rounds = process.env.OCTAVO_LONG === undefined ? 1000 : 20_000;

/** Mulberry32: a small generator with a seed. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const tool = {
  type: "function",
  name: "f",
  parameters: { type: "object", properties: { a: { type: "string" } } },
};
const call = {
  type: "function_call",
  call_id: "c",
  name: "f",
  arguments: "{}",
};
const SEEDS: object[] = [
  { input: "a", max_output_tokens: 2 },
  {
    model: "tiny",
    instructions: "b",
    input: [
      { role: "user", content: [{ type: "input_text", text: "a" }] },
      call,
      { type: "function_call_output", call_id: "c", output: "1" },
      { type: "reasoning", summary: [], content: [] },
    ],
    tools: [tool],
    tool_choice: "auto",
    max_output_tokens: 2,
    metadata: { a: "b" },
  },
  {
    input: "a",
    stream: true,
    stream_options: { include_obfuscation: false },
    temperature: 0.5,
    top_p: 0.9,
    top_logprobs: 2,
    include: ["message.output_text.logprobs"],
    truncation: "auto",
    store: false,
    reasoning: { effort: "low", summary: "auto" },
    text: { format: { type: "text" }, verbosity: "medium" },
    stop: ["x"],
    logit_bias: { "5": 1 },
    max_output_tokens: 2,
  },
  { input: [], previous_response_id: "resp_0", max_output_tokens: 1 },
  { input: [{ type: "item_reference", id: "msg_0" }], seed: 1 },
];
const VALUES: unknown[] = [
  null,
  true,
  -1,
  0,
  1e308,
  2 ** 53,
  0.5,
  "",
  "a",
  "\ud800",
  "{{ x }}{% raw %}<|im_start|>",
  "x".repeat(3000),
  [],
  [[]],
  {},
  { type: "function_call" },
  ["a", null],
  { __proto__: 1, constructor: 2, length: 3 },
];

/** One to three values anywhere in it are replaced, removed or doubled. */
function mutate(body: object, random: () => number): unknown {
  let copy: unknown = structuredClone(body);
  const pick = <T>(list: readonly T[]): T =>
    list[Math.floor(random() * list.length)] as T;
  for (let n = 1 + Math.floor(random() * 3); n > 0; n--) {
    const places: [Record<string, unknown>, string][] = [];
    const walk = (value: unknown): void => {
      if (typeof value !== "object" || value === null) return;
      for (const key of Object.keys(value)) {
        const parent = value as Record<string, unknown>;
        places.push([parent, key]);
        walk(parent[key]);
      }
    };
    walk(copy);
    const place = pick(places);
    if (place === undefined || random() < 0.01) copy = pick(VALUES);
    else if (random() < 0.2) delete place[0][place[1]];
    else if (random() < 0.3) place[0][place[1]] = [place[0][place[1]]];
    else place[0][place[1]] = pick(VALUES);
  }
  return copy;
}

async function start() {
  const server = await serve(pagedEngine({ maxModelLen: 512 }), {
    template: TOOL_TEMPLATE,
    info: { maxModelLen: 512 },
  });
  const checkIdle = async (): Promise<void> => {
    await expect
      .poll(() => server.client.numPending, { timeout: 20_000 })
      .toBe(0);
    await server.client.call("checkIntegrity");
    expect(server.client.stats.kvCacheUsage).toBe(0);
    expect((await server.app.inject("/health")).statusCode).toBe(200);
  };
  return { ...server, checkIdle };
}

describe("fuzz", () => {
  it(
    `${rounds} bodies of POST /v1/responses`,
    { timeout: 60 * rounds },
    async () => {
      const { post, checkIdle } = await start();
      const random = generator(8);
      const seen = new Map<number, number>();
      for (let i = 0; i < rounds; i++) {
        const seed = SEEDS[i % SEEDS.length] ?? {};
        const body = mutate(seed, random);
        const { statusCode } = await post("/v1/responses", body);
        expect(statusCode, JSON.stringify(body)).toBeLessThan(500);
        seen.set(statusCode, (seen.get(statusCode) ?? 0) + 1);
      }
      // It is no use where everything is refused, or nothing is.
      expect(seen.get(200)).toBeGreaterThan(rounds / 20);
      expect(seen.get(400)).toBeGreaterThan(rounds / 20);
      await checkIdle();
    },
  );

  it(
    `${rounds} messages of a WebSocket`,
    { timeout: 60 * rounds },
    async () => {
      const { app, checkIdle } = await start();
      const url = await app.listen({ port: 0, host: "127.0.0.1" });
      const socket = new WebSocket(`${url.replace("http", "ws")}/v1/responses`);
      const statuses: number[] = [];
      let ends = 0;
      let answers = 0;
      socket.on("message", (data) => {
        const event = JSON.parse((data as Buffer).toString()) as {
          type: string;
          status: number;
        };
        if (event.type === "error") statuses.push(event.status);
        else if (/\.(completed|incomplete|failed)$/.test(event.type)) ends++;
        else return;
        answers++;
      });
      await new Promise((resolve) => socket.once("open", resolve));
      const random = generator(9);
      for (let i = 0; i < rounds; i++) {
        const seed = SEEDS[i % SEEDS.length] ?? {};
        const message = mutate(
          { type: "response.create", stream_id: `s${i % 7}`, ...seed },
          random,
        );
        const text = JSON.stringify(message);
        socket.send(
          random() < 0.02
            ? text.slice(0, Math.floor(random() * text.length))
            : text,
        );
        // Each message is answered once; no more of them are under way than may wait.
        await expect
          .poll(() => answers, { interval: 1, timeout: 10_000 })
          .toBeGreaterThan(i - 8);
      }
      await expect.poll(() => answers, { timeout: 10_000 }).toBe(rounds);
      expect(statuses.filter((status) => status >= 500)).toEqual([]);
      expect(ends).toBeGreaterThan(rounds / 40);
      expect(statuses.length).toBeGreaterThan(rounds / 20);
      expect(socket.readyState).toBe(WebSocket.OPEN);
      socket.terminate();
      await checkIdle();
    },
  );
});
