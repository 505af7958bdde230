import fc from "fast-check";
import { expect, it } from "vitest";
import { FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import { RestartBudget } from "../../src/core/restart-budget.js";
import { hashBlock } from "../../src/kv/prefix-cache.js";
import type { SpecStats } from "../../src/spec/spec-stats.js";
import { naiveOutcome, request, Simulation, VOCAB } from "./simulation.js";
import type { DraftWorld, World } from "./simulation.js";

const NUM_RUNS = process.env["OCTAVO_LONG"] ? 20_000 : 1_000;

const draftWorlds: fc.Arbitrary<DraftWorld> = fc.record({
  numSpeculativeTokens: fc.integer({ min: 1, max: 20 }),
  adaptive: fc.boolean(),
  spareRows: fc.oneof(fc.nat(4), fc.constant(120)),
  rightness: fc.constantFrom(0, 0.5, 0.9, 1),
  readiness: fc.constantFrom(0.6, 0.95, 1),
});

/** A sequence of maxModelLen tokens always fits, often barely. */
const worlds: fc.Arbitrary<World> = fc
  .record({
    maxModelLen: fc.integer({ min: 8, max: 150 }),
    spareBlocks: fc.oneof(fc.nat(3), fc.nat(60)),
    maxNumSeqs: fc.integer({ min: 1, max: 6 }),
    maxNumBatchedTokens: fc.oneof(
      fc.integer({ min: 1, max: 24 }),
      fc.constant(200),
    ),
    longPrefillTokenThreshold: fc.constantFrom(0, 0, 3, 16),
    enableChunkedPrefill: fc.constantFrom(true, true, false),
    enablePrefixCaching: fc.boolean(),
    asyncScheduling: fc.boolean(),
    schedulingPolicy: fc.constantFrom("fcfs" as const, "priority" as const),
    slidingWindow: fc.option(fc.integer({ min: 2, max: 40 }), {
      freq: 2,
    }),
    weakHash: fc.boolean(),
    drafts: fc.option(draftWorlds, { freq: 3 }),
  })
  .map(({ spareBlocks, weakHash, ...world }) => ({
    ...world,
    ...(!world.enableChunkedPrefill && {
      maxNumBatchedTokens: Math.max(
        world.maxNumBatchedTokens,
        world.maxModelLen,
      ),
      longPrefillTokenThreshold: 0,
    }),
    numBlocks: Math.ceil(world.maxModelLen / 16) + spareBlocks,
    ...(weakHash && {
      hash: (...args: Parameters<typeof hashBlock>) => hashBlock(...args) & 1,
    }),
  }));

/** Prompts share long prefixes, cut anywhere, with a tail of their own; and the same blocks follow other prefixes. */
const specs = fc.record({
  text: fc.nat(5),
  length: fc.oneof(
    fc.constantFrom(1, 16, 17, 32, 48),
    fc.integer({ min: 1, max: 140 }),
  ),
  tail: fc.array(fc.nat(VOCAB - 1), { maxLength: 3 }),
  maxTokens: fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 1, max: 50 })),
  minTokens: fc.constantFrom(0, 0, 4),
  stopTokenIds: fc.uniqueArray(fc.nat(VOCAB - 1), { maxLength: 4 }),
  seedLo: fc.integer(),
  logprobs: fc.constantFrom(null, null, 0, 3),
  promptLogprobs: fc.constantFrom(null, null, null, 2),
  badWords: fc.constantFrom(false, false, true),
  n: fc.constantFrom(1, 1, 1, 2, 4),
  priority: fc.nat(2),
  cacheSalt: fc.constantFrom("", "", "a", "b"),
});

const actions = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("add" as const), spec: specs }),
    },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("step" as const),
        times: fc.integer({ min: 1, max: 12 }),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("abort" as const),
        which: fc.nat(20),
        choice: fc.integer({ min: -1, max: 3 }),
        reason: fc.constantFrom("abort" as const, "stop" as const),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("reset" as const),
        rarely: fc.nat(9),
      }),
    },
  ),
  { minLength: 2, maxLength: 24 },
);

/** Two kinds of blocks in an order that the bits of `seed` say. */
function blocks(length: number, seed: number): number[] {
  return Array.from(
    { length },
    (_, i) => ((i % 16) * 7 + ((seed >> ((i >> 4) % 3)) & 1) * 31) % VOCAB,
  );
}

