import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import type { Request } from "../../src/core/request.js";
import type { HostedEngine, HostedStep } from "../../src/engine/engine-host.js";
import { Engine } from "../../src/engine/engine.js";
import { FakeRunner } from "../../src/runner/fake-runner.js";
import { VOCAB } from "./support.js";

export interface PagedOptions extends Partial<EngineConfig> {
  numBlocks?: number;
  maxModelLen?: number;
}

/** The real scheduler and KV cache over the fake runner. */
export function pagedEngine(options: PagedOptions = {}): Engine {
  const { numBlocks = 64, maxModelLen = 128, ...config } = options;
  const settings = { ...ENGINE_DEFAULTS, maxNumSeqs: 8, ...config };
  const runner = new FakeRunner({
    maxNumTokens: 256,
    maxNumSeqs: settings.maxNumSeqs,
    maxNumSamples: 2 * settings.maxNumSeqs,
    maxModelLen,
    numBlocks,
    vocabSize: VOCAB,
  });
  return new Engine(runner, settings);
}

/** An engine that computes only as many steps as it is let; aborts get a step of their own to be told of. */
export class GatedEngine implements HostedEngine {
  /** Steps that computed something. */
  numSteps = 0;
  private allowed = 0;

  constructor(private readonly inner: Engine) {}

  get idle(): boolean {
    return this.inner.idle || this.allowed <= 0;
  }

  /** `steps` more steps; the engine takes them when it hears of anything next. */
  allow(steps: number): void {
    this.allowed += steps;
  }

  /** No more steps. */
  close(): void {
    this.allowed = 0;
  }

  add(request: Request): void {
    this.inner.add(request);
  }

  abort(handle: number, choice: number, reason: "abort" | "stop"): void {
    this.inner.abort(handle, choice, reason);
    this.allowed = Math.max(1, this.allowed);
  }

  step(): HostedStep | null {
    this.allowed--;
    const step = this.inner.step();
    if (step !== null && step.stats.iterationTokens > 0) this.numSteps++;
    return step;
  }

  checkIntegrity(): void {
    this.inner.checkIntegrity();
  }

  resetPrefixCache(): boolean {
    return this.inner.resetPrefixCache();
  }
}
