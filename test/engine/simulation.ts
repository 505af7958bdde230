/** Requests played against an Engine with the FakeRunner, beside what a naive run of the same model gives. */
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { EventKind, readEvents } from "../../src/core/events.js";
import { FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import type { SamplingParams } from "../../src/core/sampling-params.js";
import { Engine } from "../../src/engine/engine.js";
import type { EngineOptions } from "../../src/engine/engine.js";
import type { StepResult } from "../../src/engine/step-report.js";
import { FaultPlan } from "../../src/runner/fault-plan.js";
import type { Fault } from "../../src/runner/fault-plan.js";
import {
  FakeRunner,
  fakeLogprob,
  fakeToken,
} from "../../src/runner/fake-runner.js";
import type { Sequence } from "../../src/core/sequence.js";
import type { DraftBatch, Drafter } from "../../src/spec/drafter.js";
import type { BlockHash } from "../../src/kv/prefix-cache.js";

export const VOCAB = 97;

export interface World {
  numBlocks: number;
  maxModelLen: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  longPrefillTokenThreshold: number;
  enableChunkedPrefill: boolean;
  enablePrefixCaching: boolean;
  asyncScheduling: boolean;
  schedulingPolicy: "fcfs" | "priority";
  slidingWindow: number | null;
  hash?: BlockHash;
  drafts?: DraftWorld | null;
}

/** How sequences are drafted for. */
export interface DraftWorld {
  numSpeculativeTokens: number;
  adaptive: boolean;
  /** Rows that a step may sample beyond one for each sequence. */
  spareRows: number;
  /** 0..1: share of drafts that are what comes, of the others some are no tokens at all. */
  rightness: number;
  /** 0..1: how often there are drafts, and how often fewer than wanted. */
  readiness: number;
  /** Up to `count` tokens that come next; by default those of the fake model. */
  oracle?: (sequence: Sequence, count: number) => number[];
}

export const WORLD: World = {
  numBlocks: 64,
  maxModelLen: 256,
  maxNumSeqs: 8,
  maxNumBatchedTokens: 64,
  longPrefillTokenThreshold: 0,
  enableChunkedPrefill: true,
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

/** Makes the drafts of a DraftWorld: what the fake model will say, or not, as a hash of sequence and position decides. */
export class OracleDrafter implements Drafter {
  readonly method = "ngram";
  readonly live = new Set<Sequence>();
  numReleased = 0;

  constructor(
    private readonly drafts: DraftWorld,
    private readonly slidingWindow: number | null,
  ) {}

  propose(batch: DraftBatch): void {
    for (let i = 0; i < batch.count; i++) this.draft(batch, i);
  }

  private draft(batch: DraftBatch, i: number): void {
    const sequence = batch.sequence(i);
    this.live.add(sequence);
    const { numTokens, request, choice } = sequence;
    const chance = (n: number): number =>
      (fakeToken([request.handle, choice, numTokens, n], 4, 0, 0, 4096).seen >>>
        0) /
      2 ** 32;
    const { numSpeculativeTokens, oracle } = this.drafts;
    const coming = oracle
      ? oracle(sequence, numSpeculativeTokens)
      : this.ask(sequence, numSpeculativeTokens);
    for (const [k, token] of coming.entries()) {
      if (chance(2 * k) >= this.drafts.readiness) return;
      const luck = chance(2 * k + 1);
      const isRight = luck < this.drafts.rightness;
      const wrong = luck > 0.99 ? VOCAB + 5 : (token + 1) % VOCAB;
      batch.push(i, isRight ? token : wrong);
    }
  }

  private ask(sequence: Sequence, count: number): number[] {
    const all = [...sequence.tokens.subarray(0, sequence.numTokens)];
    const [low, high] = seedOf(sequence.request.params, sequence.choice);
    for (let k = 0; k < count; k++) {
      const window = this.slidingWindow;
      all.push(fakeToken(all, all.length, low, high, VOCAB, window).token);
    }
    return all.slice(sequence.numTokens);
  }

  release(sequence: Sequence): void {
    this.live.delete(sequence);
    this.numReleased++;
  }

  reset(): void {
    this.live.clear();
  }

  close(): void {
    this.live.clear();
  }
}

/** seed + choice over 64 bits. */
function seedOf(
  params: SamplingParams,
  choice: number,
): [low: number, high: number] {
  const low = (params.seedLo >>> 0) + choice;
  return [low, params.seedHi + (low > 0xffffffff ? 1 : 0)];
}

export function makeRunner(world: World, faults?: FaultPlan): FakeRunner {
  return new FakeRunner({
    ...(faults && { faults }),
    maxNumTokens: world.maxNumBatchedTokens,
    maxNumSeqs: world.maxNumSeqs,
    maxNumSamples: world.maxNumSeqs + (world.drafts?.spareRows ?? 0),
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
  readonly drafter: OracleDrafter | null | undefined;
  readonly outcomes = new Map<string, Outcome>();
  readonly admitted = new Map<number, number>();
  readonly computed = new Map<string, number>();
  last: StepResult | null = null;
  numSteps = 0;
  /** Tokens that came in one step behind another of the same choice; choices that a stop token ended. */
  numFollowing = 0;
  numEnded = 0;
  /** With `faults` a lost runner is replaced, as often as `options` allow; without, the engine ends with it. */
  constructor(
    overrides: Partial<World> = {},
    faults?: readonly Fault[],
    options: EngineOptions = {},
  ) {
    const world = { ...WORLD, ...overrides };
    const plan = faults && new FaultPlan(faults);
    const { drafts } = world;
    this.drafter = drafts && new OracleDrafter(drafts, world.slidingWindow);
    this.runner = makeRunner(world, plan);
    this.engine = new Engine(
      this.runner,
      {
        ...ENGINE_DEFAULTS,
        ...world,
        speculativeConfig: drafts
          ? {
              method: "ngram",
              promptLookupMin: 1,
              promptLookupMax: 1,
              ...drafts,
            }
          : null,
      },
      {
        slidingWindow: world.slidingWindow,
        ...(this.drafter && { drafter: this.drafter }),
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
    const inThisStep = new Set<Outcome>();
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
      if (inThisStep.has(outcome)) this.numFollowing++;
      inThisStep.add(outcome);
      if (event.finish === FinishReason.stop) this.numEnded++;
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
  const [low, high] = seedOf(params, choice);
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
