import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  latencyBenchCommand,
  prefixBenchCommand,
  throughputBenchCommand,
} from "../../bench/engine/command.js";
import { InProcessEngine } from "../../bench/engine/in-process.js";
import type { LatencyResult } from "../../bench/engine/latency.js";
import type { MemoryPoint } from "../../bench/engine/memory.js";
import type { PrefixResult } from "../../bench/engine/prefix.js";
import type { ThroughputResult } from "../../bench/engine/throughput.js";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import {
  hasShared,
  runOctavo,
  SHARED,
  STORIES,
} from "../e2e/server-process.js";
import { writeTinyConfig } from "./tiny-config.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-bench-engine-"));
afterAll(() => rmSync(scratch, { recursive: true }));

beforeAll(() =>
  writeTinyConfig(scratch, { vocab_size: 100, max_position_embeddings: 128 }),
);

let runs = 0;
async function bench<T>(
  command: ReturnType<typeof latencyBenchCommand>,
  args: string,
): Promise<T> {
  const file = path.join(scratch, `out-${runs++}.json`);
  await command
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .parseAsync(
      `--model ${scratch} --load-format dummy --threads 1 --output-json ${file} ${args}`.split(
        " ",
      ),
      { from: "user" },
    );
  return JSON.parse(readFileSync(file, "utf8")) as T;
}

describe("octavo bench latency", () => {
  it("measures batches from prompt to last token", async () => {
    const result = await bench<LatencyResult>(
      latencyBenchCommand(),
      "--input-len 8 --output-len 5 --batch-size 3 --num-iters 4 --num-iters-warmup 1 --seed 7",
    );
    expect(result.latencies).toHaveLength(4);
    const mean = result.latencies.reduce((sum, x) => sum + x, 0) / 4;
    expect(result.avg_latency).toBeCloseTo(mean, 12);
    expect(Object.keys(result.percentiles)).toEqual([
      "10",
      "25",
      "50",
      "75",
      "90",
      "99",
    ]);
    expect(result).toMatchObject({ seed: 7, batch_size: 3, input_len: 8 });
    const { median_prefill_seconds: prefill, median_tpot_seconds: tpot } =
      result;
    expect(result.prefill_tokens_per_second).toBeCloseTo(24 / prefill, 6);
    expect(result.decode_tokens_per_second).toBeCloseTo(3 / (tpot ?? 0), 6);
    expect(result.machine.versions.node).toBe(process.version);
    expect(result.machine.ceilings.readBytesPerSecond).toBeGreaterThan(0);
  });

  it.each([
    [
      "--batch-size 100",
      /--batch-size: expected at most --max-num-seqs \(64\)/,
    ],
    ["--input-len 100 --output-len 100", /128/],
    ["--input-len 0", /at least 1/],
    ["--host 0.0.0.0", /unknown option '--host'/],
  ])("refuses %s", async (args, message) => {
    await expect(bench(latencyBenchCommand(), args)).rejects.toThrow(message);
  });

  it("passes on what the start of the engine has to say", async () => {
    const written = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    const threads = os.availableParallelism() + 1;
    await bench(
      latencyBenchCommand(),
      `--threads ${threads} --num-iters 1 --num-iters-warmup 0 --output-len 1`,
    );
    const text = written.mock.calls.map(([chunk]) => String(chunk)).join("");
    written.mockRestore();
    expect(text).toContain(`--threads ${threads}: this process may use`);
  });

  it("asks for a model", async () => {
    await expect(
      latencyBenchCommand().parseAsync([], { from: "user" }),
    ).rejects.toThrow(
      "--model: expected a model directory or a hub name (OWNER/NAME), got none",
    );
  });
});

