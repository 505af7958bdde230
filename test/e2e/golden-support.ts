import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import type { PreparedModel } from "../../src/engine/prepare-model.js";
import { readSafetensorsHeader } from "../../src/loader/safetensors.js";
import type { KvCacheDType, RunnerSizes } from "../../src/runner/addon.js";
import { logitsOf, open, specOf, step } from "../native/support.js";
import type { Open } from "../native/support.js";

/** One prompt with its float64 continuation. */
export interface GoldenCase {
  prompt_token_ids: number[];
  greedy_token_ids: number[];
  /** Of the greedy tokens. */
  logprobs: number[];
  /** [tokens][5][id, log-probability], descending. */
  top5: [number, number][][];
}

export function goldenCases(directory: string): GoldenCase[] {
  const golden = JSON.parse(
    readFileSync(path.join(directory, "golden.json"), "utf8"),
  ) as GoldenCase & { cases?: GoldenCase[] };
  return golden.cases ?? [golden];
}

/** Logits [positions][vocab] of every prompt position, where the model has them. */
export function goldenLogits(directory: string): Float32Array | null {
  const file = path.join(directory, "golden", "prompt_logits.safetensors");
  if (!existsSync(file)) return null;
  const [tensor] = readSafetensorsHeader(file, file).tensors;
  if (!tensor) return null;
  const bytes = readFileSync(file).subarray(tensor.offset);
  return new Float32Array(Uint8Array.from(bytes).buffer);
}

const SIZES: RunnerSizes = {
  maxNumTokens: 64,
  maxNumSeqs: 2,
  maxNumSamples: 64,
  maxModelLen: 256,
  maxBlocksPerSeq: 16,
  numBlocks: 17,
  logitsRows: 16,
};
/** Not in order, so that a mistaken block table shows. */
const BLOCKS = [9, 3, 14, 1, 12, 7, 0, 16, 5, 11, 2, 15, 8, 4, 13, 6];

export function openModel(
  model: PreparedModel,
  device: string,
  kvCacheDtype: KvCacheDType = "f32",
): Open {
  return open(
    specOf(
      { program: model.program },
      { device, threads: 2, files: model.files, sizes: SIZES, kvCacheDtype },
    ),
  );
}

export interface Continuation {
  tokens: number[];
  logprobs: number[];
  /** Of every prompt position, [positions * vocab]. */
  promptLogits: Float32Array;
}

/** Computes the prompt in chunks, then `length` greedy tokens. */
export function generate(
  opened: Open,
  prompt: readonly number[],
  length: number,
  chunk: number,
): Continuation {
  const { vocabSize } = opened.spec.program;
  const promptLogits = new Float32Array(prompt.length * vocabSize);
  const tokens: number[] = [];
  const logprobs: number[] = [];
  for (let start = 0; start < prompt.length; start += chunk) {
    const ids = prompt.slice(start, start + chunk);
    const arena = compute(opened, start, ids, prompt.length);
    for (let i = 0; i < ids.length; i++)
      promptLogits.set(logitsOf(opened, arena, i), (start + i) * vocabSize);
    const last = ids.length - 1;
    if (start + ids.length === prompt.length) {
      tokens.push(arena.sampledIds[last] ?? -1);
      logprobs.push(arena.logprob[last] ?? NaN);
    }
  }
  while (tokens.length < length) {
    const start = prompt.length + tokens.length - 1;
    const ids = tokens.slice(-1);
    const arena = compute(opened, start, ids, prompt.length);
    tokens.push(arena.sampledIds[0] ?? -1);
    logprobs.push(arena.logprob[0] ?? NaN);
  }
  return { tokens, logprobs, promptLogits };
}

function compute(
  opened: Open,
  start: number,
  ids: number[],
  numPrompt: number,
): ReturnType<typeof step> {
  const blocks = BLOCKS.slice(0, Math.ceil((start + ids.length) / 16));
  const samples = ids.length;
  return step(opened, 0, [
    { slot: 1, start, ids, blocks, numPrompt, samples, numTop: 0 },
  ]);
}

/** sqrt(mean((a - b)^2)) / sqrt(mean(b^2)). */
export function relativeRms(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += ((a[i] ?? NaN) - (b[i] ?? NaN)) ** 2;
    norm += (b[i] ?? NaN) ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** Greedy tokens and their log-probabilities, up to the first whose two best candidates are closer than `margin`: it may come out either way. */
export function expectContinuation(
  came: Continuation,
  golden: GoldenCase,
  { margin, tolerance }: { margin: number; tolerance: number },
): void {
  const unclear = golden.top5.findIndex(
    ([first, second]) => (first?.[1] ?? 0) - (second?.[1] ?? 0) < margin,
  );
  const clear = Math.min(
    came.tokens.length,
    unclear < 0 ? golden.greedy_token_ids.length : unclear,
  );
  expect(clear).toBeGreaterThan(0);
  expect(came.tokens.slice(0, clear)).toEqual(
    golden.greedy_token_ids.slice(0, clear),
  );
  for (let i = 0; i < clear; i++)
    expect(
      Math.abs((came.logprobs[i] ?? NaN) - (golden.logprobs[i] ?? NaN)),
      `log-probability of token ${i}`,
    ).toBeLessThan(tolerance);
}
