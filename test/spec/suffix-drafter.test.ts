import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Sequence } from "../../src/core/sequence.js";
import { ContextIndex } from "../../src/spec/token-contexts.js";
import { DraftBatch } from "../../src/spec/drafter.js";
import { RecentOutputs } from "../../src/spec/recent-outputs.js";
import { SuffixDrafter } from "../../src/spec/suffix-drafter.js";
import { sequenceOf } from "../kv/sequences.js";
import { NaiveSuffix } from "./naive-suffix.js";

const LONG = process.env.OCTAVO_LONG !== undefined;

const CONFIG = {
  method: "suffix" as const,
  numSpeculativeTokens: 8,
  suffixDecodingMaxTreeDepth: 24,
  suffixDecodingMaxCachedRequests: 100,
  suffixDecodingMaxSpecFactor: 1,
  suffixDecodingMinTokenProb: 0.1,
};

function grow(sequence: Sequence, tokens: number[]): void {
  for (const token of tokens) sequence.append(token);
}

function draftsOf(
  drafter: SuffixDrafter,
  sequence: Sequence,
  wanted = 8,
): number[] {
  const batch = new DraftBatch(4, 8);
  batch.add(sequence, wanted);
  drafter.propose(batch);
  return [...batch.draftsOf(0)];
}

/** What a drafter says about a text that nothing was said of before. */
function continued(text: number[], changes: Partial<typeof CONFIG> = {}) {
  return draftsOf(
    new SuffixDrafter({ ...CONFIG, ...changes }),
    sequenceOf(text),
  );
}

const letters = (text: string): number[] =>
  [...text].map((letter) => letter.charCodeAt(0));

describe("the text itself", () => {
  it("is continued as before, as far as the match is long", () => {
    // Matched "the " (4), so 4 drafts.
    expect(continued(letters("the cat; xthe "))).toEqual(letters("cat;"));
    expect(
      continued(letters("the cat; xthe "), {
        suffixDecodingMaxSpecFactor: 0.5,
      }),
    ).toEqual(letters("ca"));
    expect(
      continued(letters("the cat; xthe "), { suffixDecodingMaxTreeDepth: 6 }),
    ).toEqual(letters("cat"));
  });

  it("goes on in its own drafts", () => {
    expect(continued(letters("abcabcabcabc"))).toEqual(letters("abcabcab"));
  });

  it("needs two tokens that came before", () => {
    expect(continued(letters("abcdc"))).toEqual([]);
    expect(continued([7])).toEqual([]);
  });

  it("follows the most frequent continuation; of equals the latest", () => {
    expect(continued(letters("ab1 ab2 ab2 ab3 xab"))[0]).toBe(letters("2")[0]);
    expect(continued(letters("ab1.ab2,zab"))[0]).toBe(letters("2")[0]);
  });

  it("stops where the path is less likely than asked for", () => {
    const text = letters("abc1 abc2 abc3 abc4 xabc");
    expect(continued(text)).toHaveLength(3);
    expect(continued(text, { suffixDecodingMinTokenProb: 0.3 })).toEqual([]);
  });
});

