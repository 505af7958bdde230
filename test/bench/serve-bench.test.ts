import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { parseGoodput, resolveEndpoint } from "../../bench/serve/options.js";
import { parseFlags, runBench } from "./flags.js";
import { recordingProxy, wireFigures } from "./recording-proxy.js";
import {
  event,
  finish,
  scriptedServer,
  sleep,
  token,
  type Script,
  type ScriptedServer,
} from "./scripted-server.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-bench-"));
afterAll(() => rmSync(scratch, { recursive: true }));
const servers: { close(): void }[] = [];
afterEach(() => servers.splice(0).forEach((server) => server.close()));

async function serve(
  script: Script,
  options?: { metrics: () => string },
): Promise<ScriptedServer> {
  const server = await scriptedServer(script, options);
  servers.push(server);
  return server;
}

/** Answers with as many tokens as asked for, `delay` ms apart. */
const answering =
  (delay: number): Script =>
  async (response, _index, { body }) => {
    const count = Number(body["max_tokens"] ?? body["max_completion_tokens"]);
    for (let i = 0; i < count; i++) {
      await sleep(delay);
      token(response);
    }
    const { prompt } = body;
    finish(response, Array.isArray(prompt) ? prompt.length : 3, count);
  };

const RANDOM = ["--random-input-len", "6", "--random-output-len", "3"];

