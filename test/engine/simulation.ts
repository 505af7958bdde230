/** Requests played against an Engine with the FakeRunner, beside what a naive run of the same model gives. */
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { EventKind, readEvents } from "../../src/core/events.js";
import { FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import type { SamplingParams } from "../../src/core/sampling-params.js";
import { Engine } from "../../src/engine/engine.js";
import type { EngineOptions, StepResult } from "../../src/engine/engine.js";
import { FaultPlan } from "../../src/runner/fault-plan.js";
import type { Fault } from "../../src/runner/fault-plan.js";
import {
  FakeRunner,
  fakeLogprob,
  fakeToken,
} from "../../src/runner/fake-runner.js";
import type { BlockHash } from "../../src/kv/prefix-cache.js";

export const VOCAB = 97;

export interface World {
  numBlocks: number;
  maxModelLen: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  longPrefillTokenThreshold: number;
  enablePrefixCaching: boolean;
  asyncScheduling: boolean;
  schedulingPolicy: "fcfs" | "priority";
  slidingWindow: number | null;
  hash?: BlockHash;
}

export const WORLD: World = {
  numBlocks: 64,
  maxModelLen: 256,
  maxNumSeqs: 8,
  maxNumBatchedTokens: 64,
  longPrefillTokenThreshold: 0,
  enablePrefixCaching: true,
  asyncScheduling: true,
  schedulingPolicy: "fcfs",
  slidingWindow: null,
};

export const PARAMS: SamplingParams = {
  ...NEUTRAL_SAMPLING,
  temperature: 1,
  seedLo: 1,
};

export type RequestSpec = Partial<
  Omit<Request, "params" | "promptTokenIds">
> & { prompt: number[]; params?: Partial<SamplingParams> };

let lastHandle = 0;

export function request({ prompt, params, ...rest }: RequestSpec): Request {
  const handle = ++lastHandle;
  return {
    id: `r${handle}`,
    handle,
    promptTokenIds: Int32Array.from(prompt),
    n: 1,
    priority: 0,
    cacheSalt: "",
    arrivalTime: 0,
    bypassPrefixCache: false,
    ...rest,
    params: { ...PARAMS, ...params },
  };
}

/** `length` tokens that follow from `seed`. */
export function text(length: number, seed = 0): number[] {
  return Array.from(
    { length },
    (_, i) => ((i + 1) * 7919 + seed * 31 + (i >> 3)) % VOCAB,
  );
}

/** What a choice of a request got so far. */
export interface Outcome {
  tokens: number[];
  logprobs: number[];
  topIds: number[][];
  promptTokens: number[];
  promptLogprobs: number[];
  finish: FinishReason;
  stopTokenId: number;
  /** FinishedChoice entries; must end as 1. */
  numFinished: number;
}

export function makeRunner(world: World, faults?: FaultPlan): FakeRunner {
  return new FakeRunner({
    ...(faults && { faults }),
    maxNumTokens: world.maxNumBatchedTokens,
    maxNumSeqs: world.maxNumSeqs,
    maxNumSamples: world.maxNumSeqs,
    maxModelLen: world.maxModelLen,
    numBlocks: world.numBlocks,
    vocabSize: VOCAB,
    slidingWindow: world.slidingWindow,
  });
}

/** An engine, its runner, and everything that its steps reported. */
export class Simulation {
  runner: FakeRunner;
  readonly engine: Engine;
  readonly outcomes = new Map<string, Outcome>();
  readonly admitted = new Map<number, number>();
  readonly computed = new Map<string, number>();
  last: StepResult | null = null;
  numSteps = 0;
  /** With `faults` a lost runner is replaced, as often as `options` allow; without, the engine ends with it. */
  constructor(
    overrides: Partial<World> = {},
    faults?: readonly Fault[],
    options: EngineOptions = {},
  ) {
    const world = { ...WORLD, ...overrides };
    const plan = faults && new FaultPlan(faults);
    this.runner = makeRunner(world, plan);
    this.engine = new Engine(
      this.runner,
      { ...ENGINE_DEFAULTS, ...world },
      {
        slidingWindow: world.slidingWindow,
        ...(plan && {
          reopen: () => (this.runner = makeRunner(world, plan)),
        }),
        ...options,
        ...(world.hash && { hash: world.hash }),
      },
    );
  }

  add(spec: RequestSpec | Request): Request {
    const added = "promptTokenIds" in spec ? spec : request(spec);
    this.engine.add(added);
    return added;
  }

  outcome({ handle }: { handle: number }, choice = 0): Outcome {
    const key = `${handle}/${choice}`;
    let outcome = this.outcomes.get(key);
    if (!outcome) {
      outcome = {
        tokens: [],
        logprobs: [],
        topIds: [],
        promptTokens: [],
        promptLogprobs: [],
        finish: FinishReason.none,
        stopTokenId: -1,
        numFinished: 0,
      };
      this.outcomes.set(key, outcome);
    }
    return outcome;
  }

  /** One step; books are checked, and blocks that nobody can ask for again are poisoned. */
  step(): StepResult | null {
    const result = this.engine.step();
    this.numSteps++;
    this.engine.checkIntegrity();
    const { kv } = this.engine.scheduler;
    for (let block = 0; block < kv.numBlocks; block++)
      if (!kv.isLive(block)) this.runner.poison(block);
    if (result) this.note(result);
    this.last = result ?? this.last;
    return result;
  }

  run(maxSteps = 20_000): this {
    for (let i = 0; !this.engine.idle; i++) {
      if (i > maxSteps) throw new Error("the engine does not come to an end");
      this.step();
    }
    return this;
  }

  private note({ events, finished, admitted }: StepResult): void {
    readEvents(events.toMessage(), (event) => {
      const outcome = this.outcome(event, event.choice);
      if (outcome.finish !== FinishReason.none)
        throw new Error("an event after the last one");
      if (event.kind === EventKind.promptLogprob) {
        outcome.promptTokens.push(event.token);
        outcome.promptLogprobs.push(event.logprob);
        return;
      }
      outcome.finish = event.finish;
      outcome.stopTokenId = event.stopTokenId;
      if (event.kind === EventKind.finish) return;
      outcome.tokens.push(event.token);
      if (event.numTop < 0) return;
      outcome.logprobs.push(event.logprob);
      outcome.topIds.push([...event.topIds]);
    });
    for (const { handle, choice, finish, ...rest } of finished) {
      const outcome = this.outcome({ handle }, choice);
      outcome.numFinished++;
      this.computed.set(`${handle}/${choice}`, rest.numComputedPromptTokens);
      if (
        outcome.finish !== finish ||
        outcome.tokens.length !== rest.numOutputTokens
      )
        throw new Error("the finished choice is what its events said");
    }
    for (const { handle, numCachedTokens } of admitted) {
      if (this.admitted.has(handle)) throw new Error("admitted twice");
      this.admitted.set(handle, numCachedTokens);
    }
  }
}

/** A choice computed alone by the definition of the fake model, without blocks and batches. */
export function naiveOutcome(
  { promptTokenIds, params }: Request,
  choice: number,
  { maxModelLen, slidingWindow }: Pick<World, "maxModelLen" | "slidingWindow">,
): Omit<Outcome, "numFinished" | "topIds"> {
  // seed + choice over 64 bits.
  const low = (params.seedLo >>> 0) + choice;
  const high = params.seedHi + (low > 0xffffffff ? 1 : 0);
  const all = [...promptTokenIds];
  const next = (length: number): { token: number; seen: number } =>
    fakeToken(all, length, low, high, VOCAB, slidingWindow);
  const tokens: number[] = [];
  const logprobs: number[] = [];
  let finish: FinishReason = FinishReason.length;
  let stopTokenId = -1;
  while (tokens.length < params.maxTokens && all.length < maxModelLen) {
    const { token, seen } = next(all.length);
    all.push(token);
    tokens.push(token);
    if (params.logprobs !== null) logprobs.push(fakeLogprob(seen, token));
    if (tokens.length <= params.minTokens) continue;
    if (!params.stopTokenIds.includes(token)) continue;
    finish = FinishReason.stop;
    stopTokenId = params.eosTokenIds.includes(token) ? -1 : token;
    break;
  }
  const wanted = params.promptLogprobs !== null && choice === 0;
  const promptTokens = wanted ? [...promptTokenIds.subarray(1)] : [];
  const promptLogprobs = promptTokens.map((token, i) =>
    fakeLogprob(next(i + 1).seen, token),
  );
  return {
    tokens,
    logprobs,
    promptTokens,
    promptLogprobs,
    finish,
    stopTokenId,
  };
}
