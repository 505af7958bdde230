import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FinishReason } from "../../src/core/request.js";
import type { SchedulerConfig } from "../../src/scheduler/scheduler-config.js";
import { text } from "../engine/simulation.js";
import { Bench } from "./scheduler-bench.js";

/** A step has room for the longest sequence, and cuts none. */
function wholeBench(config: Partial<SchedulerConfig> = {}): Bench {
  return new Bench({
    enableChunkedPrefill: false,
    maxModelLen: 64,
    maxNumBatchedTokens: 64,
    ...config,
  });
}

describe("without chunked prefill", () => {
  it("a prompt waits for a step with room for all of it, and nobody overtakes it", () => {
    const bench = wholeBench();
    const first = bench.add({ prompt: text(40, 1) }).handle;
    const long = bench.add({ prompt: text(30, 2) }).handle;
    const short = bench.add({ prompt: text(5, 3) }).handle;
    expect(bench.step()).toEqual([[first, 0, 40, 1]]);
    expect(bench.step()).toEqual([
      [first, 40, 1, 1],
      [long, 0, 30, 1],
      [short, 0, 5, 1],
    ]);
  });

  it("tokens of those that decode come first, and a prompt waits until enough of them have ended", () => {
    const bench = wholeBench();
    const young = bench.add({ prompt: text(5, 1), params: { maxTokens: 3 } });
    const old = bench.add({ prompt: text(5, 2), params: { maxTokens: 5 } });
    bench.step();
    const whole = bench.add({ prompt: text(63, 3) }).handle;
    const decode = (handle: number, start: number) => [handle, start, 1, 1];
    expect(bench.step()).toEqual([
      decode(young.handle, 5),
      decode(old.handle, 5),
    ]);
    expect(bench.step()).toEqual([
      decode(young.handle, 6),
      decode(old.handle, 6),
    ]);
    expect(bench.step()).toEqual([decode(old.handle, 7), [whole, 0, 63, 1]]);
  });

  it("what is cached of a prompt takes no room", () => {
    const bench = wholeBench();
    const prompt = text(48, 1);
    bench.add({ prompt, params: { maxTokens: 1 } });
    bench.step();
    const other = bench.add({ prompt: text(45, 2) }).handle;
    const known = bench.add({ prompt }).handle;
    expect(bench.step()).toEqual([
      [other, 0, 45, 1],
      [known, 32, 16, 1],
    ]);
  });

  it("a prompt that waited is looked up again when a step has more room", () => {
    const bench = wholeBench();
    const prompt = text(48, 1);
    bench.add({ prompt, params: { maxTokens: 1 } });
    const same = bench.add({ prompt }).handle;
    expect(bench.step()).toHaveLength(1);
    expect(bench.step()).toEqual([[same, 32, 16, 1]]);
    expect(bench.scheduler.admission).toMatchObject({
      prefixQueries: 96,
      prefixHits: 32,
    });
  });

  it("what was preempted is recomputed whole", () => {
    const bench = wholeBench({
      numBlocks: 6,
      maxModelLen: 96,
      maxNumBatchedTokens: 96,
      enablePrefixCaching: false,
    });
    const [a, b, c] = [1, 2, 3].map(
      (seed) =>
        bench.add({ prompt: text(31, seed), params: { maxTokens: 60 } }).handle,
    );
    bench.step();
    bench.step();
    expect(bench.step().map(([handle]) => handle)).toEqual([a, b]);
    expect(bench.scheduler.numPreemptions).toBe(1);
    bench.scheduler.abort(a ?? 0, -1, FinishReason.abort);
    expect(bench.step()[1]).toEqual([c, 0, 33, 1]);
  });

  it("a prompt whose log-probabilities are wanted is cut to the free sample rows all the same", () => {
    const bench = wholeBench();
    const { handle } = bench.add({
      prompt: text(10),
      params: { promptLogprobs: 0, maxTokens: 1 },
    });
    expect(bench.step()).toEqual([[handle, 0, 4, 4]]);
    expect(bench.step()).toEqual([[handle, 4, 4, 4]]);
    expect(bench.step()).toEqual([[handle, 8, 2, 2]]);
  });

  it.each([{ maxNumBatchedTokens: 63 }, { longPrefillTokenThreshold: 20 }])(
    "nothing cuts what can't be cut: %o is refused",
    (config) => {
      expect(() => wholeBench(config)).toThrow(/what is not cut fits/);
    },
  );
});

