import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { ConstrainedResult } from "../../bench/grammar/constrained.js";
import { runOctavo } from "../e2e/server-process.js";
import { writeTinyConfig } from "./tiny-config.js";

const STARTER = path.join(import.meta.dirname, "../../models/starter");

const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-constrained-"));
afterAll(() => rmSync(scratch, { recursive: true }));
writeTinyConfig(scratch, {
  vocab_size: 512,
  // Steps take microseconds: streams need room for many until a grammar is compiled.
  max_position_embeddings: 131_072,
});

const bench = (args: string): ReturnType<typeof runOctavo> =>
  runOctavo(
    `bench constrained --model ${scratch} --load-format dummy --threads 1 ${args}`.split(
      " ",
    ),
  );

describe("octavo bench constrained", () => {
  it("sets constrained streams against free ones, and compiles beside both", async () => {
    const file = path.join(scratch, "out.json");
    const { code, stdout, stderr } = await bench(
      `--batch-size 3 --input-len 8 --output-len 40 --num-iters 2 --num-iters-warmup 0 --compile-ms 5 --delay-streams 1,2 --seed 7 --output-json ${file}`,
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/3 streams of 8 \+ 40 tokens, medians of 2 pairs/);
    const result = JSON.parse(readFileSync(file, "utf8")) as ConstrainedResult;
    expect(result).toMatchObject({
      bench: "constrained",
      seed: 7,
      tokenizer: "made up",
      vocab_size: 512,
    });
    const { free, constrained, output_ratio, decode_ratio } = result.throughput;
    for (const [key, ratio] of [
      ["output_tokens_per_second", output_ratio],
      ["decode_tokens_per_second", decode_ratio],
    ] as const) {
      const pairs = [0, 1].map(
        (i) => (constrained[i]?.[key] ?? NaN) / (free[i]?.[key] ?? NaN),
      );
      expect(ratio.pairs).toEqual(pairs);
      expect(ratio.median).toBeCloseTo(((pairs[0] ?? 0) + (pairs[1] ?? 0)) / 2);
    }
    expect(result.slow_properties).toBeGreaterThanOrEqual(1);
    expect(result.delays.map((one) => [one.streams, one.constrained])).toEqual([
      [1, false],
      [2, false],
      [2, true],
    ]);
    for (const { rounds, max_delay_steps } of result.delays) {
      expect(rounds.map((round) => round.starts_worker)).toEqual([
        true,
        false,
        false,
      ]);
      for (const round of rounds) {
        const { longest_gap_seconds: longest, step_seconds: step } = round;
        expect(round.compile_seconds).toBeGreaterThan(0);
        expect(longest).toBeGreaterThan(0);
        expect(round.delay_steps).toBeCloseTo(
          Math.max(0, longest / step - 1),
          6,
        );
      }
      expect(max_delay_steps).toBe(
        Math.max(...rounds.map((round) => round.delay_steps)),
      );
    }
  });

  it("takes the tokens of another model's tokenizer", async () => {
    const file = path.join(scratch, "starter.json");
    const { code, stderr } = await bench(
      `--tokenizer ${STARTER} --batch-size 1 --input-len 4 --output-len 20 --num-iters 1 --num-iters-warmup 0 --compile-ms 1 --delay-streams 1 --output-json ${file}`,
    );
    expect(code, stderr).toBe(0);
    const result = JSON.parse(readFileSync(file, "utf8")) as ConstrainedResult;
    expect(result.tokenizer).toBe(STARTER);
  });

  it.each([
    [
      "--batch-size 65",
      "--batch-size: expected at most 64 (--max-num-seqs is 64), got 65",
    ],
    [
      "--delay-streams 1,64",
      "--delay-streams: expected at most 63 (--max-num-seqs is 64), got 64",
    ],
    [
      "--max-model-len 128 --input-len 100 --output-len 29",
      "--output-len: expected at most 128 tokens together with --input-len (--max-model-len), got 100 + 29",
    ],
    [
      "--max-model-len 64 --input-len 8 --output-len 8 --num-iters 1 --batch-size 2 --compile-ms 5",
      "--max-model-len: a stream had ended after 56 tokens",
    ],
    ["--speculative-config {}", "unknown option '--speculative-config'"],
  ])("refuses %s", async (args, message) => {
    const { code, stderr } = await bench(args);
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
  });
});
