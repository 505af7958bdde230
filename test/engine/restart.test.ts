import { describe, expect, it } from "vitest";
import { FinishReason } from "../../src/core/request.js";
import { RestartBudget } from "../../src/core/restart-budget.js";
import { FaultPlan } from "../../src/runner/fault-plan.js";
import type { Fault } from "../../src/runner/fault-plan.js";
import { naiveOutcome, Simulation, text, WORLD } from "./simulation.js";

const health = (simulation: Simulation) => simulation.last?.stats.runner;

describe.each([true, false])("one step ahead: %s", (asyncScheduling) => {
  const simulate = (...faults: Fault[]): Simulation =>
    new Simulation({ asyncScheduling }, faults);

  it.each(["launch", "collect"] as const)(
    "computes anew what was lost at a %s, and tells it",
    (kind) => {
      const simulation = simulate({ kind, n: 6 });
      const sent = [1, 2, 3].map((seed) =>
        simulation.add({
          prompt: text(70, seed),
          n: seed,
          params: { seedLo: seed, logprobs: 2 },
        }),
      );
      while (!health(simulation)?.restarting) simulation.step();
      expect(simulation.last?.stats).toMatchObject({
        iterationTokens: 0,
        numRunning: 0,
        kvCacheUsage: 0,
        runner: { numFailures: 1, numRestarts: 0 },
      });
      expect(health(simulation)?.lastError).toContain(`lost at ${kind} 6`);
      expect(simulation.engine.idle).toBe(false);
      simulation.step();
      expect(health(simulation)).toMatchObject({
        restarting: false,
        numRestarts: 1,
      });
      simulation.run();
      expect(health(simulation)?.numReplayedRequests).toBeGreaterThan(0);
      for (const request of sent)
        for (let choice = 0; choice < request.n; choice++)
          expect(simulation.outcome(request, choice)).toMatchObject(
            naiveOutcome(request, choice, WORLD),
          );
    },
  );

  it("ends a request that was computed at two failures, and no other", () => {
    const simulation = simulate(
      { kind: "collect", n: 3 },
      { kind: "collect", n: 8 },
    );
    const unlucky = simulation.add({ prompt: text(5), n: 2 });
    while (health(simulation)?.numRestarts !== 1) simulation.step();
    for (let i = 0; i < 2; i++) simulation.step();
    const late = simulation.add({ prompt: text(9), n: 2 });
    simulation.run();
    for (const choice of [0, 1]) {
      expect(simulation.outcome(unlucky, choice)).toMatchObject({
        finish: FinishReason.lost,
        numFinished: 1,
      });
      expect(simulation.outcome(late, choice)).toMatchObject(
        naiveOutcome(late, choice, WORLD),
      );
    }
    expect(health(simulation)).toMatchObject({ numRestarts: 2 });
  });

  it("counts a restart that fails as a failure of no request", () => {
    const simulation = simulate(
      { kind: "launch", n: 3 },
      { kind: "open", n: 2 },
    );
    const sent = simulation.add({ prompt: text(20) });
    simulation.run();
    expect(simulation.outcome(sent)).toMatchObject(
      naiveOutcome(sent, 0, WORLD),
    );
    expect(health(simulation)).toMatchObject({
      numFailures: 2,
      numRestarts: 1,
      numReplayedRequests: 1,
    });
  });

  it("gives up at the third failure within a minute", () => {
    const simulation = simulate(
      { kind: "launch", n: 2 },
      { kind: "open", n: 2 },
      { kind: "open", n: 3 },
    );
    const sent = simulation.add({ prompt: text(20) });
    expect(() => simulation.run()).toThrow(
      expect.objectContaining({
        code: "device_error",
        message: expect.stringContaining("third time") as string,
      }),
    );
    simulation.engine.checkIntegrity();
    expect(simulation.engine.scheduler.kv.numFreeBlocks).toBe(WORLD.numBlocks);
    expect(sent.n).toBe(1);
  });

  it("takes an abort and new requests while it has no runner", () => {
    const simulation = simulate({ kind: "launch", n: 4 });
    const dropped = simulation.add({ prompt: text(20) });
    const kept = simulation.add({ prompt: text(30, 1) });
    while (!health(simulation)?.restarting) simulation.step();
    simulation.engine.abort(dropped.handle, -1, "abort");
    const added = simulation.add({ prompt: text(30, 2) });
    simulation.run();
    expect(simulation.outcome(dropped).finish).toBe(FinishReason.abort);
    for (const request of [kept, added])
      expect(simulation.outcome(request)).toMatchObject(
        naiveOutcome(request, 0, WORLD),
      );
  });

  it("opens another runner though nothing is left to compute", () => {
    const simulation = simulate({ kind: "collect", n: 1 });
    const sent = simulation.add({ prompt: text(20) });
    while (!health(simulation)?.restarting) simulation.step();
    simulation.engine.abort(sent.handle, -1, "abort");
    simulation.run();
    expect(health(simulation)).toMatchObject({
      restarting: false,
      numRestarts: 1,
    });
  });
});

it("does not take a mistake of its own for a device error", () => {
  const simulation = new Simulation({}, []);
  simulation.add({ prompt: text(20) });
  simulation.runner.launch = () => {
    throw new TypeError("not a function");
  };
  expect(() => simulation.step()).toThrow(
    expect.objectContaining({
      code: "internal_error",
      message: "not a function",
    }),
  );
});

it("allows two restarts within a minute", () => {
  let time = 0;
  const budget = new RestartBudget(() => time);
  const take = (at: number): boolean => {
    time = at;
    return budget.take();
  };
  expect([0, 10_000, 59_999, 60_000, 60_001, 70_000].map(take)).toEqual([
    true,
    true,
    false,
    true,
    false,
    true,
  ]);
});

it("refuses a plan of faults that it does not understand", () => {
  for (const text of ["launch", "launch@0", "fire@3", "launch@2@3", ""])
    expect(() => FaultPlan.parse(text, "OCTAVO_NULL_FAULTS")).toThrow(
      expect.objectContaining({
        code: "invalid_config",
        message: expect.stringContaining(`got "${text}"`) as string,
      }),
    );
});
