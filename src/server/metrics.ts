import { OctavoError } from "../core/errors.js";
import { FinishReason } from "../core/request.js";
import type { EngineClient } from "../engine/engine-client.js";
import type { AdmittedRequest, FinishedChoice } from "../engine/messages.js";
import type { EngineStats } from "../engine/stats.js";
import { createMeters, type Meters } from "./meters.js";

/** What a request's metrics need to know of it at its arrival. */
export interface RequestFacts {
  promptTokenIds: Int32Array;
  n: number;
  arrivalTime: number;
  params: { maxTokens: number };
}

/** prom-client behind the events that count: arrivals, tokens, ends, steps, refusals. */
export class ServerMetrics {
  private readonly meters: Meters;

  constructor(
    engine: EngineClient,
    modelName: string,
    cacheConfig: { enablePrefixCaching: boolean; gpuMemoryUtilization: number },
  ) {
    this.meters = createMeters(engine, modelName, cacheConfig);
    engine.onStep((stats) => this.step(stats));
  }

  /** The exposition, text format 0.0.4. Whole-number bounds print as vLLM's do: le="1.0". */
  async exposition(): Promise<string> {
    const text = await this.meters.registry.metrics();
    return text.replace(/le="(\d+)"/g, 'le="$1.0"');
  }

  /** A request that the engine took. */
  begin(facts: RequestFacts): RequestTimeline {
    return new RequestTimeline(this.meters, facts);
  }

  /** Counts admission refusals; other errors are none of these. */
  refused(error: unknown): void {
    if (!(error instanceof OctavoError) || error.code !== "queue_full") return;
    this.meters.rejections.inc({
      reason:
        error.param === "max_num_queued_tokens"
          ? "max_num_queued_tokens"
          : "max_num_queued_reqs",
    });
  }

  http(method: string, status: number, handler: string, seconds: number): void {
    const labels = { method, status: `${Math.floor(status / 100)}xx`, handler };
    this.meters.httpRequests.inc(labels);
    this.meters.httpDuration.observe(labels, seconds);
  }

  private step(stats: EngineStats): void {
    // A message without computed tokens only reports ends.
    if (stats.iterationTokens === 0) return;
    this.meters.iterationTokens.observe(stats.iterationTokens);
    for (const [stage, seconds] of Object.entries(stats.stepSeconds))
      this.meters.stepSeconds.observe({ stage }, seconds);
  }
}

/** Which end counts for a request whose choices ended differently: the first of these. */
const GRAVITY = [
  [FinishReason.lost, "error"],
  [FinishReason.error, "error"],
  [FinishReason.abort, "abort"],
  [FinishReason.length, "length"],
  [FinishReason.stop, "stop"],
] as const;

/** The times of one engine request. Every figure is observed once, whatever happens to the request. */
export class RequestTimeline {
  private admittedOnce = false;
  private readonly lastToken: Float64Array;
  private readonly numTokens: Int32Array;
  private readonly ends: FinishedChoice[] = [];
  private firstToken = 0;
  private done = false;
  private cachedTokens = 0;

  constructor(
    private readonly meters: Meters,
    private readonly facts: RequestFacts,
  ) {
    this.lastToken = new Float64Array(facts.n);
    this.numTokens = new Int32Array(facts.n);
  }

  /** The prompt is counted here, once, also for n > 1 and after preemptions. */
  admitted({ numCachedTokens }: AdmittedRequest): void {
    if (this.admittedOnce) return;
    this.admittedOnce = true;
    this.cachedTokens = numCachedTokens;
    const total = this.facts.promptTokenIds.length;
    const { meters } = this;
    meters.promptTokens.inc(total);
    meters.promptTokensCached.inc(numCachedTokens);
    meters.promptTokensBySource.inc(
      { source: "local_compute" },
      total - numCachedTokens,
    );
    meters.promptTokensBySource.inc(
      { source: "local_cache_hit" },
      numCachedTokens,
    );
  }

  /** @param time milliseconds, Request.arrivalTime's clock */
  token(choice: number, time: number): void {
    this.meters.generationTokens.inc();
    if (this.firstToken === 0) {
      this.firstToken = time;
      this.meters.timeToFirstToken.observe(
        Math.max(0, time - this.facts.arrivalTime) / 1000,
      );
    }
    const last = this.lastToken[choice] ?? 0;
    if (last > 0)
      this.meters.interTokenLatency.observe(Math.max(0, time - last) / 1000);
    this.lastToken[choice] = time;
    this.numTokens[choice] = (this.numTokens[choice] ?? 0) + 1;
  }

  finished(finished: FinishedChoice): void {
    this.ends.push(finished);
    if (this.ends.length === this.facts.n) this.end(null);
  }

  /** The engine failed or refused it. */
  failed(): void {
    this.end("error");
  }

  private end(reason: "error" | null): void {
    if (this.done) return;
    this.done = true;
    const { meters, facts, ends } = this;
    const label =
      reason ??
      GRAVITY.find(([code]) => ends.some((end) => end.finish === code))?.[1] ??
      "error";
    meters.requestSuccess.inc({ finished_reason: label });
    const endTime = performance.timeOrigin + performance.now();
    meters.e2eLatency.observe(Math.max(0, endTime - facts.arrivalTime) / 1000);
    const generated = this.numTokens.reduce((sum, count) => sum + count, 0);
    meters.requestPromptTokens.observe(facts.promptTokenIds.length);
    meters.requestGenerationTokens.observe(generated);
    meters.requestMaxGenerationTokens.observe(Math.max(...this.numTokens));
    meters.requestMaxTokens.observe(facts.params.maxTokens);
    meters.requestN.observe(facts.n);
    meters.requestPrefillTokens.observe(
      this.admittedOnce ? facts.promptTokenIds.length - this.cachedTokens : 0,
    );
    this.observePhases(generated);
  }

  /** queued -> first scheduled -> first token -> last token; phases that were not reached are not observed. */
  private observePhases(generated: number): void {
    const { meters, facts } = this;
    const times = (pick: (end: FinishedChoice) => number): number[] =>
      this.ends.map(pick).filter((time) => time > 0);
    const scheduled = Math.min(...times((end) => end.firstScheduledTime));
    if (!Number.isFinite(scheduled)) return;
    const seconds = (from: number, to: number): number =>
      Math.max(0, to - from) / 1000;
    meters.queueTime.observe(seconds(facts.arrivalTime, scheduled));
    const first = Math.min(...times((end) => end.firstTokenTime));
    if (!Number.isFinite(first)) return;
    const last = Math.max(...times((end) => end.lastTokenTime));
    meters.prefillTime.observe(seconds(scheduled, first));
    meters.decodeTime.observe(seconds(first, last));
    meters.inferenceTime.observe(seconds(scheduled, last));
    const perChoice = generated / facts.n;
    if (perChoice > 1)
      meters.timePerOutputToken.observe(seconds(first, last) / (perChoice - 1));
  }
}
