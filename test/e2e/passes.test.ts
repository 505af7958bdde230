/** Steps of more rows than the host computes together (native/passes.h). */
import path from "node:path";
import { describe, expect, it, vi } from "vitest";
import type { Request } from "../../src/core/request.js";
import { openEngine, type Outcome } from "./native-engine.js";
import { randomSource, requestOf } from "./random-requests.js";
import { hasShared, SHARED } from "./server-process.js";

const PASS_ROWS = 512;
const random = randomSource(11);

function prompt(length: number): number[] {
  return Array.from({ length }, () => 3 + Math.floor(random() * 509));
}

/** Sequences that end on a pass's last row, begin on one, lie across one, two or none; prompts whose every row is asked for. */
const REQUESTS: readonly Request[] = [
  requestOf(1, prompt(512), { maxTokens: 6 }),
  requestOf(2, prompt(1), { maxTokens: 9 }),
  requestOf(3, prompt(30), { maxTokens: 1, promptLogprobs: 0 }),
  requestOf(4, prompt(1000), { maxTokens: 4, temperature: 0.8, seedLo: 3 }),
  requestOf(5, prompt(20), { maxTokens: 8, logprobs: 2 }),
  requestOf(6, prompt(400), { maxTokens: 5, repetitionPenalty: 1.3 }),
];

interface Ran {
  outcomes: Map<string, Outcome>;
  /** Rows of the largest step. */
  mostRows: number;
}

async function run(model: string, maxNumBatchedTokens: number): Promise<Ran> {
  const { engine, outcomes, ...opened } = await openEngine(
    path.join(SHARED, "models", model),
    {
      maxNumBatchedTokens,
      maxModelLen: 1024,
      maxNumSeqs: 8,
      numGpuBlocksOverride: 256,
    },
  );
  let mostRows = 0;
  const step = engine.step.bind(engine);
  vi.spyOn(engine, "step").mockImplementation(() => {
    const result = step();
    mostRows = Math.max(mostRows, result?.stats.iterationTokens ?? 0);
    return result;
  });
  opened.run(REQUESTS, REQUESTS.length);
  opened.close();
  return { outcomes, mostRows };
}

describe.skipIf(!hasShared).each([
  "tiny-llama3",
  "tiny-qwen2-awq",
  "tiny-mistral", // a window of 24 positions
])("%s (needs ../shared)", (model) => {
  it("gives the same bits in steps of several passes as in steps of one", async () => {
    const several = await run(model, 2048);
    const one = await run(model, PASS_ROWS);
    expect(several.mostRows).toBeGreaterThan(3 * PASS_ROWS);
    expect(one.mostRows).toBe(PASS_ROWS);
    expect(several.outcomes.size).toBe(REQUESTS.length);
    expect(several.outcomes).toEqual(one.outcomes);
  });
});
