import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SequenceStatus } from "../../src/core/sequence.js";
import type { Sequence } from "../../src/core/sequence.js";
import { FakeRunner, fakeToken } from "../../src/runner/fake-runner.js";
import { FaultPlan } from "../../src/runner/fault-plan.js";
import type { Fault } from "../../src/runner/fault-plan.js";
import { DraftBatch } from "../../src/spec/drafter.js";
import { ModelDrafter } from "../../src/spec/model-drafter.js";
import { text, VOCAB } from "../engine/simulation.js";
import { sequenceOf } from "../kv/sequences.js";

const LONG = process.env.OCTAVO_LONG !== undefined;
const MAX_DRAFTS = 5;
const MAX_SEQS = 4;

interface Limits {
  numBlocks?: number;
  maxNumTokens?: number;
  maxModelLen?: number;
  slidingWindow?: number | null;
  enablePrefixCaching?: boolean;
  vocabSize?: number;
  faults?: Fault[];
}

function drafterOf(limits: Limits = {}) {
  const { slidingWindow = null, enablePrefixCaching = true } = limits;
  let faults = new FaultPlan(limits.faults ?? []);
  let numOpened = 0;
  const open = (): FakeRunner => {
    numOpened++;
    return new FakeRunner({
      maxNumTokens: limits.maxNumTokens ?? 64,
      maxNumSeqs: MAX_SEQS,
      maxNumSamples: MAX_SEQS,
      maxModelLen: limits.maxModelLen ?? 256,
      numBlocks: limits.numBlocks ?? 64,
      vocabSize: limits.vocabSize ?? VOCAB,
      slidingWindow,
      faults,
    });
  };
  const drafter = new ModelDrafter(open(), {
    reopen: () => {
      faults = new FaultPlan([]);
      return open();
    },
    enablePrefixCaching,
    slidingWindow,
  });
  return { drafter, numOpened: () => numOpened };
}

/** What the fake model says after the sequence. */
function oracle(
  sequence: Sequence,
  count: number,
  slidingWindow: number | null = null,
): number[] {
  const tokens = [...sequence.tokens.subarray(0, sequence.numTokens)];
  const { seedLo, seedHi } = sequence.request.params;
  const drafts: number[] = [];
  for (let i = 0; i < count; i++) {
    const { token } = fakeToken(
      tokens,
      tokens.length,
      seedLo,
      seedHi,
      VOCAB,
      slidingWindow,
    );
    tokens.push(token);
    drafts.push(token);
  }
  return drafts;
}

/** The drafts of each sequence, in its slot. */
function propose(
  drafter: ModelDrafter,
  sequences: Sequence[],
  wanted: number[] = sequences.map(() => MAX_DRAFTS),
): number[][] {
  const batch = new DraftBatch(MAX_SEQS, MAX_DRAFTS);
  sequences.forEach((sequence, i) => {
    sequence.status = SequenceStatus.running;
    sequence.slot = i;
    batch.add(sequence, wanted[i] ?? MAX_DRAFTS);
  });
  drafter.propose(batch);
  drafter.checkIntegrity();
  return sequences.map((_, i) => [...batch.draftsOf(i)]);
}

describe("a draft model", () => {
  it("says what it would sample, for all sequences in one go", () => {
    const { drafter } = drafterOf();
    const sequences = [3, 20, 33].map((length, i) =>
      sequenceOf(text(length, i)),
    );
    const wanted = [1, 5, 3];
    expect(propose(drafter, sequences, wanted)).toEqual(
      sequences.map((sequence, i) => oracle(sequence, wanted[i] ?? 0)),
    );
  });

  it("goes on from drafts that came true and from those that did not", () => {
    const { drafter } = drafterOf();
    const sequence = sequenceOf(text(20));
    for (const accepted of [0, 5, 2, 5, 5, 1, 0]) {
      const [drafts = []] = propose(drafter, [sequence]);
      expect(drafts).toEqual(oracle(sequence, MAX_DRAFTS));
      for (const draft of drafts.slice(0, accepted)) sequence.append(draft);
      sequence.append(((drafts[accepted] ?? 0) + 1) % VOCAB);
    }
    // A draft came true, and nothing else is known yet.
    const [[first = 0] = []] = [propose(drafter, [sequence])[0]];
    sequence.append(first);
    expect(propose(drafter, [sequence])).toEqual([
      oracle(sequence, MAX_DRAFTS),
    ]);
  });

  it("reads a long prompt in chunks, while others get drafts", () => {
    const { drafter } = drafterOf({ maxNumTokens: 32 });
    const short = sequenceOf(text(4));
    const long = sequenceOf(text(90, 1));
    const counts = [0, 1, 2, 3].map(() => {
      const [first, second] = propose(drafter, [short, long]);
      short.append(7);
      return [first?.length, second?.length];
    });
    // 4 + 28, 1 + 31, 1 + 31 tokens.
    expect(counts).toEqual([
      [5, 0],
      [5, 0],
      [5, 5],
      [5, 5],
    ]);
  });

  it("finds prompts that it knows, of the same cache salt", () => {
    const { drafter } = drafterOf({ maxNumTokens: 16 });
    const ask = (salt: string): number => {
      const sequence = sequenceOf(text(40), salt);
      let calls = 1;
      while (propose(drafter, [sequence])[0]?.length === 0) calls++;
      expect(propose(drafter, [sequence])).toEqual([oracle(sequence, 5)]);
      drafter.release(sequence);
      return calls;
    };
    expect(ask("a")).toBe(3);
    expect(ask("a")).toBe(1);
    expect(ask("b")).toBe(3);
  });

  it("leaves out what finds no room, until there is some", () => {
    const { drafter } = drafterOf({ numBlocks: 4 });
    const first = sequenceOf(text(40));
    const second = sequenceOf(text(30, 1));
    const lengths = () =>
      propose(drafter, [first, second]).map(({ length }) => length);
    expect(lengths()).toEqual([5, 0]);
    expect(lengths()).toEqual([5, 0]);
    drafter.release(first);
    expect(propose(drafter, [second])).toEqual([oracle(second, 5)]);
  });

  it("takes the blocks of a sequence that is left out", () => {
    const { drafter } = drafterOf({ numBlocks: 4 });
    const idle = sequenceOf(text(40));
    const busy = sequenceOf(text(30, 1));
    propose(drafter, [idle]);
    expect(propose(drafter, [busy])).toEqual([oracle(busy, 5)]);
    drafter.release(busy);
    expect(propose(drafter, [idle])).toEqual([oracle(idle, 5)]);
  });

  it("has nothing to say beyond its length and its vocabulary", () => {
    const { drafter } = drafterOf({ maxModelLen: 32, vocabSize: 90 });
    expect(
      propose(drafter, [sequenceOf(new Array(28).fill(1))])[0],
    ).toHaveLength(5);
    expect(propose(drafter, [sequenceOf(new Array(29).fill(1))])[0]).toEqual(
      [],
    );
    const foreign = sequenceOf([1, 2, 3]);
    expect(propose(drafter, [foreign])[0]).toHaveLength(5);
    foreign.append(95);
    expect(propose(drafter, [foreign])[0]).toEqual([]);
    foreign.append(1);
    expect(propose(drafter, [foreign])[0]).toEqual([]);
  });
});

