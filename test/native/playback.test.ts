import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { naiveLogits } from "./naive-llama.js";
import {
  logitsOf,
  open,
  pack,
  packSampling,
  removeTemporaryFolders,
  specOf,
  step,
  tinyLlama,
} from "./support.js";
import type { Open, TinyLlama } from "./support.js";

let model: TinyLlama;
const opened: Open[] = [];
const TOKENS = Array.from({ length: 41 }, (_, i) => (i * 7 + 3) % 40);
const BLOCKS = [5, 2, 9];

function openModel(device: string, sizes = {}): Open {
  const spec = specOf(model, { device });
  const made = open({ ...spec, sizes: { ...spec.sizes, ...sizes } });
  opened.push(made);
  return made;
}

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++)
    if ((values[i] ?? 0) > (values[best] ?? 0)) best = i;
  return best;
}

beforeAll(() => {
  model = tinyLlama();
});
afterAll(() => {
  for (const { runner } of opened) runner.close();
  removeTemporaryFolders();
});

describe.each(["reference", "cpu"])("playback on %s", (device) => {
  it("gives the logits of plain arithmetic, in slices of logitsRows", () => {
    const runner = openModel(device);
    const arena = step(runner, 0, [
      { slot: 0, start: 0, ids: TOKENS, blocks: BLOCKS, samples: 9, numTop: 2 },
    ]);
    const expected = naiveLogits(model, TOKENS).slice(-9);
    expected.forEach((row, r) => {
      logitsOf(runner, arena, r).forEach((value, i) =>
        expect(value).toBeCloseTo(row[i] ?? NaN, 3),
      );
      expect(arena.sampledIds[r]).toBe(argmax(row));
      expect(arena.topIds[r * 20]).toBe(argmax(row));
      expect(arena.rank[r]).toBe(1);
    });
    expect(arena.timings[5]).toBeGreaterThan(0);
  });

  it("gives bitwise the same logits whole, chunked, and beside another sequence", () => {
    const whole = openModel(device);
    const reference = step(whole, 0, [
      { slot: 0, start: 0, ids: TOKENS, blocks: BLOCKS, samples: 1 },
    ]);
    const wanted = logitsOf(whole, reference, 0);

    const chunked = openModel(device);
    const other = TOKENS.map((id) => (id + 11) % 40);
    step(chunked, 0, [
      {
        slot: 1,
        start: 0,
        ids: other.slice(0, 30),
        blocks: [1, 3],
        samples: 0,
      },
      {
        slot: 2,
        start: 0,
        ids: TOKENS.slice(0, 17),
        blocks: BLOCKS,
        samples: 0,
      },
    ]);
    step(chunked, 1, [
      {
        slot: 2,
        start: 17,
        ids: TOKENS.slice(17, 18),
        blocks: BLOCKS,
        samples: 1,
      },
    ]);
    const arena = step(chunked, 0, [
      { slot: 2, start: 18, ids: TOKENS.slice(18), blocks: BLOCKS, samples: 1 },
      {
        slot: 1,
        start: 30,
        ids: other.slice(30),
        blocks: [1, 3, 4],
        samples: 1,
      },
    ]);
    expect(logitsOf(chunked, arena, 0)).toEqual(wanted);
    const expected = naiveLogits(model, other).at(-1) ?? [];
    logitsOf(chunked, arena, 1).forEach((value, i) =>
      expect(value).toBeCloseTo(expected[i] ?? NaN, 3),
    );
  });

  it.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])(
    "fills in the previous launch's tokens for negative ids, with two launches in flight (left to collect: %j, %j)",
    (...onCollect) => {
      const plain = openModel(device);
      const prompts = [TOKENS.slice(0, 9), TOKENS.slice(5, 10)];
      const first = step(
        plain,
        0,
        prompts.map((ids, s) => ({ slot: s, start: 0, ids, blocks: [s] })),
      );
      const ids = Array.from(first.sampledIds.subarray(0, 2));
      const second = step(
        plain,
        1,
        prompts.map((p, s) => ({
          slot: s,
          start: p.length,
          ids: [ids[s] ?? 0],
          blocks: [s],
        })),
      );
      const expected = Array.from(second.sampledIds.subarray(0, 2));
      const logits = [logitsOf(plain, second, 0), logitsOf(plain, second, 1)];

      const ahead = openModel(device);
      const launch = (slot: 0 | 1, sequences: Parameters<typeof pack>[2]) => {
        const counts = pack(ahead, ahead.arenas[slot], sequences);
        ahead.runner.launch(
          slot,
          counts.numTokens,
          counts.numSeqs,
          counts.numSamples,
          false,
          onCollect[slot],
        );
      };
      launch(
        0,
        prompts.map((p, s) => ({ slot: s, start: 0, ids: p, blocks: [s] })),
      );
      // The other order, so that rows and sequences are not the same numbers.
      launch(
        1,
        [1, 0].map((s) => ({
          slot: s,
          start: (prompts[s] ?? []).length,
          ids: [-1 - s],
          blocks: [s],
        })),
      );
      ahead.runner.collect(0);
      expect(Array.from(ahead.arenas[0].sampledIds.subarray(0, 2))).toEqual(
        ids,
      );
      ahead.runner.collect(1);
      expect(Array.from(ahead.arenas[1].sampledIds.subarray(0, 2))).toEqual(
        expected.reverse(),
      );
      expect(logitsOf(ahead, ahead.arenas[1], 0)).toEqual(logits[1]);
      expect(logitsOf(ahead, ahead.arenas[1], 1)).toEqual(logits[0]);
    },
  );

  it.each([false, true])(
    "waits for masks with deferSampling, with more sample rows than logitsRows (left to collect: %j)",
    (onCollect) => {
      const runner = openModel(device);
      const [arena] = runner.arenas;
      const rows = {
        slot: 0,
        start: 0,
        ids: TOKENS,
        blocks: BLOCKS,
        samples: 9,
      };
      const counts = pack(runner, arena, [rows]);
      runner.runner.launch(
        0,
        counts.numTokens,
        counts.numSeqs,
        counts.numSamples,
        true,
        onCollect,
      );
      // A second launch may be queued behind it, and feed on it.
      const next = pack(runner, runner.arenas[1], [
        { slot: 0, start: 41, ids: [-9], blocks: BLOCKS },
      ]);
      runner.runner.launch(
        1,
        next.numTokens,
        next.numSeqs,
        next.numSamples,
        false,
        onCollect,
      );
      for (let r = 0; r < 9; r++)
        packSampling(runner.spec, arena, r, {
          ...rows,
          allowed: [r + 1, 20 + r],
          bias: [[20 + r, -Infinity]],
        });
      runner.runner.sample(0);
      runner.runner.collect(0);
      expect(Array.from(arena.sampledIds.subarray(0, 9))).toEqual([
        1, 2, 3, 4, 5, 6, 7, 8, 9,
      ]);
      runner.runner.collect(1);
      const expected = naiveLogits(model, [...TOKENS, 9]).at(-1) ?? [];
      logitsOf(runner, runner.arenas[1], 0).forEach((value, i) =>
        expect(value).toBeCloseTo(expected[i] ?? NaN, 3),
      );
    },
  );

  it("computes a launch that is left to collect on the thread that collects", async () => {
    const expected = step(openModel(device), 0, [
      { slot: 0, start: 0, ids: TOKENS.slice(0, 9), blocks: [0] },
    ]).sampledIds[0];
    const { runner, arenas, spec } = openModel(device);
    const [arena] = arenas;
    const counts = pack({ runner, arenas, spec }, arena, [
      { slot: 0, start: 0, ids: TOKENS.slice(0, 9), blocks: [0] },
    ]);
    arena.sampledIds[0] = -7;
    runner.launch(
      0,
      counts.numTokens,
      counts.numSeqs,
      counts.numSamples,
      false,
      true,
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(arena.sampledIds[0]).toBe(-7);
    runner.collect(0);
    expect(arena.sampledIds[0]).toBe(expected);
  });

  it("penalises what setHistory and earlier launches put into a sequence's history", () => {
    const runner = openModel(device);
    const favourite =
      step(runner, 0, [
        { slot: 0, start: 0, ids: TOKENS.slice(0, 17), blocks: BLOCKS },
      ]).sampledIds[0] ?? 0;
    const without = logitsOf(runner, runner.arenas[0], 0);
    // As if positions 0..15 came from the prefix cache: the same KV, a history of favourites as output.
    const cached = {
      slot: 3,
      start: 16,
      ids: TOKENS.slice(16, 17),
      blocks: BLOCKS,
      presence: 1.5,
      numPrompt: 0,
    };
    runner.runner.setHistory(1, 3, new Int32Array(16).fill(favourite));
    const biased = without.map((v, i) =>
      i === favourite || i === TOKENS[16] ? v - 1.5 : v,
    );
    expect(step(runner, 1, [cached]).sampledIds[0]).toBe(argmax(biased));
    // The same tokens as prompt are not penalised by presence.
    const prompt = step(runner, 0, [{ ...cached, numPrompt: 17 }]);
    expect(prompt.sampledIds[0]).toBe(favourite);
  });
});

it("runs several runners at once", () => {
  const runners = [openModel("cpu"), openModel("reference"), openModel("cpu")];
  const ids = runners.map(() => TOKENS.slice(0, 12));
  runners.forEach((runner, i) => {
    const counts = pack(runner, runner.arenas[0], [
      { slot: 0, start: 0, ids: ids[i] ?? [], blocks: [i] },
    ]);
    runner.runner.launch(
      0,
      counts.numTokens,
      counts.numSeqs,
      counts.numSamples,
      false,
    );
  });
  const expected = argmax(naiveLogits(model, TOKENS.slice(0, 12)).at(-1) ?? []);
  for (const runner of runners) {
    runner.runner.collect(0);
    expect(runner.arenas[0].sampledIds[0]).toBe(expected);
  }
});