describe("recent outputs", () => {
  function finished(salt: string, prompt: string, output: string): Sequence {
    const sequence = sequenceOf(letters(prompt), salt);
    grow(sequence, letters(output));
    return sequence;
  }

  it("continue other requests; their prompts do not", () => {
    const drafter = new SuffixDrafter(CONFIG);
    drafter.release(finished("", "secret: 12345678", "the quick brown fox"));
    const ask = (text: string) => draftsOf(drafter, sequenceOf(letters(text)));
    expect(ask("a quick ")).toEqual(letters("brown f"));
    expect(ask("secret: ")).toEqual([]);
  });

  it("are those of the same cache salt alone", () => {
    const drafter = new SuffixDrafter(CONFIG);
    drafter.release(finished("mine", "?", "the quick brown fox"));
    const ask = (cacheSalt: string) =>
      draftsOf(drafter, sequenceOf(letters("a quick "), cacheSalt));
    expect(ask("")).toEqual([]);
    expect(ask("yours")).toEqual([]);
    expect(ask("mine")).toEqual(letters("brown f"));
  });

  it("go first in, first out", () => {
    const drafter = new SuffixDrafter({
      ...CONFIG,
      suffixDecodingMaxCachedRequests: 2,
    });
    const ask = () => draftsOf(drafter, sequenceOf(letters("a quick ")));
    drafter.release(finished("", "?", "the quick brown fox"));
    drafter.release(finished("other", "?", "something else"));
    expect(ask()).toHaveLength(7);
    drafter.release(finished("", "?", "and more"));
    expect(ask()).toEqual([]);
  });

  it("are not kept where none are to be", () => {
    const drafter = new SuffixDrafter({
      ...CONFIG,
      suffixDecodingMaxCachedRequests: 0,
    });
    drafter.release(finished("", "?", "the quick brown fox"));
    expect(draftsOf(drafter, sequenceOf(letters("a quick ")))).toEqual([]);
  });

  it("stay within their tokens, whatever comes", () => {
    const recent = new RecentOutputs(1000, 1, 256);
    const text = Int32Array.from({ length: 400 }, (_, i) => i % 10);
    for (let i = 0; i < 500; i++) {
      recent.add(`salt ${i % 3}`, text, 0, i % 100);
      expect(recent.index.size).toBeLessThanOrEqual(256);
    }
    recent.add("long", text, 0, 400);
    expect(recent.numOutputs).toBe(1);
    expect(recent.index.size).toBe(256);
    expect(recent.groupOf("salt 0")).toBeNull();
    recent.clear();
    expect(recent.index.size).toBe(0);
    expect(recent.groupOf("long")).toBeNull();
  });
});

describe("against the definition", () => {
  const token = fc.integer({ min: 0, max: 3 });
  const text = (maxLength: number) => fc.array(token, { maxLength });
  const config = fc.record({
    depth: fc.integer({ min: 1, max: 40 }),
    factor: fc.constantFrom(0, 0.4, 1, 1.5, 4),
    probability: fc.constantFrom(0, 0.1, 0.3, 1),
    cached: fc.integer({ min: 0, max: 6 }),
  });
  const salt = fc.constantFrom("", "a", "b");
  const event = fc.record({
    salt,
    prompt: fc.array(token, { minLength: 1, maxLength: 60 }),
    grows: fc.array(text(12), { maxLength: 4 }),
    wanted: fc.integer({ min: 1, max: 8 }),
  });

  it("proposes the same over random requests", () => {
    let drafted = 0;
    fc.assert(
      fc.property(
        config,
        fc.array(event, { maxLength: 12 }),
        ({ depth, factor, probability, cached }, events) => {
          const options = {
            ...CONFIG,
            suffixDecodingMaxTreeDepth: depth,
            suffixDecodingMaxSpecFactor: factor,
            suffixDecodingMinTokenProb: probability,
            suffixDecodingMaxCachedRequests: cached,
          };
          const drafter = new SuffixDrafter(options);
          const naive = new NaiveSuffix(options);
          for (const { salt: cacheSalt, prompt, grows, wanted } of events) {
            const sequence = sequenceOf(prompt, cacheSalt);
            for (const tokens of [[], ...grows]) {
              grow(sequence, tokens);
              const all = [...sequence.tokens.subarray(0, sequence.numTokens)];
              const drafts = draftsOf(drafter, sequence, wanted);
              drafted += drafts.length;
              expect(drafts).toEqual(naive.propose(cacheSalt, all, wanted));
            }
            drafter.release(sequence);
            naive.add(cacheSalt, grows.flat());
          }
        },
      ),
      { numRuns: LONG ? 5000 : 150 },
    );
    expect(drafted).toBeGreaterThan(100);
  });
});

describe("the index", () => {
  it("starts its positions over before they run out", () => {
    const index = new ContextIndex(3, 256);
    const found = new Int32Array(32);
    const context = Int32Array.of(1, 2);
    for (const token of [1, 2, 3]) index.append(token, 0);
    index.endText();
    // As after 2^30 tokens.
    index.drop(4);
    index.head = index.tail = 2 ** 30 - 2;
    for (const token of [1, 2, 4, 1, 2, 5]) index.append(token, 0);
    expect(index.head).toBeLessThan(64);
    const count = index.find(context, 2, 0, 0, index.head, found);
    const after = [...found.subarray(0, count)].map((p) => index.token(p + 1));
    expect(after).toEqual([5, 4]);
  });
});