describe("a run", () => {
  it("counts exactly and writes what it counted", async () => {
    const server = await serve(answering(5));
    const { report, outcomes, file, table, progress } = await runBench(
      server.url,
      [
        ...RANDOM,
        ...["--num-prompts", "12", "--request-rate", "100", "--ignore-eos"],
        ...["--goodput", "ttft:60000", "e2el:60000"],
        ...["--save-result", "--save-detailed", "--result-dir", scratch],
        ...["--metric-percentiles", "50,99", "--api-key", "k", "--label", "x"],
      ],
    );
    expect(report).toMatchObject({
      completed: 12,
      failed: 0,
      num_prompts: 12,
      total_input_tokens: 72,
      total_output_tokens: 36,
      model_id: "scripted",
      request_rate: 100,
      burstiness: 1,
      label: "x",
    });
    expect(report["request_goodput"]).toBe(report["request_throughput"]);
    expect(report["p50_ttft_ms"]).toBe(report["median_ttft_ms"]);
    expect(server.received).toHaveLength(12);
    expect(server.received[0]).toMatchObject({
      path: "/v1/completions",
      authorization: "Bearer k",
      body: {
        model: "scripted",
        max_tokens: 3,
        temperature: 0,
        ignore_eos: true,
        stream: true,
        stream_options: { include_usage: true },
      },
    });
    // Ids that the server's own tokenizer gave; never 0 or 1, which are special.
    for (const { body } of server.received)
      expect((body["prompt"] as number[]).every((id) => id > 1)).toBe(true);
    expect(progress).toHaveLength(12);
    expect(table).toContain("Successful requests:                     12 ");
    expect(path.basename(file ?? "")).toMatch(
      /^x-100qps-scripted-\d{8}-\d{6}\.json$/,
    );
    const saved = JSON.parse(readFileSync(file ?? "", "utf8")) as {
      ttfts: number[];
      itls: number[][];
      output_lens: number[];
      duration: number;
      output_throughput: number;
    };
    expect(saved).toEqual(JSON.parse(JSON.stringify(report)));
    expect(saved.ttfts).toEqual(outcomes.map(({ ttft }) => ttft));
    expect(saved.itls.map((gaps) => gaps.length)).toEqual(Array(12).fill(2));
    expect(saved.output_throughput).toBeCloseTo(36 / saved.duration, 9);
  });

  it(
    "keeps its arrival times while answers are slow, and says how late it was",
    { retry: 3 },
    async () => {
      const server = await serve(answering(100));
      const { outcomes, notes } = await runBench(server.url, [
        ...RANDOM,
        ...["--num-prompts", "20", "--request-rate", "100"],
      ]);
      // All are sent within 0.2 s though each takes 0.3 s.
      const sent = outcomes.map(({ startTime }) => startTime);
      expect(sent.at(-1)).toBeGreaterThanOrEqual(0.2);
      expect(sent.at(-1)).toBeLessThan(0.3);
      expect(notes.join("\n")).toMatch(/Requests were sent late by \d/);
    },
  );

  it("agrees with a proxy that records the bytes", { retry: 3 }, async () => {
    const server = await serve(async (response, index, received) => {
      await sleep(200 + 10 * index);
      await answering(4)(response, index, received);
    });
    const proxy = await recordingProxy(server.url);
    servers.push(proxy);
    const { report, outcomes } = await runBench(proxy.url, [
      ...["--random-input-len", "6", "--random-output-len", "20"],
      ...["--num-prompts", "20", "--request-rate", "40"],
    ]);
    // /tokenize came first.
    const seen = proxy.exchanges.slice(-20).map(wireFigures);
    expect(seen.map(({ tokens }) => tokens)).toEqual(Array(20).fill(20));
    const mean = seen.reduce((sum, { ttft }) => sum + ttft, 0) / 20;
    const ratio = Number(report["mean_ttft_ms"]) / mean;
    expect(Math.abs(ratio - 1)).toBeLessThan(0.03);
    const seconds =
      (Math.max(...seen.map(({ end }) => end)) -
        Math.min(...seen.map(({ asked }) => asked))) /
      1000;
    // The run begins a gap before its first request.
    const start = outcomes[0]?.startTime ?? 0;
    const throughput = Number(report["output_throughput"]);
    expect(throughput * (seconds + start)).toBeGreaterThan(400 * 0.97);
    expect(throughput * (seconds + start)).toBeLessThan(400 * 1.03);
  });

  it("sweeps over every combination, each with prompts of its own", async () => {
    const server = await serve(answering(1));
    const { report, runs, table, file } = await runBench(server.url, [
      ...RANDOM,
      ...["--num-prompts", "4", "--seed", "5", "--save-result"],
      ...["--sweep", "request-rate=200,inf", "--sweep", "max-concurrency=1,2"],
      ...["--result-dir", scratch],
    ]);
    expect(runs.map(({ point }) => point)).toEqual([
      { requestRate: 200, maxConcurrency: 1 },
      { requestRate: 200, maxConcurrency: 2 },
      { requestRate: Infinity, maxConcurrency: 1 },
      { requestRate: Infinity, maxConcurrency: 2 },
    ]);
    const saved = JSON.parse(readFileSync(file ?? "", "utf8")) as {
      sweep: object;
      runs: Record<string, unknown>[];
    };
    expect(saved).toEqual(JSON.parse(JSON.stringify(report)));
    expect(saved.sweep).toEqual({
      "request-rate": [200, "inf"],
      "max-concurrency": [1, 2],
    });
    expect(
      saved.runs.map((run) => [
        run["request_rate"],
        run["max_concurrency"],
        run["max_concurrent_requests"],
        run["seed"],
        run["completed"],
      ]),
    ).toEqual([
      [200, 1, 1, 5, 4],
      [200, 2, expect.any(Number), 6, 4],
      ["inf", 1, 1, 7, 4],
      ["inf", 2, 2, 8, 4],
    ]);
    const prompts = server.received.map(({ body }) => String(body["prompt"]));
    expect(new Set(prompts).size).toBe(16);
    const lines = table.trimEnd().split("\n");
    expect(lines).toHaveLength(5);
    expect(lines[2]).toMatch(/^200 req\/s, 2 in flight +\d+\.\d\d/);
    expect(path.basename(file ?? "")).toMatch(/^sweep-openai-/);
  });

  it("reads what the server's processor time was spent on", async () => {
    let seconds = 10;
    const server = await serve(answering(1), {
      metrics: () => `process_cpu_seconds_total ${(seconds += 0.25)}\n`,
    });
    const { report, notes } = await runBench(server.url, [
      ...RANDOM,
      ...["--num-prompts", "5"],
    ]);
    expect(report["server_cpu_seconds"]).toBe(0.25);
    expect(notes).toContain(
      "The server used 0.25 s of processor time: 60 chunks and 60 tokens per processor-second.",
    );
  });

  it("keeps to --max-concurrency", async () => {
    let running = 0;
    let most = 0;
    const server = await serve(async (response, ...rest) => {
      most = Math.max(most, ++running);
      response.on("close", () => running--);
      await answering(3)(response, ...rest);
    });
    const { report } = await runBench(server.url, [
      ...RANDOM,
      ...["--num-prompts", "15", "--max-concurrency", "4"],
    ]);
    expect(most).toBeLessThanOrEqual(5); // the server sees an end a little after the client
    expect(report["max_concurrent_requests"]).toBe(4);
    expect(report["completed"]).toBe(15);
  });

  it("shows failures with their reasons and loses none", async () => {
    const server = await serve(async (response, index, received) => {
      if (index % 4 === 1) {
        response.statusCode = 503;
        response.end('{"error":{"message":"queue full","type":"overloaded"}}');
      } else if (index % 4 === 2) {
        token(response);
        event(response, { error: { message: "device lost" } });
        response.end();
      } else await answering(1)(response, index, received);
    });
    const { report, notes, table } = await runBench(server.url, [
      ...RANDOM,
      ...["--num-prompts", "9", "--save-detailed", "--result-dir", scratch],
    ]);
    expect(report).toMatchObject({
      completed: 5,
      failed: 4,
      total_output_tokens: 15,
    });
    expect(table).toContain("Failed requests:                         4 ");
    expect(notes).toContain("2 failed: HTTP 503 (overloaded): queue full");
    expect(notes).toContain("2 failed: error in the stream: device lost");
    const errors = report["errors"] as string[];
    expect(errors.filter((error) => error === "")).toHaveLength(5);
  });

  it("reads speculation from /metrics before and after", async () => {
    let drafts = 100;
    const metrics = () =>
      `vllm:spec_decode_num_drafts_total{} ${drafts}\nvllm:spec_decode_num_draft_tokens_total{} ${drafts * 4}\nvllm:spec_decode_num_accepted_tokens_total{} ${drafts * 3}\n`;
    const server = await serve(
      async (...args) => {
        drafts += 5;
        await answering(1)(...args);
      },
      { metrics },
    );
    const { report, table } = await runBench(server.url, [
      ...RANDOM,
      ...["--num-prompts", "2"],
    ]);
    expect(report).toMatchObject({
      spec_decode_num_drafts: 10,
      spec_decode_acceptance_rate: 75,
      spec_decode_acceptance_length: 4,
    });
    expect(table).toContain("Drafts:                                  10 ");
  });

  it("asks a chat in text, as long as the server's tokenizer says", async () => {
    const server = await serve(answering(1));
    const { report } = await runBench(server.url, [
      ...RANDOM,
      ...["--num-prompts", "2", "--backend", "openai-chat"],
      ...["--temperature", "0.5", "--seed", "40"],
    ]);
    expect(report).toMatchObject({
      completed: 2,
      endpoint_type: "openai-chat",
    });
    const bodies = server.received.map(({ body }) => body);
    expect(server.received[0]?.path).toBe("/v1/chat/completions");
    expect(bodies.map((body) => body["seed"]).sort()).toEqual([40, 41]);
    for (const body of bodies) {
      const [{ content }] = body["messages"] as [{ content: string }];
      expect(content.split(" ")).toHaveLength(6);
      expect(body["max_completion_tokens"]).toBe(3);
    }
  });
});

