import { afterEach, describe, expect, it, vi } from "vitest";
import { OctavoError } from "../../src/core/errors.js";
import { makeRequest } from "../runner/support.js";
import { openEngine } from "./native-engine.js";
import {
  hasShared,
  startServer,
  STORIES,
  type ServerProcess,
} from "./server-process.js";

const running: ServerProcess[] = [];
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop("SIGKILL");
});

/** A server whose device computes nothing and is lost where `faults` says. */
async function start(faults: string): Promise<ServerProcess> {
  const server = await startServer(
    [STORIES, "--device", "null", "--load-format", "dummy"],
    { OCTAVO_NULL_FAULTS: faults },
  );
  running.push(server);
  return server;
}

function ask(server: ServerProcess, body: object): Promise<Response> {
  return fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      prompt: "Once upon a time",
      temperature: 1,
      ignore_eos: true,
      ...body,
    }),
  });
}

const exitCode = (server: ServerProcess): Promise<number | null> =>
  new Promise((resolve) => {
    if (server.process.exitCode !== null) resolve(server.process.exitCode);
    else server.process.on("exit", (code) => resolve(code));
  });

describe.skipIf(!hasShared)(
  "a server whose device fails (needs ../shared/models/stories260k)",
  () => {
    it("goes on with every stream as if nothing had been", async () => {
      const texts = async (server: ServerProcess): Promise<string[]> =>
        Promise.all(
          [1, 2, 3, 4].map(async (seed) => {
            const response = await ask(server, {
              max_tokens: 60,
              seed,
              stream: seed % 2 === 0,
              n: seed === 3 ? 2 : 1,
            });
            expect(response.status).toBe(200);
            const body = await response.text();
            const texts = body.matchAll(/"text":"((?:[^"\\]|\\.)*)"/g);
            return [...texts].map(([, text]) => text).join("");
          }),
        );
      const expected = await texts(await start("launch@1000000"));
      for (const kind of ["launch", "collect"]) {
        const server = await start(`${kind}@25`);
        expect(await texts(server)).toEqual(expected);
        const metrics = await (await fetch(`${server.url}/metrics`)).text();
        expect(metrics).toMatch(/octavo_runner_failures_total\{.*\} 1$/m);
        expect(metrics).toMatch(/octavo_runner_restarts_total\{.*\} 1$/m);
        expect(metrics).toMatch(/octavo_replayed_requests_total\{.*\} [1-9]/m);
        expect(metrics).toMatch(/octavo_runner_restarting\{.*\} 0$/m);
        expect((await fetch(`${server.url}/ready`)).status).toBe(200);
        expect(server.stderr()).toContain("device lost, restarting it");
        expect(server.stderr()).toContain(`was lost at ${kind} 25`);
        expect(server.stderr()).toContain("device restarted");
      }
    });

    it("ends with 70 at the third failure within a minute, each request told", async () => {
      const server = await start("launch@20,launch@21,launch@40");
      const poison = await ask(server, { max_tokens: 100 });
      expect(poison.status).toBe(503);
      expect(await poison.json()).toMatchObject({
        error: {
          code: "device_error",
          message: expect.stringContaining("failed twice") as string,
        },
      });
      expect((await fetch(`${server.url}/live`)).status).toBe(200);
      const last = await ask(server, { max_tokens: 100, stream: true });
      expect(await last.text()).toMatch(/"error":\{.*"code":"device_error"/);
      expect(await exitCode(server)).toBe(70);
      expect(server.stderr()).toContain("third time within a minute");
    });

    it("ends with 70 when the engine's thread dies", async () => {
      const server = await start("exit@20");
      const cut = await ask(server, { max_tokens: 100 });
      expect(cut.status).toBe(503);
      expect(await cut.text()).toContain("ended by itself");
      expect(await exitCode(server)).toBe(70);
    });

    it("says what is wrong with a plan of faults", async () => {
      await expect(start("launch@zero")).rejects.toThrow(
        /ended with 1 .*\n.*OCTAVO_NULL_FAULTS: expected KIND@N/s,
      );
    });
  },
);

describe.skipIf(!hasShared)(
  "the processor's runner, lost (needs ../shared/models/stories260k)",
  () => {
    it.each([true, false])(
      "is loaded again and gives the same tokens and log-probabilities, bit for bit (one step ahead: %s)",
      async (asyncScheduling) => {
        const requests = [0, 1, 2, 3, 4, 5].map((i) =>
          makeRequest(
            Array.from({ length: 3 + 9 * i }, (_, k) => 300 + ((k * 7) % 90)),
            {
              maxTokens: 40,
              temperature: i % 2,
              seedLo: i,
              logprobs: 3,
              repetitionPenalty: i % 3 === 0 ? 1.2 : 1,
            },
            { handle: i + 1, id: `r${i}`, n: i === 4 ? 2 : 1 },
          ),
        );
        const outcomes = async (loseAt: number) => {
          const opened = await openEngine(STORIES, { asyncScheduling });
          const { runner } = opened.engine;
          const launch = runner.launch.bind(runner);
          let launches = 0;
          vi.spyOn(runner, "launch").mockImplementation((batch) => {
            if (++launches === loseAt)
              throw new OctavoError("device_error", "pulled out");
            launch(batch);
          });
          opened.run(requests, 2);
          const replaced = opened.engine.runner !== runner;
          opened.engine.runner.close();
          // Of a prefix whose cache went with the device there is less to find.
          for (const outcome of opened.outcomes.values())
            outcome.cachedTokens = 0;
          return { outcomes: opened.outcomes, replaced };
        };
        const undisturbed = await outcomes(Infinity);
        expect(undisturbed.replaced).toBe(false);
        for (const loseAt of [2, 21]) {
          const replayed = await outcomes(loseAt);
          expect(replayed.replaced).toBe(true);
          expect(replayed.outcomes).toEqual(undisturbed.outcomes);
        }
      },
    );
  },
);
