import { describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { EventKind, readEvents } from "../../src/core/events.js";
import { Engine } from "../../src/engine/engine.js";
import { emptyStats } from "../../src/engine/stats.js";
import type { EngineStats } from "../../src/engine/stats.js";
import { FakeRunner } from "../../src/runner/fake-runner.js";
import { FaultPlan } from "../../src/runner/fault-plan.js";
import type { Fault } from "../../src/runner/fault-plan.js";
import { watchDrafter } from "../../src/server/speculation.js";
import { ModelDrafter } from "../../src/spec/model-drafter.js";
import { request, text, VOCAB } from "./simulation.js";

const K = 3;

function runner(faults: Fault[] = []): FakeRunner {
  return new FakeRunner({
    maxNumTokens: 64,
    maxNumSeqs: 4,
    maxNumSamples: 4 * (1 + K),
    maxModelLen: 256,
    numBlocks: 64,
    vocabSize: VOCAB,
    faults: new FaultPlan(faults),
  });
}

interface Faults {
  target?: Fault[];
  draft?: Fault[];
}

function open({ target, draft }: Faults) {
  const drafter = new ModelDrafter(runner(draft), {
    reopen: runner,
    enablePrefixCaching: true,
    slidingWindow: null,
  });
  const config = {
    ...ENGINE_DEFAULTS,
    maxNumSeqs: 4,
    speculativeConfig: {
      method: "draft_model" as const,
      numSpeculativeTokens: K,
      adaptive: false,
      model: "",
      revision: null,
      maxModelLen: null,
    },
  };
  const options = { drafter, reopen: runner };
  return { drafter, engine: new Engine(runner(target), config, options) };
}

/** Four requests of 60 tokens, two more when half of the steps of the first are done. */
function play(faults: Faults) {
  const { engine, drafter } = open(faults);
  const handles: number[] = [];
  const outputs = new Map<number, number[]>();
  const add = (seed: number): void => {
    const added = request({
      prompt: text(20 + seed * 9, seed),
      params: { maxTokens: 60, ignoreEos: true, seedLo: seed },
    });
    handles.push(added.handle);
    outputs.set(added.handle, []);
    engine.add(added);
  };
  for (let seed = 0; seed < 4; seed++) add(seed);
  let stats: EngineStats | null = null;
  for (let step = 0; !engine.idle; step++) {
    if (step === 8) [4, 5].forEach(add);
    const result = engine.step();
    drafter.checkIntegrity();
    if (!result) continue;
    stats = structuredClone(result.stats);
    readEvents(result.events.toMessage(), ({ handle, kind, token }) => {
      if (kind === EventKind.token) outputs.get(handle)?.push(token);
    });
  }
  engine.checkIntegrity();
  return {
    tokens: handles.map((handle) => outputs.get(handle)),
    stats,
    failure: drafter.failure,
  };
}

const whole = play({});

describe("a draft model in the engine", () => {
  it("is right where it is the same model", () => {
    const { speculation } = whole.stats ?? {};
    expect(speculation?.numAcceptedTokens).toBeGreaterThan(200);
    expect(speculation?.numAcceptedTokens).toBe(speculation?.numDraftTokens);
    expect(whole.tokens.map((tokens) => tokens?.length)).toEqual(
      new Array(6).fill(60),
    );
  });

  it.each([1, 2, 7, 20])(
    "fails at its launch %i, and the requests go on to the same end",
    (n) => {
      const { tokens, stats, failure } = play({
        draft: [{ kind: "launch", n }],
      });
      expect(tokens).toEqual(whole.tokens);
      expect(failure).toContain(`launch ${n}`);
      expect(stats?.speculation?.failure).toBe(failure);
      expect(stats?.runner.numFailures).toBe(0);
    },
  );

  it("goes on with another runner after the target was lost", () => {
    const target: Fault[] = [{ kind: "collect", n: 9 }];
    const { tokens, stats, failure } = play({ target });
    expect(tokens).toEqual(whole.tokens);
    expect(failure).toBeNull();
    expect(stats?.runner.numRestarts).toBe(1);
    expect(stats?.speculation?.numAcceptedTokens).toBeGreaterThan(150);
  });
});

describe("watchDrafter", () => {
  it("says once why there are no more drafts", () => {
    const listeners = new Set<(stats: EngineStats) => void>();
    const said: object[] = [];
    watchDrafter(
      {
        info: {
          speculation: { method: "draft_model", numSpeculativeTokens: K },
        },
        onStep: (listener: (stats: EngineStats) => void) => {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
      } as unknown as Parameters<typeof watchDrafter>[0],
      (fields) => said.push(fields),
    );
    const stats = {
      ...emptyStats(1),
      speculation: whole.stats?.speculation ?? null,
    };
    const step = (failure: string | null): void => {
      if (stats.speculation) stats.speculation.failure = failure;
      for (const listener of [...listeners]) listener(stats);
    };
    step(null);
    expect(said).toEqual([]);
    step("lost");
    step("lost");
    expect(said).toEqual([{ method: "draft_model", error: "lost" }]);
  });
});
