import { now } from "../core/config.js";
import type { OctavoError } from "../core/errors.js";
import { FinishReason } from "../core/request.js";
import type {
  AdmittedRequest,
  FinishedChoice,
  PreemptedChoice,
} from "../engine/messages.js";
import type { Meters } from "./meters.js";
import type { RequestOrigin } from "./origin.js";

/** What a timeline knows of a prompt: little, because it outlives the request. */
export interface TimelineFacts {
  /** The engine's name of it: the HTTP request's, with a number where there are several prompts. */
  readonly id: string;
  readonly numPromptTokens: number;
  readonly n: number;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly arrivalTime: number;
  readonly origin: RequestOrigin;
}

/** Milliseconds. Phases that were not reached are null. */
export interface Phases {
  /** Submission to first scheduled. */
  queue: number | null;
  /** First scheduled to first token. */
  prefill: number | null;
  /** First token to last token. */
  decode: number | null;
}

/** Which end counts for a request whose choices ended differently: the first of these. */
const GRAVITY = [
  [FinishReason.lost, "error"],
  [FinishReason.error, "error"],
  [FinishReason.stuck, "error"],
  [FinishReason.slow, "error"],
  [FinishReason.abort, "abort"],
  [FinishReason.length, "length"],
  [FinishReason.stop, "stop"],
] as const;

export type FinishLabel = (typeof GRAVITY)[number][1];

/** Times of preemptions that are remembered; more are only counted. */
const MAX_PREEMPTIONS_SHOWN = 32;

/**
 * What happened to one prompt in the engine, and when: milliseconds on Request.arrivalTime's clock, 0 until it happened.
 * Every figure is counted once, whatever becomes of the request.
 *
 *   arrival -> submitted -> scheduled -> [preempted ...] -> first token -> last token -> end
 */
export class RequestTimeline {
  submittedTime = 0;
  scheduledTime = 0;
  firstTokenTime = 0;
  lastTokenTime = 0;
  endTime = 0;
  /** Prompt tokens found in the prefix cache, and why not more. */
  cachedTokens = 0;
  missReason: AdmittedRequest["missReason"] = null;
  numPreemptions = 0;
  /** The first of them. */
  readonly preemptions: PreemptedChoice[] = [];
  /** Null until it has ended, and where the engine never took it. */
  finishReason: FinishLabel | null = null;
  error: OctavoError | null = null;
  generatedTokens = 0;
  /** Float64 [n], Int32 [n]; dropped at the end. */
  private lastTokenOf: Float64Array;
  private numTokens: Int32Array;
  private ends: FinishedChoice[] = [];

  constructor(
    readonly facts: TimelineFacts,
    /** Null: nothing is counted. */
    private readonly meters: Meters | null,
    private readonly onEnd: () => void,
  ) {
    this.lastTokenOf = new Float64Array(facts.n);
    this.numTokens = new Int32Array(facts.n);
  }

  get ended(): boolean {
    return this.endTime > 0;
  }

  /** The engine's queue has it. */
  submitted(): void {
    this.submittedTime = now();
  }

  /** The prompt is counted here, once, also for n > 1 and after preemptions. */
  admitted(admitted: AdmittedRequest): void {
    if (this.scheduledTime > 0) return;
    const { numCachedTokens, missReason, scheduledTime } = admitted;
    this.scheduledTime = scheduledTime;
    this.cachedTokens = numCachedTokens;
    this.missReason = missReason;
    const { meters } = this;
    if (meters === null) return;
    const total = this.facts.numPromptTokens;
    meters.promptTokens.inc(total);
    meters.promptTokensCached.inc(numCachedTokens);
    meters.promptTokensBySource.local_compute.inc(total - numCachedTokens);
    meters.promptTokensBySource.local_cache_hit.inc(numCachedTokens);
    meters.keyTokens(this.facts.origin.key).prompt.inc(total);
  }

  preempted(preempted: PreemptedChoice): void {
    this.numPreemptions++;
    if (this.preemptions.length < MAX_PREEMPTIONS_SHOWN)
      this.preemptions.push(preempted);
  }