const NUM_RUNS = process.env["OCTAVO_LONG"] ? 5_000 : 150;
const MODEL_LEN = 64;

const runs = fc.record({
  spareTokens: fc.nat(40),
  spareBlocks: fc.nat(20),
  maxNumSeqs: fc.integer({ min: 1, max: 8 }),
  spareRows: fc.nat(8),
  enablePrefixCaching: fc.boolean(),
  schedulingPolicy: fc.constantFrom("fcfs" as const, "priority" as const),
  requests: fc.array(
    fc.record({
      length: fc.integer({ min: 1, max: MODEL_LEN - 1 }),
      seed: fc.nat(2),
      maxTokens: fc.nat(40),
      promptLogprobs: fc.constantFrom(null, null, null, 0),
      n: fc.constantFrom(1, 1, 3),
      priority: fc.nat(2),
      stepsBefore: fc.nat(4),
    }),
    { minLength: 1, maxLength: 12 },
  ),
});

/** One step: what it leaves out was there to be left out, and what it computes it computes to the end. */
function checkedStep(bench: Bench): void {
  const { scheduler, batch } = bench;
  const { runningSequences } = scheduler;
  const before = Array.from({ length: runningSequences.length }, (_, i) =>
    runningSequences.at(i),
  );
  const numQueued = scheduler.numQueued;
  expect(bench.step().length + numQueued).toBeGreaterThan(0);
  for (let i = 0; i < batch.numSeqs; i++) {
    const sequence = batch.sequence(i);
    const end = (batch.start[i] as number) + (batch.count[i] as number);
    const known =
      sequence.numTokens - ((batch.samplesOf[i] as number) > 0 ? 1 : 0);
    if (sequence.request.params.promptLogprobs === null)
      expect(end).toBe(known);
  }
  const computed = new Set(
    Array.from({ length: batch.numSeqs }, (_, i) => batch.sequence(i)),
  );
  for (const sequence of before)
    expect(computed.has(sequence) || sequence.slot === -1).toBe(true);
}

it(
  "without chunked prefill no prompt is cut, no decode left out, and everything ends",
  { timeout: 3_600_000 },
  () => {
    let numPreemptions = 0;
    fc.assert(
      fc.property(runs, ({ requests, spareTokens, spareBlocks, ...config }) => {
        const bench = wholeBench({
          ...config,
          maxModelLen: MODEL_LEN,
          maxNumBatchedTokens: MODEL_LEN + spareTokens,
          numBlocks: MODEL_LEN / 16 + spareBlocks,
          maxNumSamples: config.maxNumSeqs + config.spareRows,
        });
        const { scheduler } = bench;
        const step = () => {
          if (scheduler.hasUnfinished) checkedStep(bench);
        };
        for (const { length, seed, n, priority, ...rest } of requests) {
          for (let i = 0; i < rest.stepsBefore; i++) step();
          const { maxTokens, promptLogprobs } = rest;
          const params = { maxTokens, promptLogprobs, seedLo: seed };
          bench.add({ prompt: text(length, seed), n, priority, params });
        }
        for (let i = 0; scheduler.hasUnfinished; i++) {
          expect(i).toBeLessThan(2000);
          step();
        }
        numPreemptions += scheduler.numPreemptions;
      }),
      { numRuns: NUM_RUNS },
    );
    expect(numPreemptions).toBeGreaterThan(0);
  },
);
