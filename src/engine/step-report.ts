import { now } from "../core/config.js";
import { TokenEvents } from "../core/events.js";
import type { FinishReason } from "../core/request.js";
import type { Sequence } from "../core/sequence.js";
import type { Scheduler } from "../scheduler/scheduler.js";
import type { SchedulerReport } from "../scheduler/scheduler-config.js";
import type { SpecStats } from "../spec/spec-stats.js";
import type {
  AdmittedRequest,
  FinishedChoice,
  PreemptedChoice,
} from "./messages.js";
import { emptyStats } from "./stats.js";
import type { EngineStats } from "./stats.js";

/** What a step brought; reused by the next one. */
export interface StepResult {
  readonly events: TokenEvents;
  readonly finished: FinishedChoice[];
  readonly admitted: AdmittedRequest[];
  readonly preempted: PreemptedChoice[];
  readonly stats: EngineStats;
}

/**
 * What the scheduler did since the last delivery, told once:
 *
 *   scheduler adds -> `deliver`: described in `result`, which the step returns -> `clearDelivered`, before more is added
 */
export class StepReport implements SchedulerReport {
  readonly events = new TokenEvents();
  readonly finished: Sequence[] = [];
  readonly finishReasons: FinishReason[] = [];
  readonly admitted: Sequence[] = [];
  readonly preempted: Sequence[] = [];
  verified?: SchedulerReport["verified"];
  readonly result: StepResult;
  private delivered = false;

  constructor(numBlocks: number) {
    this.result = {
      events: this.events,
      finished: [],
      admitted: [],
      preempted: [],
      stats: emptyStats(numBlocks),
    };
  }

  /** Something was added that has not been delivered. */
  get hasNews(): boolean {
    if (this.delivered) return false;
    const { events, finished, admitted, preempted } = this;
    return (
      events.count + finished.length + admitted.length + preempted.length > 0
    );
  }

  /** Call it before anything is added: what has been delivered is not valid any longer. */
  clearDelivered(): void {
    if (!this.delivered) return;
    this.delivered = false;
    this.events.clear();
    this.finished.length = 0;
    this.finishReasons.length = 0;
    this.admitted.length = 0;
    this.preempted.length = 0;
    this.result.finished.length = 0;
    this.result.admitted.length = 0;
    this.result.preempted.length = 0;
  }

  /** The result is valid until `clearDelivered`. `speculation`: null where nothing is speculated. */
  deliver(scheduler: Scheduler, speculation: SpecStats | null): StepResult {
    const { finished, finishReasons, result } = this;
    for (let i = 0; i < finished.length; i++)
      result.finished.push(
        describeFinished(
          finished[i] as Sequence,
          finishReasons[i] as FinishReason,
        ),
      );
    for (const sequence of this.admitted)
      result.admitted.push({
        handle: sequence.request.handle,
        numCachedTokens: sequence.numCachedTokens,
        missReason: sequence.prefixMiss,
        scheduledTime: sequence.firstScheduledTime,
      });
    for (const { request, choice } of this.preempted)
      result.preempted.push({
        handle: request.handle,
        choice,
        time: now(),
      });
    fillStats(result.stats, scheduler);
    result.stats.speculation = speculation;
    this.delivered = true;
    return result;
  }
}

function fillStats(stats: EngineStats, scheduler: Scheduler): void {
  const { kv, admission } = scheduler;
  stats.numRunning = scheduler.numRunning;
  stats.numWaitingDeferred = scheduler.numDeferred;
  stats.numWaiting = scheduler.numQueued + stats.numWaitingDeferred;
  stats.kvCacheUsage = kv.usage;
  stats.numFreeBlocks = kv.numFreeBlocks;
  stats.numCachedFreeBlocks = kv.numCachedFreeBlocks;
  stats.numPreemptions = scheduler.numPreemptions;
  stats.prefixCacheQueries = admission.prefixQueries;
  stats.prefixCacheHits = admission.prefixHits;
  stats.prefixCacheMisses.cold = admission.prefixMisses.cold;
  stats.prefixCacheMisses.evicted = admission.prefixMisses.evicted;
  stats.prefixCacheMisses.salt = admission.prefixMisses.salt;
  stats.prefixCacheMisses.tooShort = admission.prefixMisses.tooShort;
  stats.time = now();
}

function describeFinished(
  sequence: Sequence,
  finish: FinishReason,
): FinishedChoice {
  return {
    handle: sequence.request.handle,
    choice: sequence.choice,
    finish,
    numOutputTokens: sequence.numOutputTokens,
    numComputedPromptTokens: sequence.numPromptTokensComputed,
    numPreemptions: sequence.numPreemptions,
    firstScheduledTime: sequence.firstScheduledTime,
    firstTokenTime: sequence.firstTokenTime,
    lastTokenTime: sequence.lastTokenTime,
  };
}