  /** @param time when the step that brought it arrived: the tokens that a choice gets in one step are one output */
  token(choice: number, time: number): void {
    this.generatedTokens++;
    this.numTokens[choice] = (this.numTokens[choice] ?? 0) + 1;
    const last = this.lastTokenOf[choice] ?? 0;
    this.lastTokenOf[choice] = time;
    const first = this.firstTokenTime === 0;
    if (first) this.firstTokenTime = time;
    this.lastTokenTime = time;
    const { meters } = this;
    if (meters === null) return;
    meters.generationTokens.inc();
    if (first)
      meters.timeToFirstToken.observe(seconds(this.facts.arrivalTime, time));
    if (last > 0 && time > last)
      meters.interTokenLatency.observe(seconds(last, time));
  }

  finished(finished: FinishedChoice): void {
    this.ends.push(finished);
    if (this.ends.length === this.facts.n) this.end(null);
  }

  /** The engine failed, or refused it after it had been submitted. */
  failed(error: OctavoError): void {
    this.end(error);
  }

  /** It was never submitted: nothing is counted. */
  refused(error: OctavoError): void {
    this.endTime = now();
    this.error = error;
    this.onEnd();
  }

  /** Of what has been reached so far. */
  phases(): Phases {
    const { scheduledTime, firstTokenTime, lastTokenTime } = this;
    const scheduled = scheduledTime > 0;
    const started = scheduled && firstTokenTime > 0;
    const between = (from: number, to: number): number =>
      Math.max(0, to - from);
    return {
      queue: scheduled ? between(this.submittedTime, scheduledTime) : null,
      prefill: started ? between(scheduledTime, firstTokenTime) : null,
      decode: started ? between(firstTokenTime, lastTokenTime) : null,
    };
  }

  private end(error: OctavoError | null): void {
    if (this.ended) return;
    this.endTime = now();
    this.error = error;
    const gravest = GRAVITY.find(([code]) =>
      this.ends.some((end) => end.finish === code),
    );
    this.finishReason = error !== null ? "error" : (gravest?.[1] ?? "error");
    this.takeEngineTimes();
    if (this.meters !== null) this.count(this.meters, this.finishReason);
    this.lastTokenOf = new Float64Array();
    this.numTokens = new Int32Array();
    this.ends = [];
    this.onEnd();
  }

  /** The engine knows better than the thread that heard of it when its tokens were there. */
  private takeEngineTimes(): void {
    const times = (pick: (end: FinishedChoice) => number): number[] =>
      this.ends.map(pick).filter((time) => time > 0);
    const first = Math.min(...times((end) => end.firstTokenTime));
    const last = Math.max(...times((end) => end.lastTokenTime));
    if (Number.isFinite(first)) this.firstTokenTime = first;
    if (Number.isFinite(last)) this.lastTokenTime = last;
  }

  private count(meters: Meters, finishReason: FinishLabel): void {
    const { facts, generatedTokens: generated } = this;
    meters.requestSuccess[finishReason].inc();
    meters.keyTokens(facts.origin.key).generation.inc(generated);
    meters.e2eLatency.observe(seconds(facts.arrivalTime, this.endTime));
    meters.requestPromptTokens.observe(facts.numPromptTokens);
    meters.requestGenerationTokens.observe(generated);
    meters.requestMaxGenerationTokens.observe(Math.max(...this.numTokens));
    meters.requestMaxTokens.observe(facts.maxTokens);
    meters.requestN.observe(facts.n);
    meters.requestPrefillTokens.observe(
      Math.max(0, ...this.ends.map((end) => end.numComputedPromptTokens)),
    );
    const { queue, prefill, decode } = this.phases();
    if (queue !== null) meters.queueTime.observe(queue / 1000);
    if (prefill === null || decode === null) return;
    meters.prefillTime.observe(prefill / 1000);
    meters.decodeTime.observe(decode / 1000);
    meters.inferenceTime.observe((prefill + decode) / 1000);
    const perChoice = generated / facts.n;
    if (perChoice > 1)
      meters.timePerOutputToken.observe(decode / 1000 / (perChoice - 1));
  }
}

function seconds(from: number, to: number): number {
  return Math.max(0, to - from) / 1000;
}
