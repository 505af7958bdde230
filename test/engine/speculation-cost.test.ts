import { afterEach, describe, expect, it, vi } from "vitest";
import type { ScheduledBatch } from "../../src/core/batch.js";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { Sequence } from "../../src/core/sequence.js";
import type { SpeculativeMethod } from "../../src/core/speculative-config.js";
import { Engine } from "../../src/engine/engine.js";
import type { ModelRunner, StepOutput } from "../../src/runner/runner.js";
import type { DraftBatch, Drafter } from "../../src/spec/drafter.js";
import {
  makeRunner,
  OracleDrafter,
  request,
  text,
  WORLD,
  type DraftWorld,
} from "./simulation.js";

/** Milliseconds: now, and when the device has computed all that was launched. */
let clock = 0;
let free = 0;
afterEach(() => vi.restoreAllMocks());

/** What things take, in milliseconds. */
interface Costs {
  /** Of a step of so many rows on the device. */
  step: (rows: number) => number;
  /** Of the engine's thread, for each step: while the device computes where it is scheduled ahead. */
  host: number;
  /** Of a proposal, for each sequence. */
  proposal: number;
  /** Of a draft model, for each token that it has not seen: it has seen nothing of a new sequence. */
  reading: number | null;
  /** Proposals take their time from a step that computes meanwhile: all cores are the device's. */
  busy?: boolean;
}

/** The fake model on a device that takes time: launches compute one after the other. */
function timed(runner: ModelRunner, { step, host }: Costs): ModelRunner {
  const ends: number[] = [];
  return {
    limits: runner.limits,
    memory: runner.memory,
    launch(batch: ScheduledBatch): void {
      clock += host / 2;
      free = Math.max(free, clock) + step(batch.numTokens);
      ends.push(free);
      runner.launch(batch);
    },
    setMask: (row, mask) => runner.setMask(row, mask),
    sample: () => runner.sample(),
    collect(): StepOutput {
      clock = Math.max(clock, ends.shift() ?? 0) + host / 2;
      return runner.collect();
    },
    close: () => runner.close(),
  };
}

/** Drafts as the oracle does, and takes its time. */
class TimedDrafter implements Drafter {
  readonly method: SpeculativeMethod;
  private readonly oracle: OracleDrafter;
  private readonly seen = new Map<Sequence, number>();

  constructor(
    drafts: DraftWorld,
    private readonly costs: Costs,
  ) {
    this.oracle = new OracleDrafter(drafts, null);
    this.method = costs.reading === null ? "ngram" : "draft_model";
  }

  numUnseen(sequence: Sequence): number {
    if (this.costs.reading === null) return 0;
    return sequence.numTokens - 1 - (this.seen.get(sequence) ?? 0);
  }

  propose(batch: DraftBatch): void {
    const { proposal, reading, busy } = this.costs;
    let took = 0;
    for (let i = 0; i < batch.count; i++) {
      const sequence = batch.sequence(i);
      took += proposal + (reading ?? 0) * this.numUnseen(sequence);
      this.seen.set(sequence, sequence.numTokens);
    }
    if (busy && free > clock) free += took;
    clock += took;
    this.oracle.propose(batch);
  }

  release(sequence: Sequence): void {
    this.seen.delete(sequence);
    this.oracle.release(sequence);
  }

  reset(): void {
    this.seen.clear();
  }

  close(): void {
    this.seen.clear();
  }
}

interface Load {
  batchSize: number;
  promptLen: number;
  outputLen: number;
  numBatches: number;
}

/** Milliseconds that the load takes, batch after batch. */
function timeOf(load: Load, costs: Costs, drafts: DraftWorld | null): number {
  clock = free = 0;
  vi.spyOn(performance, "now").mockImplementation(() => clock);
  const world = { ...WORLD, maxNumSeqs: 16, maxNumBatchedTokens: 512, drafts };
  const engine = new Engine(
    timed(makeRunner({ ...world, numBlocks: 256 }), costs),
    {
      ...ENGINE_DEFAULTS,
      ...world,
      speculativeConfig: drafts && {
        method: "ngram",
        promptLookupMin: 1,
        promptLookupMax: 1,
        ...drafts,
      },
    },
    drafts ? { drafter: new TimedDrafter(drafts, costs) } : {},
  );
  const { batchSize, promptLen, outputLen, numBatches } = load;
  for (let batch = 0; batch < numBatches; batch++) {
    for (let i = 0; i < batchSize; i++)
      engine.add(
        request({
          prompt: text(promptLen, batch * batchSize + i),
          params: { maxTokens: outputLen, ignoreEos: true },
        }),
      );
    while (!engine.idle) engine.step();
  }
  return clock;
}