describe("a run that cannot be", () => {
  const refused: [string, string[], RegExp][] = [
    [
      "a rate for a trace",
      ["--dataset-name", "trace", "--request-rate", "3"],
      /--request-rate: a trace has its own arrival times/,
    ],
    [
      "a scale without a trace",
      ["--time-scale", "2"],
      /only traces are scaled/,
    ],
    [
      "burstiness without gaps",
      ["--burstiness", "0.5"],
      /no gaps without a finite --request-rate/,
    ],
    [
      "a sweep of a flag that is given",
      ["--sweep", "max-concurrency=1,2", "--max-concurrency", "3"],
      /--sweep max-concurrency: expected no --max-concurrency beside it, got 3/,
    ],
    [
      "a sweep of rates over a trace",
      ["--sweep", "request-rate=1", "--dataset-name", "trace"],
      /--sweep request-rate: a trace has its own arrival times/,
    ],
    [
      "a bound that is none",
      ["--goodput", "ttft:fast"],
      /--goodput: expected ttft:MS, tpot:MS or e2el:MS, got "ttft:fast"/,
    ],
    [
      "a backend that does not speak to the endpoint",
      ["--backend", "openai-chat", "--endpoint", "/v1/completions"],
      /--endpoint: the backend openai-chat speaks to a path that ends with/,
    ],
  ];
  it.each(refused)(
    "%s is refused before anything is sent",
    async (_name, args, message) => {
      const server = await serve(answering(1));
      await expect(runBench(server.url, args)).rejects.toThrow(message);
      expect(server.received).toHaveLength(0);
    },
  );

  it("a server that is not there, or has no tokenizer to ask", async () => {
    const server = await scriptedServer(answering(1));
    await expect(
      runBench(`${server.url}/elsewhere`, ["--model", "m", ...RANDOM]),
    ).rejects.toThrow(/give its directory with --tokenizer.*POST \/tokenize/);
    server.close();
    await expect(runBench(server.url, RANDOM)).rejects.toThrow(
      /Cannot ask http.*\/v1\/models.*ECONNREFUSED.*Is the server up/,
    );
    await expect(runBench("localhost:8000", RANDOM)).rejects.toThrow(
      /--base-url: expected http/,
    );
  });
});

