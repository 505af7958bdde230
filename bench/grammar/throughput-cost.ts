import { now } from "../../src/core/config.js";
import { OctavoError } from "../../src/core/errors.js";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import { percentile } from "../serve/statistics.js";
import type { GrammarEngine } from "./grammar-engine.js";
import { RECORDS } from "./grammars.js";

/** Tokens per second: output of the whole run, prompts included, and of the steps that decode all streams. */
export interface Speed {
  output_tokens_per_second: number;
  decode_tokens_per_second: number;
}

/** Constrained / free, pair by pair. */
export interface Ratio {
  median: number;
  quartiles: [number, number];
  pairs: number[];
}

export interface ThroughputCost {
  free: Speed[];
  constrained: Speed[];
  output_ratio: Ratio;
  decode_ratio: Ratio;
}

export interface ThroughputOptions {
  batchSize: number;
  outputLen: number;
  numIters: number;
  numItersWarmup: number;
  seed: number;
  makePrompt: () => Int32Array;
  onRun: () => void;
}

/**
 * The same prompts free and constrained, all at once, in pairs; which of the two is first alternates. Both generate
 * `outputLen` tokens each.
 */
export async function measureThroughputCost(
  engine: GrammarEngine,
  options: ThroughputOptions,
): Promise<ThroughputCost> {
  const { batchSize, numIters, numItersWarmup, makePrompt } = options;
  const free: Speed[] = [];
  const constrained: Speed[] = [];
  for (let i = 0; i < numItersWarmup + numIters; i++) {
    const prompts = Array.from({ length: batchSize }, makePrompt);
    const runs: [Speed[], GrammarSpec | null][] = [
      [free, null],
      [constrained, RECORDS],
    ];
    if (i % 2 === 1) runs.reverse();
    for (const [speeds, grammar] of runs) {
      const speed = await runBatch(engine, prompts, grammar, options);
      if (i >= numItersWarmup) speeds.push(speed);
      options.onRun();
    }
  }
  const ratio = (of: (speed: Speed) => number): Ratio =>
    ratioOf(constrained.map(of), free.map(of));
  return {
    free,
    constrained,
    output_ratio: ratio((speed) => speed.output_tokens_per_second),
    decode_ratio: ratio((speed) => speed.decode_tokens_per_second),
  };
}

async function runBatch(
  engine: GrammarEngine,
  prompts: readonly Int32Array[],
  grammar: GrammarSpec | null,
  { outputLen, seed }: ThroughputOptions,
): Promise<Speed> {
  const steps = new FullSteps(engine, prompts.length);
  try {
    const start = now();
    const leases = grammar
      ? await Promise.all(prompts.map(() => engine.acquire(grammar)))
      : [];
    const finished = await Promise.all(
      prompts.map(
        (promptTokenIds, i) =>
          engine.submit({
            promptTokenIds,
            outputLen,
            lease: leases[i] ?? null,
            seed,
          }).finished,
      ),
    );
    const short = finished.find((one) => one.numOutputTokens !== outputLen);
    if (short)
      throw new OctavoError(
        "internal_error",
        `an output ended after ${short.numOutputTokens} of ${outputLen} tokens`,
      );
    const end = Math.max(...finished.map(({ lastTokenTime }) => lastTokenTime));
    return {
      output_tokens_per_second:
        (prompts.length * outputLen) / ((end - start) / 1e3),
      decode_tokens_per_second: steps.tokensPerSecond,
    };
  } finally {
    steps.close();
  }
}

/** The steps that compute one token of each of `batchSize` streams, by the engine's clock. */
class FullSteps {
  private count = 0;
  private milliseconds = 0;
  private last: number | null = null;
  readonly close: () => void;

  constructor(
    engine: GrammarEngine,
    private readonly batchSize: number,
  ) {
    this.close = engine.onStep(({ iterationTokens, numRunning, time }) => {
      const full = iterationTokens === batchSize && numRunning === batchSize;
      if (full && this.last !== null) {
        this.count++;
        this.milliseconds += time - this.last;
      }
      this.last = full ? time : null;
    });
  }

  /** NaN where there were none. */
  get tokensPerSecond(): number {
    return (this.count * this.batchSize) / (this.milliseconds / 1e3);
  }
}

function ratioOf(
  constrained: readonly number[],
  free: readonly number[],
): Ratio {
  const pairs = constrained.map((value, i) => value / (free[i] ?? NaN));
  const sorted = Float64Array.from(pairs).sort();
  const at = (p: number): number => percentile(sorted, p);
  return { median: at(50), quartiles: [at(25), at(75)], pairs };
}