describe("a device error", () => {
  it.each<{ fault: Fault }>([
    { fault: { kind: "launch", n: 1 } },
    { fault: { kind: "launch", n: 3 } },
    { fault: { kind: "collect", n: 2 } },
  ])("of $fault ends drafting and nothing else", ({ fault }) => {
    const { drafter } = drafterOf({ faults: [fault] });
    const sequence = sequenceOf(text(20));
    propose(drafter, [sequence]);
    expect(propose(drafter, [sequence])).toEqual([[]]);
    expect(drafter.failure).toContain("the fake device was lost");
    drafter.release(sequence);
    drafter.reset();
    expect(propose(drafter, [sequenceOf(text(3))])).toEqual([[]]);
    drafter.close();
  });

  it("of the target brings another runner, and the sequences go on", () => {
    const { drafter, numOpened } = drafterOf();
    const sequence = sequenceOf(text(40));
    propose(drafter, [sequence]);
    drafter.reset();
    expect(propose(drafter, [sequence])).toEqual([oracle(sequence, 5)]);
    expect(numOpened()).toBe(2);
    expect(drafter.failure).toBeNull();
  });
});

describe("any schedule", () => {
  const turn = fc.record({
    start: fc.option(
      fc.record({ length: fc.integer({ min: 1, max: 70 }), seed: fc.nat(3) }),
      { nil: null },
    ),
    release: fc.option(fc.nat(3), { nil: null }),
    reset: fc.integer({ min: 0, max: 20 }).map((n) => n === 0),
    leftOut: fc.option(fc.nat(3), { nil: null }),
    wanted: fc.array(fc.integer({ min: 1, max: MAX_DRAFTS }), {
      minLength: MAX_SEQS,
      maxLength: MAX_SEQS,
    }),
    accepted: fc.array(fc.nat(MAX_DRAFTS), {
      minLength: MAX_SEQS,
      maxLength: MAX_SEQS,
    }),
    shuffle: fc.boolean(),
  });
  const world = fc.record({
    numBlocks: fc.integer({ min: 3, max: 24 }),
    maxNumTokens: fc.integer({ min: 4, max: 64 }),
    slidingWindow: fc.constantFrom(null, 16, 40),
    enablePrefixCaching: fc.boolean(),
  });

  it("brings drafts that the model would sample, and blocks that add up", () => {
    let drafted = 0;
    fc.assert(
      fc.property(world, fc.array(turn, { maxLength: 25 }), (limits, turns) => {
        const { drafter } = drafterOf(limits);
        let live: Sequence[] = [];
        for (const turn of turns) {
          if (turn.start && live.length < MAX_SEQS)
            live.push(sequenceOf(text(turn.start.length, turn.start.seed)));
          const ended = live[turn.release ?? -1];
          if (ended) {
            live = live.filter((sequence) => sequence !== ended);
            drafter.release(ended);
          }
          if (turn.reset) drafter.reset();
          if (turn.shuffle) live.reverse();
          const asked = live.filter((_, i) => i !== turn.leftOut);
          const proposed = propose(drafter, asked, turn.wanted);
          asked.forEach((sequence, i) => {
            const drafts = proposed[i] ?? [];
            drafted += drafts.length;
            expect(drafts.length).toBeLessThanOrEqual(turn.wanted[i] ?? 0);
            expect(drafts).toEqual(
              oracle(sequence, drafts.length, limits.slidingWindow),
            );
            const accepted = turn.accepted[i] ?? 0;
            if (sequence.numTokens > 200) return;
            for (const draft of drafts.slice(0, accepted))
              sequence.append(draft);
            sequence.append((accepted * 31) % VOCAB);
          });
        }
        for (const sequence of live) drafter.release(sequence);
        drafter.checkIntegrity();
        expect(drafter.failure).toBeNull();
      }),
      { numRuns: LONG ? 10_000 : 300 },
    );
    expect(drafted).toBeGreaterThan(1000);
  });
});