const DRAFTS: DraftWorld = {
  numSpeculativeTokens: 3,
  adaptive: true,
  spareRows: 64,
  rightness: 0.9,
  readiness: 1,
};
const NEVER_RIGHT: DraftWorld = { ...DRAFTS, rightness: 0 };
/** Short answers, as copying has them: of each the first steps decide. */
const SHORT: Load = {
  batchSize: 16,
  promptLen: 40,
  outputLen: 14,
  numBatches: 100,
};
const ALONE: Load = { ...SHORT, batchSize: 1, numBatches: 250 };

/** Rows cost nearly what they bring: a small model on a processor, at a large batch. */
const BY_ROWS = (rows: number): number => 0.4 + 0.12 * rows;
/** Reading the weights is most of it. */
const BY_WEIGHTS = (rows: number): number => 4 + 0.08 * rows;
const LOOKUP = { host: 0.2, proposal: 0.008, reading: null };
const MODEL = { host: 0.2, proposal: 0.2, reading: 0.08 };

describe("speculation in time", () => {
  it.each<[string, Load, Costs, DraftWorld]>([
    ["wrong lookups", SHORT, { step: BY_ROWS, ...LOOKUP }, NEVER_RIGHT],
    [
      "rows that cost what they bring",
      SHORT,
      { step: BY_ROWS, ...LOOKUP },
      DRAFTS,
    ],
    [
      "lookups that come now and then",
      SHORT,
      { step: BY_ROWS, ...LOOKUP, busy: true },
      { ...DRAFTS, readiness: 0.2 },
    ],
    [
      "a proposal that takes as long as a step",
      SHORT,
      { step: BY_ROWS, ...LOOKUP, proposal: 0.12, busy: true },
      NEVER_RIGHT,
    ],
    [
      "a draft model that is wrong",
      ALONE,
      { step: BY_WEIGHTS, ...MODEL },
      NEVER_RIGHT,
    ],
    [
      "answers too short for what a draft model reads",
      { ...ALONE, promptLen: 200, outputLen: 5 },
      { step: BY_WEIGHTS, ...MODEL, reading: 0.2 },
      DRAFTS,
    ],
    [
      "a draft model at a batch that is too large for it",
      SHORT,
      { step: BY_ROWS, ...MODEL, reading: 0.02 },
      DRAFTS,
    ],
  ])("costs at most 2 %% (%s)", (_name, load, costs, drafts) => {
    const plain = timeOf(load, costs, null);
    expect(timeOf(load, costs, drafts) / plain).toBeLessThan(1.02);
  });

  it.each<[string, Load, Costs, DraftWorld, number]>([
    ["lookups", ALONE, { step: BY_WEIGHTS, ...LOOKUP }, DRAFTS, 2],
    [
      "lookups that come now and then",
      ALONE,
      { step: BY_WEIGHTS, ...LOOKUP },
      { ...DRAFTS, readiness: 0.7 },
      1.3,
    ],
    [
      "a draft model",
      { ...ALONE, outputLen: 60, numBatches: 60 },
      { step: BY_WEIGHTS, ...MODEL },
      DRAFTS,
      1.8,
    ],
    [
      "a draft model that reads for longer than a few steps take",
      { ...ALONE, promptLen: 190, outputLen: 60, numBatches: 60 },
      { step: BY_WEIGHTS, ...MODEL, reading: 0.2 },
      DRAFTS,
      1.4,
    ],
  ])("pays (%s)", (_name, load, costs, drafts, least) => {
    const plain = timeOf(load, costs, null);
    expect(plain / timeOf(load, costs, drafts)).toBeGreaterThan(least);
  });
});