describe("octavo bench prefix", () => {
  it("sets a cached prefix against a cold one", async () => {
    const result = await bench<PrefixResult>(
      prefixBenchCommand(),
      "--prefix-len 100 --suffix-len 5 --num-iters 3 --num-iters-warmup 1 --seed 3",
    );
    expect(result.cold_ttfts).toHaveLength(3);
    expect(result.cached_ttfts).toHaveLength(3);
    expect(result.computed_tokens).toBe(9);
    const { median_cold_ttft: cold, median_cached_ttft: cached } = result;
    expect(result.cached_share).toBeCloseTo(cached / cold, 12);
  });

  it.each([
    ["--prefix-len 0", /at least 1/],
    ["--prefix-len 128", /longer than the model's 128 tokens/],
    ["--enable-prefix-caching", /unknown option '--enable-prefix-caching'/],
  ])("refuses %s", async (args, message) => {
    await expect(bench(prefixBenchCommand(), args)).rejects.toThrow(message);
  });
});

describe("octavo bench throughput", () => {
  it("counts what ran", async () => {
    const result = await bench<ThroughputResult>(
      throughputBenchCommand(),
      "--input-len 10 --output-len 6 --num-prompts 9 --max-num-seqs 4",
    );
    expect(result).toMatchObject({
      num_requests: 9,
      total_prompt_tokens: 90,
      total_output_tokens: 54,
      total_num_tokens: 144,
    });
    expect(result.tokens_per_second).toBeCloseTo(144 / result.elapsed_time, 6);
    // Four at a time, six tokens each: three rounds at least.
    expect(result.steps).toBeGreaterThanOrEqual(18);
  });

  it("refuses requests that are longer than the model as a whole", async () => {
    await expect(
      bench(
        throughputBenchCommand(),
        "--input-len 120 --output-len 20 --num-prompts 3",
      ),
    ).rejects.toThrow(/3 of 3 requests are longer than the model's 128 tokens/);
  });

  it("refuses a data set of texts where there is no tokenizer", async () => {
    const file = path.join(scratch, "custom.jsonl");
    writeFileSync(file, '{"prompt":"Hello"}\n');
    await expect(
      bench(
        throughputBenchCommand(),
        `--dataset-name custom --dataset-path ${file} --num-prompts 1`,
      ),
    ).rejects.toThrow(/no tokenizer\.json/);
  });

  it.skipIf(!hasShared)(
    "encodes the texts of a data set (needs ../shared)",
    async () => {
      const questions = path.join(SHARED, "prompts/spec_bench.jsonl");
      const result = await bench<ThroughputResult>(
        throughputBenchCommand(),
        `--model ${STORIES} --load-format auto --dataset-name spec_bench --dataset-path ${questions} --spec-bench-category writing --spec-bench-output-len 4 --num-prompts 3`,
      );
      expect(result.total_output_tokens).toBe(12);
      expect(result.total_prompt_tokens).toBeGreaterThan(3 * 10);
    },
  );
});

describe("the engine in process", () => {
  it("gives every request its times, in order", async () => {
    const engine = await InProcessEngine.start(
      {
        ...ENGINE_DEFAULTS,
        model: scratch,
        loadFormat: "dummy",
        device: "cpu",
        threads: 1,
        maxNumSeqs: 2,
      },
      () => undefined,
    );
    const lengths = [3, 8, 5];
    const run = engine.run(
      lengths.map((outputLen) => ({
        promptTokenIds: Int32Array.of(1, 2, 3),
        outputLen,
      })),
      { temperature: 0, ignoreEos: true, seed: 0 },
    );
    engine.close();
    expect(run.timings.map(({ outputLen }) => outputLen)).toEqual(lengths);
    for (const { firstToken, lastToken } of run.timings) {
      expect(firstToken).toBeGreaterThan(0);
      expect(lastToken).toBeGreaterThan(firstToken);
      expect(lastToken).toBeLessThanOrEqual(run.seconds);
    }
  });
});

describe.skipIf(!hasShared)(
  "octavo bench startup (needs ../shared/models/stories260k)",
  () => {
    it("starts a server for each trial", async () => {
      const file = path.join(scratch, "startup.json");
      const { code, stdout, stderr } = await runOctavo(
        `bench startup --model ${STORIES} --num-iters 1 --num-iters-warmup 0 --max-num-seqs 2 --memory --speculative-config {"method":"ngram","num_speculative_tokens":2} --output-json ${file}`.split(
          " ",
        ),
      );
      expect(stderr).not.toContain("octavo:");
      expect(code).toBe(0);
      expect(stdout).toMatch(/^Avg startup time: \d/m);
      const result = JSON.parse(readFileSync(file, "utf8")) as {
        startup_times: number[];
        first_token_times: number[];
        memory: MemoryPoint[];
      };
      expect(result.startup_times).toHaveLength(1);
      expect(result.first_token_times[0]).toBeGreaterThan(
        result.startup_times[0] ?? NaN,
      );
      // The context holds 512 tokens.
      expect(stdout).toMatch(/^3 x 504 \+ 8 tokens( +\d+){5}$/m);
      expect(result.memory.map(({ tokens }) => tokens)).toEqual([
        0,
        50 * 24,
        50 * 24 + 3 * 512,
        50 * 24 + 4 * 512,
      ]);
      for (const { resident, anonymous, files, peak } of result.memory) {
        expect(files).toBeGreaterThan(0);
        expect(anonymous + files).toBeLessThanOrEqual(resident);
        expect(peak).toBeGreaterThanOrEqual(resident);
      }
    });

    it("says what the server said where it does not start", async () => {
      const { code, stderr } = await runOctavo(
        `bench startup --model ${scratch} --num-iters 1`.split(" "),
      );
      expect(code).toBe(1);
      expect(stderr).toMatch(/octavo serve ended with 1 before it listened/);
    });
  },
);