function toRequest(
  spec: typeof specs extends fc.Arbitrary<infer T> ? T : never,
  maxModelLen: number,
): Request {
  const {
    text: seed,
    length,
    tail,
    badWords,
    n,
    priority,
    cacheSalt,
    ...params
  } = spec;
  const prompt = [...blocks(length, seed), ...tail].slice(0, maxModelLen - 1);
  return request({
    prompt,
    n,
    priority,
    cacheSalt,
    params: {
      ...params,
      // Never matched by the fake model, which has no masks; but such requests are not run ahead.
      badWordsTokenIds: badWords ? [[1, 2]] : [],
      eosTokenIds: params.stopTokenIds.slice(0, 1),
    },
  });
}

type Plan = typeof actions extends fc.Arbitrary<infer T> ? T : never;

interface Played {
  requests: Request[];
  /** handle/choice */
  aborted: Set<string>;
}

/** Does what the plan says, and runs to the end. */
function play(simulation: Simulation, plan: Plan, world: World): Played {
  const requests: Request[] = [];
  const aborted = new Set<string>();
  for (const action of plan) {
    if (action.kind === "add") {
      requests.push(simulation.add(toRequest(action.spec, world.maxModelLen)));
    } else if (action.kind === "step") {
      for (let i = 0; i < action.times; i++) simulation.step();
    } else if (action.kind === "reset") {
      if (action.rarely === 0) simulation.engine.resetPrefixCache();
    } else {
      const target = requests[action.which % Math.max(1, requests.length)];
      if (!target) continue;
      simulation.engine.abort(target.handle, action.choice, action.reason);
      simulation.engine.checkIntegrity();
      for (let c = 0; c < target.n; c++)
        if (action.choice < 0 || action.choice === c)
          aborted.add(`${target.handle}/${c}`);
    }
  }
  simulation.run();
  return { requests, aborted };
}

it(
  `gives what a naive run gives, over ${NUM_RUNS} random schedules`,
  { timeout: 3_600_000 },
  () => {
    const accepted = { fixed: 0, adaptive: 0 };
    let numRefused = 0;
    fc.assert(
      fc.property(worlds, actions, (world, plan) => {
        const simulation = new Simulation(world);
        const { requests, aborted } = play(simulation, plan, world);
        checkOutcomes(simulation, requests, aborted, world);
        checkCounts(simulation, requests, world);
        const speculation = checkSpeculation(simulation, requests);
        if (!speculation) return;
        const { numAcceptedTokens, numDraftTokens } = speculation;
        accepted[world.drafts?.adaptive ? "adaptive" : "fixed"] +=
          numAcceptedTokens;
        numRefused += numDraftTokens - numAcceptedTokens;
      }),
      { numRuns: NUM_RUNS },
    );
    // The schedules above did speculate, in every way.
    expect(accepted.fixed).toBeGreaterThan(NUM_RUNS);
    expect(accepted.adaptive).toBeGreaterThan(NUM_RUNS / 10);
    expect(numRefused).toBeGreaterThan(NUM_RUNS);
  },
);

const faults = fc.array(
  fc.record({
    kind: fc.constantFrom(
      "launch" as const,
      "collect" as const,
      "open" as const,
    ),
    n: fc.oneof(
      fc.integer({ min: 2, max: 6 }),
      fc.integer({ min: 2, max: 60 }),
    ),
  }),
  { minLength: 1, maxLength: 4 },
);

it(
  `replays what a lost runner computed, over ${NUM_RUNS} random schedules`,
  { timeout: 3_600_000 },
  () => {
    let numReplayed = 0;
    let numGivenUp = 0;
    fc.assert(
      fc.property(worlds, actions, faults, (world, plan, wanted) => {
        let time = 0;
        const restarts = new RestartBudget(() => (time += 3_600_000));
        const simulation = new Simulation(world, wanted, { restarts });
        const { requests, aborted } = play(simulation, plan, world);
        const { runner } = simulation.last?.stats ?? {};
        const failed = failedChoices(simulation, requests);
        // Only a second failure ends a request, and the others are as if there had been none.
        if ((runner?.numFailures ?? 0) < 2) expect(failed).toEqual(new Set());
        checkOutcomes(
          simulation,
          requests,
          new Set([...aborted, ...failed]),
          world,
        );
        checkCounts(simulation, requests, world);
        if (failed.size === 0) numReplayed += runner?.numReplayedRequests ?? 0;
        numGivenUp += failed.size;
      }),
      { numRuns: NUM_RUNS },
    );
    // The schedules above did meet the faults.
    expect(numReplayed).toBeGreaterThan(NUM_RUNS / 10);
    expect(numGivenUp).toBeGreaterThan(0);
  },
);

