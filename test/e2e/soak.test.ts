import { readFileSync } from "node:fs";
import { Agent, request as httpRequest } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { randomSource } from "./random-requests.js";
import {
  hasShared,
  startServer,
  STORIES,
  type ServerProcess,
} from "./server-process.js";

const LONG = process.env["OCTAVO_LONG"] === "1";
const NUM_REQUESTS = LONG ? 20_000 : 400;
const CONCURRENCY = 32;

interface Tally {
  sent: number;
  completed: number;
  aborted: number;
  failed: string[];
  completionTokens: number;
}

/** One streamed request; with `abortAfter` >= 0 the socket is destroyed after that many milliseconds. */
function runOne(
  url: string,
  agent: Agent,
  body: object,
  abortAfter: number,
  tally: Tally,
): Promise<void> {
  return new Promise((resolve) => {
    tally.sent++;
    let aborted = false;
    let text = "";
    const request = httpRequest(`${url}/v1/completions`, {
      method: "POST",
      agent,
      headers: { "content-type": "application/json" },
    });
    const settle = (error?: Error): void => {
      if (aborted) tally.aborted++;
      else if (error) tally.failed.push(error.message);
      else if (!text.includes("data: [DONE]"))
        tally.failed.push(text.slice(-200));
      else {
        tally.completed++;
        tally.completionTokens += Number(
          /"completion_tokens":(\d+)/.exec(text)?.[1] ?? NaN,
        );
      }
      resolve();
    };
    request.on("response", (response) => {
      response.on(
        "data",
        (chunk: Buffer) => (text += chunk.toString("latin1")),
      );
      response.on("close", () => settle());
    });
    request.on("error", (error) => settle(error));
    request.end(JSON.stringify(body));
    if (abortAfter >= 0) {
      setTimeout(() => {
        if (text.includes("data: [DONE]")) return;
        aborted = true;
        request.destroy();
      }, abortAfter);
    }
  });
}

async function metric(url: string, pattern: RegExp): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  let sum = 0;
  for (const match of text.matchAll(
    new RegExp(`^${pattern.source}(?:\\{[^}]*\\})? (\\S+)$`, "gm"),
  ))
    sum += Number(match[1]);
  return sum;
}

function residentBytes(pid: number): number {
  return (
    Number(
      /VmRSS:\s+(\d+) kB/.exec(
        readFileSync(`/proc/${pid}/status`, "utf8"),
      )?.[1] ?? 0,
    ) * 1024
  );
}

describe.skipIf(!hasShared)(
  `${NUM_REQUESTS} requests over sockets, a third aborted (needs ../shared/models/stories260k)`,
  () => {
    let server: ServerProcess;
    beforeAll(async () => {
      server = await startServer([
        STORIES,
        "--max-num-seqs",
        "16",
        "--num-gpu-blocks-override",
        "128",
        "--log-level",
        "warn",
      ]);
    });
    afterAll(async () => {
      await server.stop("SIGKILL");
    });

    it(
      "ends with nothing running, nothing waiting, all blocks free and counters equal to the client's",
      async () => {
        const random = randomSource(7);
        const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
        const tally: Tally = {
          sent: 0,
          completed: 0,
          aborted: 0,
          failed: [],
          completionTokens: 0,
        };
        let rssWarm = 0;
        const worker = async (): Promise<void> => {
          while (tally.sent < NUM_REQUESTS) {
            const body = {
              prompt: Array.from(
                { length: 1 + Math.floor(random() * 120) },
                () => 3 + Math.floor(random() * 500),
              ),
              max_tokens: 1 + Math.floor(random() * 40),
              temperature: random() < 0.5 ? 0 : 1,
              seed: tally.sent,
              ignore_eos: true,
              stream: true,
              stream_options: { include_usage: true },
            };
            await runOne(
              server.url,
              agent,
              body,
              random() < 1 / 3 ? random() * 60 : -1,
              tally,
            );
            if (rssWarm === 0 && tally.sent > NUM_REQUESTS / 4)
              rssWarm = residentBytes(server.process.pid ?? 0);
          }
        };
        await Promise.all(Array.from({ length: CONCURRENCY }, worker));
        agent.destroy();
        expect(tally.failed).toEqual([]);
        await expect
          .poll(() => metric(server.url, /vllm:num_requests_running/), {
            timeout: 10_000,
          })
          .toBe(0);
        expect(await metric(server.url, /vllm:num_requests_waiting/)).toBe(0);
        expect(await metric(server.url, /vllm:kv_cache_usage_perc/)).toBe(0);

        const finished = await metric(server.url, /vllm:request_success_total/);
        const abortsSeen = await metric(
          server.url,
          /vllm:request_success_total\{[^}]*finished_reason="abort"[^}]*\}/,
        );
        // A socket cut before its request was read never became a request; one cut after its last token counts as finished.
        expect(finished).toBeLessThanOrEqual(tally.sent);
        expect(finished).toBeGreaterThanOrEqual(tally.completed);
        expect(abortsSeen).toBeLessThanOrEqual(tally.aborted);
        expect(finished - abortsSeen).toBeGreaterThanOrEqual(tally.completed);
        expect(
          await metric(server.url, /vllm:generation_tokens_total/),
        ).toBeGreaterThanOrEqual(tally.completionTokens);
        const bySource = await metric(
          server.url,
          /vllm:prompt_tokens_by_source_total/,
        );
        expect(bySource).toBe(
          await metric(server.url, /vllm:prompt_tokens_total/),
        );

        const rss = residentBytes(server.process.pid ?? 0);
        console.log(
          `${tally.sent} sent, ${tally.completed} completed, ${tally.aborted} aborted; ` +
            `RSS ${(rssWarm / 2 ** 20).toFixed(0)} -> ${(rss / 2 ** 20).toFixed(0)} MiB`,
        );
        if (LONG) expect(rss).toBeLessThan(rssWarm * 1.15);
      },
      LONG ? 1_800_000 : 120_000,
    );
  },
);
