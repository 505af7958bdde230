import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Sequence } from "../../src/core/sequence.js";
import { BlockTable } from "../../src/kv/block-table.js";
import { DraftBatch } from "../../src/spec/drafter.js";
import { NgramDrafter } from "../../src/spec/ngram-drafter.js";
import { request } from "../engine/simulation.js";

function sequenceOf(prompt: number[]): Sequence {
  return new Sequence(request({ prompt }), 0, new BlockTable(), 0);
}

function draftsOf(
  drafter: NgramDrafter,
  sequence: Sequence,
  wanted: number,
): number[] {
  const batch = new DraftBatch(1, 16);
  batch.add(sequence, wanted);
  drafter.propose(batch);
  return [...batch.draftsOf(0)];
}

/** The longest match of min..max tokens, the latest of these, by looking everywhere. */
function naiveDrafts(
  tokens: number[],
  min: number,
  max: number,
  wanted: number,
): number[] {
  let best = -1;
  let bestLength = min - 1;
  for (let end = tokens.length - 1; end >= min; end--) {
    let length = 0;
    while (
      length < Math.min(max, end) &&
      tokens[end - 1 - length] === tokens[tokens.length - 1 - length]
    )
      length++;
    if (length > bestLength) [best, bestLength] = [end, length];
  }
  if (best < 0) return [];
  const all = [...tokens];
  for (let k = 0; k < wanted; k++) all.push(all[best + k] as number);
  return all.slice(tokens.length);
}

describe("NgramDrafter", () => {
  it("finds what looking everywhere finds, token by token", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(3), { minLength: 1, maxLength: 120 }),
        fc.integer({ min: 1, max: 4 }),
        fc.nat(4),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 9 }),
        (tokens, min, more, wanted, stride) => {
          const config = { promptLookupMin: min, promptLookupMax: min + more };
          const drafter = new NgramDrafter(config);
          const sequence = sequenceOf(tokens.slice(0, 1));
          for (let n = 1; n <= tokens.length; n++) {
            if (n > 1) sequence.append(tokens[n - 1] as number);
            if (n % stride > 0) continue;
            expect(draftsOf(drafter, sequence, wanted)).toEqual(
              naiveDrafts(tokens.slice(0, n), min, min + more, wanted),
            );
          }
        },
      ),
    );
  });

  it("continues a text with a period beyond its end", () => {
    const drafter = new NgramDrafter({
      promptLookupMin: 2,
      promptLookupMax: 3,
    });
    const sequence = sequenceOf([9, 1, 2, 1, 2, 1]);
    expect(draftsOf(drafter, sequence, 5)).toEqual([2, 1, 2, 1, 2]);
  });

  it("keeps sequences apart, and forgets them", () => {
    const drafter = new NgramDrafter({
      promptLookupMin: 1,
      promptLookupMax: 1,
    });
    const one = sequenceOf([1, 2, 3, 1]);
    const other = sequenceOf([1, 5, 6, 1]);
    expect(draftsOf(drafter, one, 2)).toEqual([2, 3]);
    expect(draftsOf(drafter, other, 2)).toEqual([5, 6]);
    drafter.release(one);
    expect(draftsOf(drafter, one, 2)).toEqual([2, 3]);
    expect(draftsOf(drafter, sequenceOf([1, 2, 3]), 2)).toEqual([]);
  });

  it("looks at a bounded number of places, the latest ones", () => {
    const drafter = new NgramDrafter({
      promptLookupMin: 1,
      promptLookupMax: 4,
    });
    // The long match lies further back than is looked.
    const prompt = [1, 2, 3, 7, 8];
    for (let i = 0; i < 200; i++) prompt.push(7, 9);
    const sequence = sequenceOf([...prompt, 1, 2, 3, 7]);
    expect(draftsOf(drafter, sequence, 1)).toEqual([9]);
  });
});
