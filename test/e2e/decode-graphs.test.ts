/**
 * Decode graphs on the CUDA kernels (cuda-sim): a step that replays one gives the bits of a step launched op by op,
 * whatever its context, its samplings and the slot it is in. `npm run build:cuda-sim` builds the library.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { prepareModel } from "../../src/engine/prepare-model.js";
import { addonFile } from "../../src/runner/addon.js";
import type { RunnerSizes } from "../../src/runner/addon.js";
import { Timing } from "../../src/runner/step-arena.js";
import type { StepArena } from "../../src/runner/step-arena.js";
import { open, pack, packSampling, specOf, step } from "../native/support.js";
import type { Open, SequenceRows } from "../native/support.js";
import { openEngine } from "./native-engine.js";
import { requestOf } from "./random-requests.js";
import { hasShared, SHARED } from "./server-process.js";

const LONG = process.env["OCTAVO_LONG"] === "1";
const LIBRARY = path.join(path.dirname(addonFile()), "liboctavo_cuda-sim.so");
const runs = existsSync(LIBRARY) && hasShared;
const MODEL = path.join(SHARED, "models", "tiny-llama3");

vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

if (!runs)
  it.skip("decode graphs: need npm run build:cuda-sim and ../shared", () =>
    undefined);

describe.runIf(runs)("one graph serves any context", () => {
  /** A short prompt and longer ones than a segment of attention (512 positions), decoded together. */
  const requests = (sampling: object) =>
    (LONG ? [40, 530, 1010] : [40, 530]).map((length, i) =>
      requestOf(
        i + 1,
        Array.from({ length }, (_, p) => 3 + ((p * 7 + i) % 500)),
        { maxTokens: 5, temperature: i, seedLo: i, ...sampling },
      ),
    );

  it.each([
    ["sampling in it", { logprobs: null }],
    ["sampling behind it", { repetitionPenalty: 1.1, topP: 0.9 }],
  ])("with %s", async (_, sampling) => {
    const outcomes = [];
    for (const enforceEager of [false, true]) {
      const engine = await openEngine(MODEL, {
        device: "cuda-sim",
        maxNumSeqs: 12,
        numGpuBlocksOverride: 512,
        enforceEager,
        maxModelLen: 1024,
        maxNumBatchedTokens: 512,
      });
      engine.run(requests(sampling), 3);
      engine.close();
      outcomes.push(engine.outcomes);
    }
    expect(outcomes[0]).toEqual(outcomes[1]);
    expect(outcomes[0]?.get("2.0")?.tokens.length).toBe(5);
  });
});

describe.runIf(runs)("a replayed step", () => {
  const SIZES: RunnerSizes = {
    maxNumTokens: 64,
    maxNumSeqs: 4,
    maxNumSamples: 8,
    maxModelLen: 64,
    maxBlocksPerSeq: 4,
    numBlocks: 16,
    logitsRows: 4,
  };
  let runners: [graphs: Open, eager: Open];
  beforeAll(async () => {
    const model = await prepareModel({
      model: MODEL,
      modelFile: null,
      loadFormat: "auto",
    });
    const openWith = (graphRows: number[]): Open =>
      open(
        specOf(model, {
          device: "cuda-sim",
          files: model.files,
          sizes: SIZES,
          kvCacheDtype: "f16",
          graphRows: Int32Array.from(graphRows),
        }),
      );
    runners = [openWith([1, 4]), openWith([])];
  });
  afterAll(() => runners.forEach(({ runner }) => runner.close()));

  const PROMPTS = [
    [5, 9, 14, 3],
    [77, 12],
    [300, 4, 18, 45, 6],
  ];
  const sequenceOf = (s: number): SequenceRows => ({
    slot: s,
    start: 0,
    ids: PROMPTS[s] ?? [],
    blocks: [s * 4, s * 4 + 1],
    numPrompt: PROMPTS[s]?.length ?? 0,
    seed: 100 + s,
    temperature: s,
  });

  /** Prompts, then four decoding steps one ahead of their results, whose tokens the host names by row. */
  function decode(opened: Open, kind: Partial<SequenceRows>) {
    const sequences = PROMPTS.map((_, s) => ({ ...sequenceOf(s), ...kind }));
    const results = [resultOf(step(opened, 0, sequences))];
    const sampleSeconds: (number | undefined)[] = [];
    let start = 0;
    const launch = (slot: 0 | 1): void => {
      const decoding = sequences.map((sequence, s) => ({
        ...sequence,
        start: (PROMPTS[s]?.length ?? 0) + start,
        ids: [-1 - s],
      }));
      start++;
      const counts = pack(opened, opened.arenas[slot], decoding);
      const { numTokens, numSeqs, numSamples } = counts;
      const masked = kind.allowed !== undefined;
      opened.runner.launch(slot, numTokens, numSeqs, numSamples, masked);
      if (!masked) return;
      decoding.forEach((sequence, r) =>
        packSampling(opened.spec, opened.arenas[slot], r, sequence),
      );
      opened.runner.sample(slot);
    };
    launch(1);
    for (const slot of [0, 1, 0] as const) {
      launch(slot);
      collect((1 - slot) as 0 | 1);
    }
    collect(0);
    function collect(slot: 0 | 1): void {
      opened.runner.collect(slot);
      const arena = opened.arenas[slot];
      results.push(resultOf(arena));
      sampleSeconds.push(arena.timings[Timing.sample]);
    }
    return { results, sampleSeconds };
  }

  const resultOf = (arena: StepArena): object => ({
    ids: arena.sampledIds.slice(0, 3),
    logprob: arena.logprob.slice(0, 3),
    rank: arena.rank.slice(0, 3),
    top: arena.topIds.slice(0, 2),
    logits: arena.logits?.slice(0, 3 * 512),
  });

  it.each<[string, boolean, Partial<SequenceRows>]>([
    ["greedy", true, { temperature: 0 }],
    ["greedy and drawn", true, {}],
    ["drawn, with penalties", false, { repetition: 1.2, presence: 0.5 }],
    ["with biases", false, { bias: [[7, 3]] }],
    ["with log-probabilities", false, { numTop: 2 }],
    ["with a target", false, { targetId: 11 }],
    ["constrained", false, { allowed: [3, 40, 41, 99, 300] }],
  ])("%s (sampled in the graph: %s)", (_, inGraph, kind) => {
    const [graphs, eager] = runners.map((opened) => decode(opened, kind));
    expect(graphs?.results).toEqual(eager?.results);
    // Sampling in a graph is no stage of its own.
    for (const seconds of graphs?.sampleSeconds ?? [])
      expect(seconds === 0).toBe(inGraph);
    for (const seconds of eager?.sampleSeconds ?? [])
      expect(seconds).toBeGreaterThan(0);
  });
});