function failedChoices(
  simulation: Simulation,
  requests: Request[],
): Set<string> {
  const failed = new Set<string>();
  for (const sent of requests)
    for (let choice = 0; choice < sent.n; choice++)
      if (simulation.outcome(sent, choice).finish === FinishReason.lost)
        failed.add(`${sent.handle}/${choice}`);
  return failed;
}

function checkOutcomes(
  simulation: Simulation,
  requests: Request[],
  aborted: Set<string>,
  world: World,
): void {
  for (const sent of requests)
    for (let choice = 0; choice < sent.n; choice++) {
      const { numFinished, topIds, ...got } = simulation.outcome(sent, choice);
      const naive = naiveOutcome(sent, choice, world);
      expect(numFinished).toBe(1);
      expect(topIds.length).toBe(got.logprobs.length);
      if (!aborted.has(`${sent.handle}/${choice}`)) {
        expect(got).toEqual(naive);
        continue;
      }
      // Ended somewhere on the way: a prefix, or all if it had ended before.
      expect(got.finish).not.toBe(FinishReason.none);
      expect(got.tokens).toEqual(naive.tokens.slice(0, got.tokens.length));
      expect(got.promptLogprobs).toEqual(
        naive.promptLogprobs.slice(0, got.promptLogprobs.length),
      );
    }
}

/** The counters are what a reader of the steps counts, and nothing is held for what has ended. */
function checkSpeculation(
  { drafter, last, numFollowing, numEnded }: Simulation,
  requests: Request[],
): SpecStats | null {
  if (!drafter) return null;
  const numChoices = requests.reduce((sum, { n }) => sum + n, 0);
  expect(drafter.numReleased).toBe(numChoices);
  expect(drafter.live.size).toBe(0);
  const speculation = last?.stats.speculation ?? null;
  if (!speculation) return null;
  const { acceptedPerPosition, numAcceptedTokens } = speculation;
  expect(acceptedPerPosition.reduce((a, b) => a + b)).toBe(numAcceptedTokens);
  // A draft that ends its output has no token after it in the step.
  expect(numAcceptedTokens).toBeGreaterThanOrEqual(numFollowing);
  expect(numAcceptedTokens).toBeLessThanOrEqual(numFollowing + numEnded);
  expect(speculation.numDraftTokens).toBeGreaterThanOrEqual(numAcceptedTokens);
  return speculation;
}

function checkCounts(
  { engine, admitted, last, computed }: Simulation,
  requests: Request[],
  world: World,
): void {
  const { kv, admission } = engine.scheduler;
  expect(kv.numFreeBlocks).toBe(world.numBlocks);
  expect(engine.idle).toBe(true);
  if (!world.enablePrefixCaching) expect(kv.numCachedBlocks).toBe(0);
  let queries = 0;
  let hits = 0;
  let misses = 0;
  for (const sent of requests) {
    const cached = admitted.get(sent.handle);
    if (cached === undefined) continue;
    const length = sent.promptTokenIds.length;
    const most = Math.floor((length - 1) / 16) * 16;
    expect(cached % 16).toBe(0);
    expect(cached).toBeLessThanOrEqual(most);
    const bypasses = sent.params.promptLogprobs !== null;
    if (bypasses) expect(cached).toBe(0);
    if (!world.enablePrefixCaching || bypasses) continue;
    queries += length;
    hits += cached;
    if (cached < most || most === 0) misses++;
    const prefill = computed.get(`${sent.handle}/0`) ?? 0;
    expect(prefill).toBeLessThanOrEqual(length - cached);
  }
  const counted = Object.values(admission.prefixMisses);
  expect(admission.prefixQueries).toBe(queries);
  expect(admission.prefixHits).toBe(hits);
  expect(counted.reduce((a, b) => a + b)).toBe(misses);
  if (last && engine.idle) {
    expect(last.stats.numRunning).toBe(0);
    expect(last.stats.numWaiting).toBe(0);
    expect(last.stats.kvCacheUsage).toBe(0);
  }
}
