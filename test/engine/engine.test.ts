import { describe, expect, it } from "vitest";
import { EventKind, readEvents } from "../../src/core/events.js";
import { FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import type { BlockHash } from "../../src/kv/prefix-cache.js";
import { naiveOutcome, Simulation, text, WORLD } from "./simulation.js";
import type { Outcome, World } from "./simulation.js";

function expectNaive(
  simulation: Simulation,
  sent: Request,
  world: Partial<World> = {},
): void {
  for (let choice = 0; choice < sent.n; choice++)
    expect(simulation.outcome(sent, choice)).toMatchObject(
      naiveOutcome(sent, choice, { ...WORLD, ...world }),
    );
}

/** Each block gets a number of its own: what misses are put down to rests on a table that collisions blur. */
function hashWithoutCollisions(): BlockHash {
  const numbers = new Map<string, number>();
  return (seed, tokens, start, blockSize) => {
    const key = [seed, ...tokens.subarray(start, start + blockSize)].join();
    const number = numbers.get(key) ?? numbers.size;
    numbers.set(key, number);
    return number;
  };
}

describe.each([true, false])("one step ahead: %s", (asyncScheduling) => {
  it("gives each request what it gets alone, while they join and leave", () => {
    const simulation = new Simulation({ asyncScheduling });
    const sent: Request[] = [];
    for (let i = 0; i < 40; i++) {
      sent.push(
        simulation.add({
          prompt: text(5 + ((i * 37) % 120), i % 3),
          params: { maxTokens: 1 + ((i * 13) % 40), seedLo: i, logprobs: 2 },
        }),
      );
      if (i % 2) simulation.step();
    }
    simulation.run();
    for (const request of sent) expectNaive(simulation, request);
  });

  it("shares the full blocks of a prompt, and reports them", () => {
    const hash = hashWithoutCollisions();
    const simulation = new Simulation({ asyncScheduling, hash });
    const first = simulation.add({ prompt: text(200) });
    simulation.run();
    const prompt = [...text(180), 1, 2, 3];
    const second = simulation.add({ prompt });
    const salted = simulation.add({ prompt, cacheSalt: "tenant" });
    simulation.run();
    expect(simulation.admitted.get(first.handle)).toBe(0);
    expect(simulation.admitted.get(second.handle)).toBe(176);
    expect(simulation.admitted.get(salted.handle)).toBe(0);
    expect(simulation.computed.get(`${second.handle}/0`)).toBe(7);
    expect(simulation.last?.stats).toMatchObject({
      prefixCacheQueries: 200 + 183 + 183,
      prefixCacheHits: 176,
      prefixCacheMisses: { cold: 1, evicted: 0, salt: 1, tooShort: 0 },
    });
    for (const request of [first, second, salted])
      expectNaive(simulation, request);
  });

  it.each([
    ["with the prefix cache", true, 160],
    ["with the prefix cache", true, 155],
    ["without the prefix cache", false, 160],
    ["without the prefix cache", false, 155],
  ])(
    "n = 4 holds the blocks of a prompt once, %s (%s, %i tokens)",
    (_, enablePrefixCaching, length) => {
      const simulation = new Simulation({
        asyncScheduling,
        enablePrefixCaching,
      });
      const sent = simulation.add({
        prompt: text(length),
        n: 4,
        params: { maxTokens: 20 },
      });
      let most = 0;
      while (!simulation.engine.idle) {
        const result = simulation.step();
        if (simulation.numSteps === 1)
          expect(result?.stats.numWaitingDeferred).toBe(3);
        const { numBlocks, numFreeBlocks } = result?.stats ?? {
          numBlocks: 0,
          numFreeBlocks: 0,
        };
        most = Math.max(most, numBlocks - numFreeBlocks);
      }
      expectNaive(simulation, sent);
      // 9 in common; a tail of at most 2 and 2 more for the output each.
      expect(most).toBeGreaterThan(9);
      expect(most).toBeLessThanOrEqual(9 + 4 * 3);
      const total = [0, 1, 2, 3].map((c) =>
        simulation.computed.get(`${sent.handle}/${c}`),
      );
      expect(total).toEqual([length, length - 144, length - 144, length - 144]);
      expect(simulation.admitted.size).toBe(1);
    },
  );

  it("frees the blocks of an aborted request at once, and nothing comes after", () => {
    const simulation = new Simulation({ asyncScheduling });
    const kept = simulation.add({
      prompt: text(40, 1),
      params: { maxTokens: 30 },
    });
    const dropped = simulation.add({
      prompt: text(80, 2),
      params: { maxTokens: 100 },
    });
    for (let i = 0; i < 5; i++) simulation.step();
    const before = simulation.engine.scheduler.kv.numFreeBlocks;
    simulation.engine.abort(dropped.handle, -1, "abort");
    expect(simulation.engine.scheduler.kv.numFreeBlocks).toBeGreaterThanOrEqual(
      before + 5,
    );
    // The slot and the blocks go to another while the garbage row is under way.
    const next = simulation.add({ prompt: text(90, 3) });
    simulation.run();
    expect(simulation.outcome(dropped)).toMatchObject({
      finish: FinishReason.abort,
      numFinished: 1,
    });
    expectNaive(simulation, kept);
    expectNaive(simulation, next);
  });

  it("ends as stop what was aborted because a stop string matched", () => {
    const simulation = new Simulation({ asyncScheduling });
    const sent = simulation.add({ prompt: text(5) });
    simulation.step();
    simulation.engine.abort(sent.handle, 0, "stop");
    expect(simulation.engine.idle).toBe(false);
    simulation.run();
    expect(simulation.outcome(sent).finish).toBe(FinishReason.stop);
    expect(simulation.engine.step()).toBeNull();
  });

  it("ends every request with an error when the runner fails and cannot be replaced", () => {
    const faults = [{ kind: "collect" as const, n: 2 }];
    const simulation = new Simulation({ asyncScheduling }, faults, {
      reopen: undefined,
    });
    const lost = [1, 2].map((seed) =>
      simulation.add({ prompt: text(30, seed), n: seed }),
    );
    simulation.step();
    expect(() => simulation.engine.step()).toThrow(
      expect.objectContaining({ code: "device_error" }),
    );
    simulation.engine.checkIntegrity();
    const result = simulation.step();
    expect(result?.stats).toMatchObject({
      iterationTokens: 0,
      numRunning: 0,
      kvCacheUsage: 0,
    });
    for (const { handle, n } of lost)
      for (let choice = 0; choice < n; choice++)
        expect(simulation.outcome({ handle }, choice)).toMatchObject({
          finish: FinishReason.error,
          numFinished: 1,
        });
    expect(simulation.engine.idle).toBe(true);
  });

  it("recomputes what it preempted, without a trace in the output", () => {
    const world = {
      asyncScheduling,
      numBlocks: 12,
      maxModelLen: 192,
      enablePrefixCaching: false,
    };
    const simulation = new Simulation(world);
    const sent = [1, 2, 3, 4].map((seed) =>
      simulation.add({
        prompt: text(33, seed),
        params: {
          maxTokens: 100,
          seedLo: seed,
          promptLogprobs: seed === 4 ? 1 : null,
        },
      }),
    );
    simulation.run();
    expect(simulation.last?.stats.numPreemptions).toBeGreaterThan(2);
    for (const request of sent) expectNaive(simulation, request, world);
  });

  it("counts each token once", () => {
    const simulation = new Simulation({ asyncScheduling });
    let computed = 0;
    for (let i = 0; i < 10; i++)
      simulation.add({ prompt: text(30, i), params: { maxTokens: 10 } });
    while (!simulation.engine.idle)
      computed += simulation.step()?.stats.iterationTokens ?? 0;
    // The last token of each is never computed.
    expect(computed).toBe(10 * (30 + 9));
  });

  it("computes a prompt only, when no token is wanted", () => {
    const simulation = new Simulation({ asyncScheduling });
    const sent = simulation.add({
      prompt: text(20),
      params: { maxTokens: 0, promptLogprobs: 0 },
    });
    simulation.run();
    expectNaive(simulation, sent);
    expect(simulation.outcome(sent).promptLogprobs).toHaveLength(19);
  });
});

describe("one step ahead", () => {
  it("launches a step before it has booked the one before", () => {
    const simulation = new Simulation({ asyncScheduling: true });
    simulation.add({ prompt: text(5), params: { maxTokens: 10 } });
    const runner = simulation.runner;
    const order: string[] = [];
    const launch = runner.launch.bind(runner);
    const collect = runner.collect.bind(runner);
    runner.launch = (batch) => (order.push("launch"), launch(batch));
    runner.collect = () => (order.push("collect"), collect());
    simulation.step();
    simulation.step();
    expect(order).toEqual(["launch", "launch", "collect", "launch", "collect"]);
  });

  it("does not run ahead where masks depend on the output", () => {
    const simulation = new Simulation({ asyncScheduling: true });
    const { handle } = simulation.add({
      prompt: text(5),
      params: { maxTokens: 3, badWordsTokenIds: [[1, 2]] },
    });
    const inFlight: number[] = [];
    const launch = simulation.runner.launch.bind(simulation.runner);
    simulation.runner.launch = (batch) => {
      inFlight.push(...batch.feedbackRow.subarray(0, batch.numSeqs));
      launch(batch);
    };
    simulation.run();
    expect(inFlight).toEqual([-1, -1, -1]);
    expect(simulation.outcome({ handle }).tokens).toHaveLength(3);
  });
});

describe("resetPrefixCache", () => {
  it("makes the next request compute all of its prompt", () => {
    const simulation = new Simulation();
    simulation.add({ prompt: text(100) });
    simulation.run();
    expect(simulation.engine.resetPrefixCache()).toBe(true);
    const again = simulation.add({ prompt: text(100) });
    simulation.run();
    expect(simulation.admitted.get(again.handle)).toBe(0);
    expectNaive(simulation, again);
  });
});

it("reports steps in reused structures: events, ends and admissions of one step each", () => {
  const simulation = new Simulation({ asyncScheduling: false });
  const { handle } = simulation.add({
    prompt: text(5),
    params: { maxTokens: 2 },
  });
  const first = simulation.engine.step();
  expect(first?.admitted).toMatchObject([{ handle, numCachedTokens: 0 }]);
  expect(first?.finished).toEqual([]);
  expect(first?.stats).toMatchObject({
    numSteps: 1,
    iterationTokens: 5,
    numRunning: 1,
  });
  const second = simulation.engine.step();
  expect(second).toBe(first);
  expect(second?.admitted).toEqual([]);
  expect(second?.finished).toMatchObject([
    { handle, choice: 0, finish: FinishReason.length, numOutputTokens: 2 },
  ]);
  const kinds: number[] = [];
  readEvents(
    second?.events.toMessage() ?? {
      count: 0,
      ints: new Int32Array(),
      floats: new Float32Array(),
    },
    ({ kind }) => kinds.push(kind),
  );
  expect(kinds).toEqual([EventKind.token]);
  expect(simulation.engine.step()).toBeNull();
});

it("is the same in both loops, log-probabilities included", () => {
  const run = (asyncScheduling: boolean): Outcome[] => {
    const simulation = new Simulation({ asyncScheduling, numBlocks: 20 });
    const sent = Array.from({ length: 12 }, (_, i) =>
      simulation.add({
        prompt: text(20 + i * 9, i % 2),
        n: 1 + (i % 3),
        params: {
          maxTokens: 30,
          seedLo: i,
          logprobs: 3,
          stopTokenIds: [3, 4, 5],
        },
      }),
    );
    simulation.run();
    return sent.flatMap((request) =>
      Array.from({ length: request.n }, (_, choice) =>
        simulation.outcome(request, choice),
      ),
    );
  };
  expect(run(true)).toEqual(run(false));
});

it("preempts nobody for drafts that are wrong", () => {
  const preemptions = (drafts: World["drafts"]): [number, number] => {
    const world = {
      asyncScheduling: false,
      numBlocks: 12,
      maxModelLen: 192,
      enablePrefixCaching: false,
      drafts: drafts ?? null,
    };
    const simulation = new Simulation(world);
    const sent = [1, 2, 3, 4].map((seed) =>
      simulation.add({
        prompt: text(33, seed),
        params: { maxTokens: 100, seedLo: seed },
      }),
    );
    simulation.run();
    for (const request of sent) expectNaive(simulation, request, world);
    const { stats } = simulation.last ?? {};
    return [
      stats?.numPreemptions ?? 0,
      stats?.speculation?.numDraftTokens ?? 0,
    ];
  };
  const [plain] = preemptions(null);
  expect(plain).toBeGreaterThan(2);
  const [drafted, numDraftTokens] = preemptions({
    numSpeculativeTokens: 5,
    adaptive: false,
    spareRows: 20,
    rightness: 0,
    readiness: 1,
  });
  expect(drafted).toBe(plain);
  expect(numDraftTokens).toBeGreaterThan(100);
});
