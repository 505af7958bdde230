import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ScheduledBatch } from "../../src/core/batch.js";
import { packBatch } from "../../src/runner/pack.js";
import { createPlainArena } from "../../src/runner/plain-arena.js";
import { maxBiasEntries } from "../../src/runner/sampling-rows.js";
import type { StepArena } from "../../src/runner/step-arena.js";
import {
  batchOf,
  makeRequest,
  makeSequence,
  NEUTRAL_PARAMS,
} from "./support.js";

const SIZES = { maxBlocksPerSeq: 4, blockSize: 16, vocabSize: 70 };

function pack(batch: ScheduledBatch): StepArena {
  const arena = createPlainArena({
    ...SIZES,
    maxNumTokens: 256,
    maxNumSeqs: 8,
    maxNumSamples: 64,
  });
  packBatch(arena, batch, SIZES);
  return arena;
}

/** The bias entries of sampled row r, by id. */
function biasOf(arena: StepArena, r: number): Map<number, number> {
  const [from, to] = [arena.biasStart[r] ?? 0, arena.biasStart[r + 1] ?? 0];
  const entries = new Map<number, number>();
  for (let i = from; i < to; i++)
    entries.set(arena.biasId[i] ?? -1, arena.biasValue[i] ?? NaN);
  expect(entries.size).toBe(to - from); // no id twice
  return entries;
}

describe("packBatch", () => {
  it("lays the known token, the one in flight and the drafts in order", () => {
    const a = makeSequence(makeRequest([5, 6, 7]), {
      output: [8],
      slot: 3,
      blocks: [9],
    });
    const b = makeSequence(makeRequest([1, 2]), {
      output: [3],
      drafts: [4, 5],
      slot: 1,
      blocks: [2],
    });
    const arena = pack(batchOf([a, 4, 1, 1, 6], [b, 2, 3, 3]));
    expect([...arena.inputIds.slice(0, 4)]).toEqual([-7, 3, 4, 5]);
    expect([...arena.positions.slice(0, 4)]).toEqual([4, 2, 3, 4]);
    expect([...arena.slotMapping.slice(0, 4)]).toEqual([
      9 * 16 + 4,
      34,
      35,
      36,
    ]);
    expect([...arena.queryStart.slice(0, 3)]).toEqual([0, 1, 4]);
    expect([...arena.sampleRows.slice(0, 4)]).toEqual([0, 1, 2, 3]);
    expect([...arena.rowSlot.slice(0, 4)]).toEqual([3, 1, 1, 1]);
    expect([...arena.rowPosition.slice(0, 4)]).toEqual([4, 2, 3, 4]);
  });

  it("refuses a token in flight whose row nobody named", () => {
    const a = makeSequence(makeRequest([5]), { output: [8], blocks: [0] });
    expect(() => pack(batchOf([a, 2, 1, 1]))).toThrow(/in flight/);
  });

  it("adds the choice to the seed over 64 bits", () => {
    const request = makeRequest([1], { seedLo: 0xffffffff, seedHi: 7 });
    const first = makeSequence(request, { blocks: [0] });
    const third = makeSequence(request, { choice: 2, slot: 1, blocks: [1] });
    const arena = pack(batchOf([first, 0, 1, 1], [third, 0, 1, 1]));
    expect([arena.seedLo[0], arena.seedHi[0]]).toEqual([-1, 7]);
    expect([arena.seedLo[1], arena.seedHi[1]]).toEqual([1, 8]);
  });

  it("asks for the next prompt token's log-probability inside of the prompt only", () => {
    const request = makeRequest([4, 5, 6], {
      promptLogprobs: 2,
      logprobs: 5,
      temperature: 0.5,
      logitBias: [[1, 2]],
    });
    const a = makeSequence(request, { blocks: [0] });
    const arena = pack(batchOf([a, 0, 3, 3]));
    expect([...arena.targetId.slice(0, 3)]).toEqual([5, 6, -1]);
    expect([...arena.numTop.slice(0, 3)]).toEqual([2, 2, 5]);
    expect([...arena.temperature.slice(0, 3)]).toEqual([0, 0, 0.5]);
    expect([...arena.biasStart.slice(0, 4)]).toEqual([0, 0, 0, 1]);
  });

  it("merges bias by id: sums, and a ban wins", () => {
    const request = makeRequest([4], {
      logitBias: [
        [1, 2],
        [1, 3],
        [7, 100],
        [500, 1],
      ],
      badWordsTokenIds: [[7], [8], [900]],
    });
    const a = makeSequence(request, { blocks: [0] });
    expect(biasOf(pack(batchOf([a, 0, 1, 1])), 0)).toEqual(
      new Map([
        [1, 5],
        [7, -Infinity],
        [8, -Infinity],
      ]),
    );
  });

  it("holds stop tokens back until min_tokens, counting the token in flight and the drafts before the row", () => {
    const request = makeRequest([4, 5], {
      minTokens: 3,
      stopTokenIds: [9],
      eosTokenIds: [10],
    });
    const drafted = makeSequence(request, {
      output: [1],
      drafts: [2, 3],
      blocks: [0],
    });
    const arena = pack(batchOf([drafted, 2, 3, 3]));
    const banned = new Map([
      [9, -Infinity],
      [10, -Infinity],
    ]);
    expect(biasOf(arena, 0)).toEqual(banned); // 1 token of output before it
    expect(biasOf(arena, 1)).toEqual(banned); // 2
    expect(biasOf(arena, 2)).toEqual(new Map()); // 3
    const ahead = makeSequence(request, { output: [1, 1], blocks: [0] });
    expect(biasOf(pack(batchOf([ahead, 4, 1, 1, 0])), 0)).toEqual(new Map());
  });

  it("leaves eos alone under ignore_eos", () => {
    const request = makeRequest([4], {
      minTokens: 1,
      stopTokenIds: [9],
      eosTokenIds: [10],
      ignoreEos: true,
    });
    const a = makeSequence(request, { blocks: [0] });
    expect([...biasOf(pack(batchOf([a, 0, 1, 1])), 0).keys()]).toEqual([9]);
  });

  it("bans the end of a bad phrase where the output, drafts included, has the rest", () => {
    const request = makeRequest([20, 21], {
      badWordsTokenIds: [
        [20, 21, 22],
        [1, 2, 3],
      ],
      logitBias: [[3, 50]],
    });
    const a = makeSequence(request, { output: [1], drafts: [2], blocks: [0] });
    const arena = pack(batchOf([a, 2, 2, 2]));
    expect(biasOf(arena, 0)).toEqual(new Map([[3, 50]]));
    expect(biasOf(arena, 1)).toEqual(new Map([[3, -Infinity]]));
    // The prompt ends in the phrase's beginning: that is not output.
    const fresh = makeSequence(request, { blocks: [0] });
    expect(biasOf(pack(batchOf([fresh, 0, 2, 1])), 0)).toEqual(
      new Map([[3, 50]]),
    );
  });

  it("writes one mask row for each constrained row", () => {
    const free = makeSequence(makeRequest([1]), { blocks: [0] });
    const request = makeRequest([2], { allowedTokenIds: [0, 31, 32, 69, 70] });
    const bound = makeSequence(request, { slot: 1, blocks: [1] });
    const arena = pack(batchOf([free, 0, 1, 1], [bound, 0, 1, 1]));
    expect([...arena.maskRow.slice(0, 2)]).toEqual([-1, 1]);
    expect([...arena.masks.slice(3, 7)]).toEqual([
      0x80000001,
      1,
      1 << (69 - 64),
      0,
    ]);
  });

  it("keeps values that native takes although float32 rounds them away", () => {
    const request = makeRequest([1], {
      topP: 1e-300,
      repetitionPenalty: 1e300,
    });
    const a = makeSequence(request, { blocks: [0] });
    const arena = pack(batchOf([a, 0, 1, 1]));
    expect(arena.topP[0]).toBeGreaterThan(0);
    expect(arena.repetition[0]).toBeLessThan(Infinity);
  });

  it("agrees with a naive packer on any mix of sequences", () => {
    fc.assert(
      fc.property(fc.array(someSequence, { maxLength: 8 }), (shapes) => {
        const entries = shapes.map((shape, slot) => {
          const sequence = makeSequence(makeRequest(shape.prompt), {
            output: shape.output,
            slot,
            blocks: [4 * slot, 4 * slot + 2, 4 * slot + 1, 4 * slot + 3],
          });
          const start = Math.floor(shape.start * sequence.numTokens);
          const count = sequence.numTokens - start;
          return [sequence, start, count, count > 1 ? 2 : 1] as [
            typeof sequence,
            number,
            number,
            number,
          ];
        });
        const arena = pack(batchOf(...entries));
        const naive = naivePack(entries);
        const { length } = naive.inputIds;
        expect([...arena.inputIds.slice(0, length)]).toEqual(naive.inputIds);
        expect([...arena.positions.slice(0, length)]).toEqual(naive.positions);
        expect([...arena.slotMapping.slice(0, length)]).toEqual(
          naive.slotMapping,
        );
        const rows = naive.sampleRows.length;
        expect([...arena.sampleRows.slice(0, rows)]).toEqual(naive.sampleRows);
        entries.forEach(([sequence, start, count], i) => {
          expect(arena.contextLens[i]).toBe(start + count);
          const used = Math.ceil((start + count) / 16);
          expect([...arena.blockTables.slice(4 * i, 4 * i + used)]).toEqual([
            ...sequence.blockTable.ids.slice(0, used),
          ]);
        });
      }),
      { numRuns: 200 },
    );
  });
});

