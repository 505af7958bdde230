/** Mutated bodies on every POST route: nothing but answers of 2xx and 4xx, whole ones, and nothing is left behind. */
import type { LightMyRequestResponse } from "fastify";
import { afterAll, describe, expect, it } from "vitest";
import type { OpenApiDocument } from "../../../src/server/openapi.js";
import { damaged, generator, mutate, pick } from "./mutate.js";
import { POST_SEEDS } from "./seeds.js";
import {
  ADMIN_KEY,
  isBuilt,
  ROUNDS,
  startFuzzed,
  type FuzzedServer,
} from "./support.js";

/** A request that takes longer hangs: a grammar may be compiled for 10 s, and waits for another's. */
const MAX_MS = 40_000;
/** Requests under way at a time. */
const COMPANY = 4;
/** In a path; resp_0 is one that is known. */
const IDS = ["resp_0", "resp_0", "%00", "%2e%2e", "%ff", "é", "a".repeat(900)];

/** What a stream may not end with: a failure of the server's own. */
const FAILURE = /"type":"(server_error|api_error)"|"status":"failed"/;

function hashOf(text: string): number {
  let hash = 17;
  for (const char of text) hash = Math.imul(hash, 31) + char.charCodeAt(0);
  return hash;
}

/** Sends a body to a route; `id` is the place for an id in its path. */
async function send(
  { app, ids }: FuzzedServer,
  path: string,
  body: string,
  id = "resp_0",
): Promise<LightMyRequestResponse> {
  return app.inject({
    method: "POST",
    url: path.replace("{id}", () => ids.fill(id)),
    payload: ids.fill(body),
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${ADMIN_KEY}`,
    },
  });
}

/** Has the server keep a response, whose id is known from then on. */
async function keepResponse(server: FuzzedServer): Promise<void> {
  const { body } = await send(server, "/v1/responses", '{"input": "a"}');
  server.ids.note(body);
}

/** Sends one mutated body; returns its status. */
async function sendMutated(
  server: FuzzedServer,
  path: string,
  seed: object,
  random: () => number,
): Promise<number> {
  let text = JSON.stringify(mutate(seed, random));
  if (random() < 0.02) text = damaged(text, random);
  let timer: NodeJS.Timeout | undefined;
  const hang = new Promise<never>((_, reject) => {
    const fail = () => reject(new Error(`${path} hangs with ${text}`));
    timer = setTimeout(fail, MAX_MS);
  });
  const answer = send(server, path, text, pick(IDS, random));
  const { statusCode, body } = await Promise.race([answer, hang]);
  clearTimeout(timer);
  const told = `${path} ${text} -> ${statusCode} ${body.slice(0, 2000)}`;
  expect(statusCode, told).toBeLessThan(500);
  expect(statusCode, told).toBeGreaterThanOrEqual(200);
  expect(body, told).not.toMatch(FAILURE);
  server.ids.note(body);
  return statusCode;
}

describe.skipIf(!isBuilt)("fuzz of the POST routes (needs dist/)", () => {
  const counts: Record<string, Record<number, number>> = {};
  afterAll(() => {
    if (process.env.OCTAVO_LONG !== undefined) console.table(counts);
  });

  it("has bodies for each of them", async () => {
    const { app } = await startFuzzed();
    const description = await app.inject("/openapi.json");
    const { paths } = description.json<OpenApiDocument>();
    const posts = Object.entries(paths).flatMap(([path, methods]) =>
      "post" in methods ? [path] : [],
    );
    expect(Object.keys(POST_SEEDS).sort()).toEqual(posts.sort());
  });

  it("has bodies that are good", async () => {
    const server = await startFuzzed();
    for (const [path, seeds] of Object.entries(POST_SEEDS))
      for (const seed of seeds) {
        const { statusCode, body } = await send(
          server,
          path,
          JSON.stringify(seed),
        );
        server.ids.note(body);
        // No body makes a response that has ended one that can be cancelled.
        const expected = path.endsWith("/cancel") ? 400 : 200;
        expect(statusCode, body).toBe(expected);
      }
    await server.expectClean();
  });

  it.each(Object.keys(POST_SEEDS))(
    `${ROUNDS} bodies on %s`,
    { timeout: 100 * ROUNDS },
    async (path) => {
      const scores = ["/v1/rerank", "/v1/score"].includes(path);
      const server = await startFuzzed(scores ? "cross-encoder" : "embedding");
      const seeds = POST_SEEDS[path] ?? [{}];
      const random = generator(hashOf(path));
      const seen: Record<number, number> = (counts[path] = {});
      if (path.includes("{id}")) await keepResponse(server);
      for (let i = 0; i < ROUNDS; i += COMPANY) {
        const company = Array.from({ length: COMPANY }, (_, k) =>
          sendMutated(
            server,
            path,
            seeds[(i + k) % seeds.length] ?? {},
            random,
          ),
        );
        for (const status of await Promise.all(company))
          seen[status] = (seen[status] ?? 0) + 1;
      }
      // It is of no use where everything is refused.
      const good = path.endsWith("/cancel") ? 400 : 200;
      expect(seen[good]).toBeGreaterThan(ROUNDS / 20);
      await server.expectClean();
    },
  );
});
