import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { speculationBenchCommand } from "../../bench/engine/command.js";
import type { SpeculationResult } from "../../bench/engine/speculation.js";
import { writeTinyConfig } from "./tiny-config.js";

const STARTER = path.join(import.meta.dirname, "../../models/starter");
const NGRAM = {
  method: "ngram",
  num_speculative_tokens: 4,
  prompt_lookup_min: 1,
  adaptive: false,
};

const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-bench-spec-"));
afterAll(() => rmSync(scratch, { recursive: true }));
writeTinyConfig(scratch, { vocab_size: 100, max_position_embeddings: 256 });

let runs = 0;
async function bench(
  model: string,
  args: string,
  speculation: object | null = NGRAM,
): Promise<SpeculationResult> {
  const file = path.join(scratch, `out-${runs++}.json`);
  await speculationBenchCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .parseAsync(
      [
        ...`--model ${model} --threads 1 --output-json ${file} ${args}`.split(
          " ",
        ),
        ...(speculation
          ? ["--speculative-config", JSON.stringify(speculation)]
          : []),
      ],
      { from: "user" },
    );
  return JSON.parse(readFileSync(file, "utf8")) as SpeculationResult;
}

describe("octavo bench speculation", () => {
  it("compares made-up weights with themselves, by batch size", async () => {
    const { cases, ...result } = await bench(
      scratch,
      "--load-format dummy --output-len 80 --num-prompts 3 --num-iters 2 --batch-sizes 1,2",
    );
    expect(result).toMatchObject({
      bench: "speculation",
      speculative_config: { method: "ngram", numSpeculativeTokens: 4 },
    });
    expect(cases.map((one) => [one.prompts, one.batch_size])).toEqual([
      ["random", 1],
      ["random", 2],
    ]);
    for (const one of cases) {
      const { pairs, speed_up, plain_tokens_per_second: plain } = one;
      expect(pairs).toHaveLength(2);
      const [low, middle, high] = one.pair_quartiles;
      expect(middle).toBeCloseTo(((pairs[0] ?? 0) + (pairs[1] ?? 0)) / 2, 12);
      expect(low + high).toBeCloseTo(2 * middle, 12);
      expect(speed_up).toBe(one.speculative_tokens_per_second / plain);
      expect(one.num_drafts).toBeGreaterThan(0);
      expect(one.acceptance_length).toBeCloseTo(
        1 + one.num_accepted_tokens / one.num_drafts,
        12,
      );
      expect(one.num_draft_tokens).toBeGreaterThan(one.num_accepted_tokens);
      for (const { rows, seconds } of one.step_seconds_by_rows) {
        expect(rows).toBeLessThanOrEqual(5 * one.batch_size);
        expect(seconds).toBeGreaterThan(0);
      }
    }
    // Three prompts are three batches of 1 and two of 2, of 79 tokens after the first, in 2 iterations.
    expect(cases.map((one) => one.output_tokens)).toEqual([
      2 * 3 * 79,
      2 * 4 * 79,
    ]);
  });

  it("asks a chat model to copy, to extract and to tell", async () => {
    const { cases } = await bench(
      STARTER,
      "--output-len 24 --num-prompts 2 --num-iters 1 --num-iters-warmup 0 --batch-sizes 2 --max-model-len 256",
      {
        method: "draft_model",
        model: path.join(STARTER, "draft"),
        num_speculative_tokens: 2,
        adaptive: false,
      },
    );
    expect(cases.map(({ prompts }) => prompts)).toEqual([
      "random",
      "copying",
      "extraction",
      "chat",
    ]);
    // The draft agrees with 96 % of what the starter says.
    const chat = cases.find(({ prompts }) => prompts === "chat");
    expect(chat?.acceptance_length).toBeGreaterThan(2);
    expect(chat?.draft_share).toBeGreaterThan(0);
  });

  it.each([
    ["--num-iters 1", null, /--speculative-config: expected what/],
    ["--prompts chat", NGRAM, /--prompts: .* no tokenizer\.json/],
    ["--batch-sizes 1,65", NGRAM, /--batch-sizes: .*\(64\), got 65/],
  ])("refuses %j", async (args, speculation, message) => {
    await expect(
      bench(scratch, `--load-format dummy ${args}`, speculation),
    ).rejects.toThrow(message);
  });
});