const someSequence = fc.record({
  prompt: fc.array(fc.nat(69), { minLength: 1, maxLength: 20 }),
  output: fc.array(fc.nat(69), { maxLength: 12 }),
  start: fc.double({ min: 0, max: 0.99, noNaN: true }),
});

function naivePack(
  entries: [ReturnType<typeof makeSequence>, number, number, number][],
): Record<"inputIds" | "positions" | "slotMapping" | "sampleRows", number[]> {
  const inputIds: number[] = [];
  const positions: number[] = [];
  const slotMapping: number[] = [];
  const sampleRows: number[] = [];
  for (const [sequence, start, count, samples] of entries) {
    for (let k = 0; k < count; k++) {
      const p = start + k;
      if (k >= count - samples) sampleRows.push(inputIds.length);
      inputIds.push(sequence.tokens[p] ?? -1);
      positions.push(p);
      slotMapping.push((sequence.blockTable.ids[p >> 4] ?? -1) * 16 + (p & 15));
    }
  }
  return { inputIds, positions, slotMapping, sampleRows };
}

describe("maxBiasEntries", () => {
  it("counts each id once", () => {
    expect(
      maxBiasEntries({
        ...NEUTRAL_PARAMS,
        logitBias: [
          [1, 1],
          [2, 1],
        ],
        badWordsTokenIds: [[2], [5, 3]],
        minTokens: 1,
        stopTokenIds: [3],
        eosTokenIds: [4],
      }),
    ).toBe(4);
  });
});