describe("flags", () => {
  it("have vLLM's names and defaults", () => {
    expect(parseFlags([])).toMatchObject({
      datasetName: "random",
      randomInputLen: 1024,
      randomOutputLen: 128,
      percentileMetrics: ["ttft", "tpot", "itl"],
      metricPercentiles: [99],
      seed: 0,
      ignoreEos: false,
    });
    expect(
      parseFlags(
        "--request-rate inf --percentile-metrics e2el,itl --metric-percentiles 25,99.9".split(
          " ",
        ),
      ),
    ).toMatchObject({
      requestRate: Infinity,
      percentileMetrics: ["e2el", "itl"],
      metricPercentiles: [25, 99.9],
    });
  });

  it.each([
    [["--num-prompts", "0"], /at least 1/],
    [["--request-rate", "-1"], /Expected a number/],
    [["--percentile-metrics", "ttft,speed"], /Expected some of ttft,tpot/],
    [["--metric-percentiles", "101"], /from 0 to 100/],
    [["--dataset-name", "sonnet"], /Allowed choices are random/],
    [["--random-range-ratio", "1"], /from 0 to 0\.999999/],
    [["--sweep", "speed=1"], /Expected request-rate=R,R,\.\.\. or/],
    [["--sweep", "request-rate=1,fast"], /Expected a number/],
    [["--sweep", "max-concurrency=0"], /at least 1/],
    [
      ["--sweep", "max-concurrency=1", "--sweep", "max-concurrency=2"],
      /Expected max-concurrency once/,
    ],
  ])("%j is refused", (args, message) => {
    expect(() => parseFlags(args)).toThrow(message);
  });

  it("tell the endpoint from the backend and the other way round", () => {
    expect(resolveEndpoint({})).toEqual({
      backend: "openai",
      endpoint: "/v1/completions",
    });
    expect(resolveEndpoint({ backend: "openai-chat" }).endpoint).toBe(
      "/v1/chat/completions",
    );
    expect(resolveEndpoint({ endpoint: "v2/chat/completions" })).toEqual({
      backend: "openai-chat",
      endpoint: "/v2/chat/completions",
    });
  });

  it("take bounds of goodput apart or together", () => {
    expect(parseGoodput(["ttft:200", "tpot:12.5,e2el:5000"])).toEqual({
      ttft: 200,
      tpot: 12.5,
      e2el: 5000,
    });
  });
});
