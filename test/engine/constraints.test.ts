import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { MaskSource, TokenMatcher } from "../../src/core/constraint.js";
import { FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import { fakeToken } from "../../src/runner/fake-runner.js";
import { request, Simulation, text, VOCAB } from "./simulation.js";
import type { DraftWorld, World } from "./simulation.js";

const EOS = 0;
const WORDS = Math.ceil(VOCAB / 32);
/** The grammar in which nothing follows the third token. */
const DEAD_END = 99;

/**
 * A toy grammar: each token is congruent, modulo 5, to the sum of those before it plus the grammar's number; the end may
 * come after two tokens and must after twelve. [] where nothing can follow.
 */
function allowed(grammar: number, output: readonly number[]): number[] {
  if (grammar === DEAD_END && output.length === 3) return [];
  if (output.length === 12) return [EOS];
  const rest = (output.reduce((sum, token) => sum + token, 0) + grammar) % 5;
  const ids: number[] = output.length < 2 ? [] : [EOS];
  for (let id = 1; id < VOCAB; id++) if (id % 5 === rest) ids.push(id);
  return ids;
}

function maskOf(ids: readonly number[]): Uint32Array {
  const mask = new Uint32Array(WORDS);
  for (const id of ids)
    mask[id >>> 5] = (mask[id >>> 5] as number) | (1 << (id & 31));
  return mask;
}

/** Of what may follow the output, and then each draft, as MaskSource has it. */
function masksOf(
  grammar: number,
  output: readonly number[],
  drafts: Int32Array,
): (Uint32Array | null)[] {
  const masks: (Uint32Array | null)[] = [];
  let open = true;
  for (let k = 0; k <= drafts.length; k++) {
    const ids: number[] = open
      ? allowed(grammar, [...output, ...drafts.subarray(0, k)])
      : [];
    masks.push(ids.length > 0 ? maskOf(ids) : null);
    const draft = drafts[k] ?? -1;
    open = draft !== EOS && ids.includes(draft);
  }
  return masks;
}

class ToySource implements MaskSource {
  numOpen = 0;

  open({ grammar }: { grammar: number }): TokenMatcher {
    this.numOpen++;
    let masks: (Uint32Array | null)[] = [];
    let askedRow = -1;
    return {
      begin(tokens, from, to, drafts, row) {
        masks = masksOf(grammar, [...tokens.subarray(from, to)], drafts);
        askedRow = row;
      },
      finish(row) {
        const mask = masks[row - askedRow];
        if (mask === undefined) throw new Error(`row ${row} was not asked for`);
        return mask;
      },
      close: () => void this.numOpen--,
    };
  }
}

interface Expected {
  tokens: number[];
  finish: FinishReason;
}

/** The token that goes on with `wanted`, whose beginning may be there already. */
function nextOf(wanted: readonly number[], tokens: readonly number[]): number {
  for (let n = wanted.length - 1; n > 0; n--)
    if (tokens.slice(-n).join() === wanted.slice(0, n).join())
      return wanted[n] as number;
  return wanted[0] as number;
}

/** The choice alone, by the definition of the fake model and of the toy grammar. */
function naive({ promptTokenIds, params, constraint }: Request, choice = 0) {
  const all = [...promptTokenIds];
  const tokens: number[] = [];
  const { startAfter, freeTokens, grammar } = constraint ?? {
    startAfter: [],
    freeTokens: null,
    grammar: null,
  };
  let start = startAfter.length === 0 ? 0 : -1;
  while (tokens.length < params.maxTokens) {
    let ids: number[] | null = null;
    if (start >= 0 && grammar) {
      ids = allowed(grammar.grammar, tokens.slice(start));
      if (ids.length === 0)
        return { tokens, finish: FinishReason.stuck } satisfies Expected;
    } else if (start < 0 && freeTokens !== null && tokens.length >= freeTokens)
      ids = [nextOf(startAfter, tokens)];
    else if (start < 0 && grammar)
      ids = Array.from({ length: VOCAB - 1 }, (_, i) => i + 1);
    const { token } = fakeToken(
      all,
      all.length,
      (params.seedLo + choice) | 0,
      params.seedHi,
      VOCAB,
      null,
      ids && maskOf(ids),
    );
    all.push(token);
    tokens.push(token);
    const tail = tokens.slice(tokens.length - startAfter.length);
    if (start < 0 && tail.join() === startAfter.join()) start = tokens.length;
    if (grammar && token === EOS)
      return { tokens, finish: FinishReason.stop } satisfies Expected;
  }
  return { tokens, finish: FinishReason.length } satisfies Expected;
}

function expectNaive(simulation: Simulation, sent: Request): void {
  for (let choice = 0; choice < sent.n; choice++)
    expect(simulation.outcome(sent, choice)).toMatchObject({
      ...naive(sent, choice),
      numFinished: 1,
    });
}

const ends = { stopTokenIds: [EOS], eosTokenIds: [EOS] };

function constrained(
  seed: number,
  grammar: number,
  fields: Partial<Request> = {},
): Request {
  return request({
    prompt: text(3 + ((seed * 11) % 60), seed % 3),
    params: { ...ends, maxTokens: 20, seedLo: seed },
    constraint: {
      grammar: { channel: 0, grammar, endTokenIds: [EOS] },
      startAfter: [],
      freeTokens: null,
    },
    ...fields,
  });
}

const drafts: DraftWorld = {
  numSpeculativeTokens: 5,
  adaptive: false,
  spareRows: 40,
  rightness: 0.6,
  readiness: 0.95,
  oracle: ({ request: sent, choice, numOutputTokens }, count) =>
    naive(sent, choice).tokens.slice(numOutputTokens, numOutputTokens + count),
};

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each<[string, Partial<World>]>([
  ["one step ahead", { asyncScheduling: true }],
  ["not ahead", { asyncScheduling: false }],
  ["with drafts", { drafts }],
])("%s", (_name, loop) => {
  it("keeps each output inside of its grammar, beside free ones, with n > 1", () => {
    const source = new ToySource();
    const simulation = new Simulation(loop, undefined, {
      masks: source,
    });
    const sent: Request[] = [];
    for (let i = 0; i < 30; i++) {
      const free = request({
        prompt: text(10, i),
        params: { maxTokens: 9, seedLo: i },
      });
      const next = i % 3 === 0 ? free : constrained(i, i, { n: 1 + (i % 2) });
      sent.push(simulation.add(next));
      simulation.step();
    }
    simulation.run();
    for (const each of sent) expectNaive(simulation, each);
    expect(source.numOpen).toBe(0);
    expect(simulation.engine.numMatchers).toBe(0);
  });

  it.each(["launch", "collect"] as const)(
    "follows a sequence through the loss of the runner (%s)",
    (kind) => {
      const source = new ToySource();
      const faults = [{ kind, n: 4 }];
      const simulation = new Simulation(loop, faults, {
        masks: source,
      });
      const sent = Array.from({ length: 5 }, (_, i) =>
        simulation.add(constrained(i, 2)),
      );
      simulation.run();
      expect(simulation.last?.stats.runner.numReplayedRequests).toBeGreaterThan(
        2,
      );
      for (const each of sent) expectNaive(simulation, each);
      expect(source.numOpen).toBe(0);
    },
  );

  it("follows a sequence through preemption", () => {
    // Which drafts pay, and with them who is preempted, follows from what steps take.
    let clock = 0;
    vi.spyOn(performance, "now").mockImplementation(() => (clock += 0.01));
    const source = new ToySource();
    const simulation = new Simulation(
      { ...loop, numBlocks: 17, maxNumSeqs: 8 },
      undefined,
      { masks: source },
    );
    const sent = Array.from({ length: 8 }, (_, i) =>
      simulation.add(
        constrained(i, 2, {
          promptTokenIds: Int32Array.from(text(30, i)),
        }),
      ),
    );
    simulation.run();
    expect(simulation.last?.stats.numPreemptions).toBeGreaterThan(0);
    for (const each of sent) expectNaive(simulation, each);
    expect(source.numOpen).toBe(0);
  });

  it("leaves the output free up to a marker, and then holds it to the grammar", () => {
    const simulation = new Simulation(loop, undefined, {
      masks: new ToySource(),
    });
    const sent = Array.from({ length: 40 }, (_, i) =>
      simulation.add(
        constrained(i, 3, {
          params: { ...constrained(i, 3).params, maxTokens: 190 },
          constraint: {
            grammar: { channel: 0, grammar: 3, endTokenIds: [EOS] },
            startAfter: [7],
            freeTokens: null,
          },
        }),
      ),
    );
    simulation.run();
    for (const each of sent) expectNaive(simulation, each);
    const reasons = sent.map((each) => simulation.outcome(each).finish);
    expect(reasons).toContain(FinishReason.stop);
  });

  it.each([
    ["before a grammar", { channel: 0, grammar: 1, endTokenIds: [EOS] }],
    ["before free text", null],
  ])("forces the marker where its budget is spent, %s", (_, grammar) => {
    const simulation = new Simulation(loop, undefined, {
      masks: new ToySource(),
    });
    const sent = [0, 5, 6].map((freeTokens) =>
      simulation.add(
        constrained(freeTokens, 1, {
          constraint: { grammar, startAfter: [3, 4, 3], freeTokens },
        }),
      ),
    );
    simulation.run();
    for (const [i, freeTokens] of [0, 5, 6].entries()) {
      const each = sent[i] as Request;
      const { tokens } = simulation.outcome(each);
      expect(tokens.slice(freeTokens, freeTokens + 3)).toEqual([3, 4, 3]);
      if (grammar) expectNaive(simulation, each);
    }
  });

  it("ends with an error where nothing can follow, and lets the others go on", () => {
    const source = new ToySource();
    const simulation = new Simulation(loop, undefined, {
      masks: source,
    });
    const dead = simulation.add(constrained(1, DEAD_END));
    const other = simulation.add(constrained(2, 1));
    simulation.run();
    expectNaive(simulation, dead);
    expectNaive(simulation, other);
    expect(simulation.outcome(dead).finish).toBe(FinishReason.stuck);
    expect(source.numOpen).toBe(0);
  });

  it("ends with the grammar whatever ignore_eos and min_tokens say, but not before", () => {
    const simulation = new Simulation(loop, undefined, {
      masks: new ToySource(),
    });
    const params = {
      ...constrained(1, 1).params,
      stopTokenIds: [],
      ignoreEos: true,
      minTokens: 18,
    };
    const sent = simulation.add(constrained(1, 1, { params }));
    simulation.run();
    const { tokens, finish } = simulation.outcome(sent);
    expect(tokens).toHaveLength(13);
    expect(tokens.indexOf(EOS)).toBe(12);
    expect(finish).toBe(FinishReason.stop);
  });

  it("ends with the grammar where the request itself names the end a stop token, before min_tokens", () => {
    const simulation = new Simulation(loop, undefined, {
      masks: new ToySource(),
    });
    const params = {
      ...constrained(1, 1).params,
      eosTokenIds: [],
      minTokens: 18,
    };
    const sent = simulation.add(constrained(1, 1, { params }));
    simulation.run();
    const { tokens, finish } = simulation.outcome(sent);
    expect(tokens).toHaveLength(13);
    expect(finish).toBe(FinishReason.stop);
  });

  it("ends as one that is stuck where only tokens that the request forbids may follow", () => {
    const source = new ToySource();
    const simulation = new Simulation(loop, undefined, {
      masks: source,
    });
    // The grammar begins with a multiple of 5.
    const params = { ...constrained(1, 0).params, allowedTokenIds: [1, 2, 3] };
    const sent = simulation.add(constrained(1, 0, { params }));
    const other = simulation.add(constrained(2, 0));
    simulation.run();
    const { tokens, finish } = simulation.outcome(sent);
    expect(tokens).toEqual([]);
    expect(finish).toBe(FinishReason.stuck);
    expectNaive(simulation, other);
    expect(source.numOpen).toBe(0);
  });

  it.each([
    ["has failed", undefined, FinishReason.error],
    ["took too long", "late", FinishReason.slow],
  ] as const)("ends where the source of masks %s", (_, mask, finish) => {
    const failing: MaskSource = {
      open: () => ({
        begin: () => undefined,
        finish: () => mask,
        close: () => undefined,
      }),
    };
    const simulation = new Simulation(loop, undefined, {
      masks: failing,
    });
    const sent = simulation.add(constrained(1, 1));
    simulation.run();
    expect(simulation.outcome(sent).finish).toBe(finish);
  });

  it("frees the matcher of an aborted request while its row waits for a mask", () => {
    const source = new ToySource();
    const simulation = new Simulation(loop, undefined, {
      masks: source,
    });
    const kept = simulation.add(constrained(4, 1));
    const dropped = simulation.add(constrained(5, 2, { n: 3 }));
    for (let i = 0; i < 3; i++) simulation.step();
    expect(source.numOpen).toBeGreaterThan(1);
    simulation.engine.abort(dropped.handle, -1, "abort");
    simulation.step();
    expect(source.numOpen).toBeLessThan(2);
    simulation.run();
    expectNaive(simulation, kept);
    expect(source.numOpen).toBe(0);
  });

  it("gives what each request gets alone, in any company", () => {
    const arbitrary = fc.array(
      fc.record({
        seed: fc.nat(1000),
        grammar: fc.nat(6),
        wait: fc.nat(4),
        n: fc.integer({ min: 1, max: 3 }),
        free: fc.option(fc.nat(9)),
        abort: fc.boolean(),
      }),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(
        arbitrary,
        fc.integer({ min: 17, max: 40 }),
        (specs, blocks) => {
          const source = new ToySource();
          const world = { ...loop, numBlocks: blocks, maxNumSeqs: 4 };
          const simulation = new Simulation(world, undefined, {
            masks: source,
          });
          const sent: Request[] = [];
          for (const { seed, grammar, wait, n, free, abort } of specs) {
            const startAfter = free === null ? [] : [90, 91];
            const next = constrained(seed, grammar, {
              n,
              constraint: {
                grammar:
                  grammar === 6
                    ? null
                    : { channel: 0, grammar, endTokenIds: [EOS] },
                startAfter: grammar === 6 ? [90] : startAfter,
                freeTokens: free,
              },
            });
            // Without a grammar the end is an ordinary token of the naive run.
            if (grammar === 6) next.params.stopTokenIds = [];
            simulation.add(next);
            for (let i = 0; i < wait; i++) simulation.step();
            if (abort) simulation.engine.abort(next.handle, -1, "abort");
            else sent.push(next);
          }
          simulation.run();
          for (const each of sent) expectNaive(simulation, each);
          expect(source.numOpen).toBe(0);
          expect(simulation.engine.numMatchers).toBe(0);
        },
      ),
      { numRuns: process.env["OCTAVO_LONG"] ? 2000 : 60 },
    );
  });
});

it("ends a request with an error whose grammar no worker holds", () => {
  const simulation = new Simulation();
  const sent = simulation.add(constrained(1, 1));
  simulation.run();
  expect(simulation.outcome(sent)).toMatchObject({
    tokens: [],
    finish: FinishReason.error,
  });
});
