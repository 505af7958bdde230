import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ARENA_ARRAYS } from "../../src/runner/step-arena.js";
import type { StepArena } from "../../src/runner/step-arena.js";
import {
  open,
  pack,
  removeTemporaryFolders,
  specOf,
  tinyLlama,
} from "./support.js";
import type { Open, SequenceRows } from "./support.js";

let opened: Open[];
beforeAll(() => {
  const model = tinyLlama();
  opened = ["cpu", "reference"].map((device) =>
    open(specOf(model, { device })),
  );
});
afterAll(() => {
  for (const { runner } of opened) runner.close();
  removeTemporaryFolders();
});

const ROWS: SequenceRows[] = [
  {
    slot: 3,
    start: 0,
    ids: [5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4],
    blocks: [3, 4],
    samples: 3,
    numTop: 3,
  },
  {
    slot: 2,
    start: 14,
    ids: [7, 8],
    blocks: [6],
    samples: 1,
    allowed: [1, 2, 3],
    temperature: 0.7,
    repetition: 1.2,
  },
  {
    slot: 0,
    start: 99,
    ids: [39],
    blocks: [7, 8, 9, 10, 11, 12, 13],
    bias: [
      [3, 1],
      [4, -Infinity],
    ],
    targetId: 5,
  },
];

const INPUTS = (Object.keys(ARENA_ARRAYS) as (keyof StepArena)[]).filter(
  (name) =>
    ![
      "sampledIds",
      "logprob",
      "rank",
      "targetLogprob",
      "targetRank",
      "topIds",
      "topLogprobs",
      "timings",
    ].includes(name),
);

/** One write of a value into an array, mostly near the start, where the batch is. */
const WRITE = fc.record({
  name: fc.constantFrom(...INPUTS),
  index: fc.oneof(
    { weight: 8, arbitrary: fc.nat(21) },
    { weight: 1, arbitrary: fc.nat(100_000) },
  ),
  value: fc.oneof(
    fc.integer({ min: -3, max: 60 }),
    fc.integer(),
    fc.constantFrom(
      0,
      1,
      -1,
      15,
      16,
      39,
      40,
      99,
      100,
      0.5,
      NaN,
      Infinity,
      -Infinity,
      1e38,
      -1e38,
      1e-38,
      2 ** 31 - 1,
      -(2 ** 31),
    ),
  ),
});
const COUNT = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: -30, max: 30 }) },
);

it("any arena and any counts are refused with a code or computed, also after a deferred launch", () => {
  let computed = 0;
  let refused = 0;
  const attempt = (action: () => void): boolean => {
    try {
      action();
      return true;
    } catch (error) {
      const { code, message } = error as Error & { code?: string };
      expect(code, message).toBe("ERR_OCTAVO_ARGUMENT");
      refused++;
      return false;
    }
  };
  const writeAll = (
    arena: StepArena,
    writes: { name: keyof StepArena; index: number; value: number }[],
  ) => {
    for (const { name, index, value } of writes) {
      const array = arena[name];
      if (array && index < array.length) array[index] = value;
    }
  };
  const writes = fc.array(WRITE, { maxLength: 4 });
  fc.assert(
    fc.property(
      fc.nat(1),
      fc.constantFrom<0 | 1>(0, 1),
      writes,
      fc.tuple(COUNT, COUNT, COUNT),
      fc.option(writes, { nil: null }),
      fc.boolean(),
      (device, slot, before, [tokens, seqs, samples], deferred, onCollect) => {
        const target = opened[device];
        if (!target) throw new Error("no runner");
        const { runner, arenas } = target;
        const counts = pack(target, arenas[slot], ROWS);
        writeAll(arenas[slot], before);
        const launch = () =>
          runner.launch(
            slot,
            counts.numTokens + tokens,
            counts.numSeqs + seqs,
            counts.numSamples + samples,
            deferred !== null,
            onCollect,
          );
        if (!attempt(launch)) {
          expect(runner.state).toBe("ready");
          return;
        }
        if (deferred !== null) {
          writeAll(arenas[slot], deferred);
          if (!attempt(() => runner.sample(slot))) {
            pack(target, arenas[slot], ROWS);
            runner.sample(slot);
          }
        }
        runner.collect(slot);
        computed++;
        const numSamples = counts.numSamples + samples;
        for (let r = 0; r < numSamples; r++) {
          const id = arenas[slot].sampledIds[r] ?? -1;
          expect(id >= 0 && id < 40).toBe(true);
        }
      },
    ),
    { numRuns: Number(process.env["OCTAVO_FUZZ_RUNS"] ?? 2000) },
  );
  // Both happen often, so that neither side of the door goes untested.
  expect(computed).toBeGreaterThan(100);
  expect(refused).toBeGreaterThan(100);
});
