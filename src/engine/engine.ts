import { ScheduledBatch } from "../core/batch.js";
import type { EngineConfig } from "../core/config.js";
import { assert, OctavoError } from "../core/errors.js";
import type { MaskSource } from "../core/constraint.js";
import { FinishReason } from "../core/request.js";
import type { Request } from "../core/request.js";
import { RestartBudget } from "../core/restart-budget.js";
import type { BlockHash } from "../kv/prefix-cache.js";
import type { ChannelSizes } from "../grammar/channel.js";
import { MaskClient } from "../grammar/mask-client.js";
import type { ModelRunner, StepOutput } from "../runner/runner.js";
import { Timing } from "../runner/step-arena.js";
import { Scheduler } from "../scheduler/scheduler.js";
import type { Drafter } from "../spec/drafter.js";
import { Pace } from "../spec/pace.js";
import type { Speculator } from "../spec/speculator.js";
import { Constraints } from "./constraints.js";
import type { AbortReason } from "./messages.js";
import { kindOf, makeSpeculator, onlyDecodes } from "./speculation.js";
import type { EngineStats, RunnerHealth } from "./stats.js";
import { StepReport } from "./step-report.js";
import type { StepResult } from "./step-report.js";

export interface EngineOptions {
  /** When every layer of the model is windowed: tokens that a position sees, itself included. */
  slidingWindow?: number | null;
  /** Makes drafts as speculativeConfig says; the engine has it to itself. */
  drafter?: Drafter;
  /** Masks of constrained requests; by default those of the workers that are attached. */
  masks?: MaskSource;
  /**
   * Makes a runner of the same limits to replace one that was lost; blocks while the weights are read. Without it a
   * device error ends everything.
   */
  reopen?: () => ModelRunner;
  /** How often that may be done. */
  restarts?: RestartBudget;
  /** For tests: a weak hash of prefixes. */
  hash?: BlockHash;
}

/**
 * Schedules, steps and books; synchronous, without threads and promises. Two loops that give the same output:
 *
 *   plain   schedule n, launch n, collect n, update n
 *   ahead                schedule n+1, launch n+1, collect n, update n       (n was launched by the call before)
 *
 * One step ahead, the tokens of n are not known while n+1 is scheduled: they are named by their rows. A sequence that n
 * ends has a garbage row in n+1, which is dropped when n+1 is booked.
 *
 * Where drafts pay (see Speculator) the loop is the plain one: what follows accepted drafts is known only once they are
 * booked.
 *
 * A batch with constrained rows is launched like any other and computes up to its logits. Its masks are asked for as soon
 * as the tokens before it are booked, and it is sampled when they are there: `begin` and `apply` of Constraints.
 */
export class Engine {
  readonly scheduler: Scheduler;
  private readonly report: StepReport;
  private readonly batches: [ScheduledBatch, ScheduledBatch];
  private readonly grammars = new MaskClient();
  private readonly constraints: Constraints;
  private readonly speculator: Speculator | null;
  /** Launched and not collected. */
  private pending: ScheduledBatch | null = null;
  private readonly pace = new Pace();
  private readonly reopen: (() => ModelRunner) | null;
  private readonly restarts: RestartBudget;

  /** Throws invalid_config when the KV cache can't hold one sequence of the model's length. */
  constructor(
    private currentRunner: ModelRunner,
    private readonly config: Pick<
      EngineConfig,
      | "blockSize"
      | "maxNumSeqs"
      | "maxNumBatchedTokens"
      | "longPrefillTokenThreshold"
      | "enableChunkedPrefill"
      | "enablePrefixCaching"
      | "asyncScheduling"
      | "schedulingPolicy"
      | "speculativeConfig"
    >,
    options: EngineOptions = {},
  ) {
    const { limits } = currentRunner;
    this.report = new StepReport(limits.numBlocks);
    this.scheduler = new Scheduler(
      {
        blockSize: config.blockSize,
        maxNumSeqs: Math.min(config.maxNumSeqs, limits.maxNumSeqs),
        maxNumBatchedTokens: Math.min(
          config.maxNumBatchedTokens,
          limits.maxNumTokens,
        ),
        longPrefillTokenThreshold: config.longPrefillTokenThreshold,
        enableChunkedPrefill: config.enableChunkedPrefill,
        enablePrefixCaching: config.enablePrefixCaching,
        schedulingPolicy: config.schedulingPolicy,
        numBlocks: limits.numBlocks,
        maxModelLen: limits.maxModelLen,
        maxNumSamples: limits.maxNumSamples,
        slidingWindow: options.slidingWindow ?? null,
        ...(options.hash && { hash: options.hash }),
      },
      this.report,
    );
    this.constraints = new Constraints(
      {
        setMask: (row, mask) => this.currentRunner.setMask(row, mask),
        sample: () => this.currentRunner.sample(),
      },
      limits.vocabSize,
      options.masks ?? this.grammars,
    );
    this.speculator = makeSpeculator(
      options.drafter,
      config,
      limits,
      this.constraints,
    );
    this.report.verified = (sequence, drafted, accepted, judged) =>
      this.speculator?.noteVerified(sequence, drafted, accepted, judged);
    this.reopen = options.reopen ?? null;
    this.restarts = options.restarts ?? new RestartBudget();
    this.batches = [
      new ScheduledBatch(limits.maxNumSeqs),
      new ScheduledBatch(limits.maxNumSeqs),
    ];
  }

  /** The one that computes now; another one after a restart. */
  get runner(): ModelRunner {
    return this.currentRunner;
  }

  /** Nothing to compute, to collect, to report or to restart. */
  get idle(): boolean {
    return (
      !this.scheduler.hasUnfinished &&
      !this.pending &&
      !this.report.hasNews &&
      !this.health.restarting
    );
  }

  /** Throws context_length_exceeded or invalid_request, and nothing changes. */
  add(request: Request): void {
    this.scheduler.add(request);
  }

  attachGrammars(
    channel: number,
    memory: SharedArrayBuffer,
    sizes: ChannelSizes,
  ): void {
    this.grammars.attach(channel, memory, sizes);
  }

  /** Sequences whose way through a grammar is followed. */
  get numMatchers(): number {
    return this.constraints.numMatchers;
  }

  /** Ends choices (-1: all) of a request before the next step; what is under way for them is dropped. */
  abort(handle: number, choice: number, reason: AbortReason): void {
    this.report.clearDelivered();
    this.scheduler.abort(handle, choice, FinishReason[reason]);
  }

  /**
   * One step, or the report of what ended without one; null when there is neither. The result is valid until the next
   * call.
   *
   * A device error is not thrown where the runner can be replaced: this step reports the loss (stats.runner), the next
   * one opens another, and those after it replay what was under way. Any other failure, and a device error too many,
   * ends every request with an error (told by the next call) and is thrown on.
   */
  step(): StepResult | null {
    this.report.clearDelivered();
    const { stats } = this;
    stats.iterationTokens = 0;
    try {
      if (this.health.restarting) {
        this.openAnother();
        return this.deliver();
      }
      this.computeStep();
    } catch (error) {
      if (!this.isReplaceable(error)) throw this.fail(error);
      if (!this.restarts.take()) throw this.fail(givenUp(error));
      this.loseRunner(error);
      return this.deliver();
    }
    if (stats.iterationTokens === 0 && !this.report.hasNews) return null;
    return this.deliver();
  }

  /** Throws internal_error when the books don't balance. O(blocks): for tests and idle moments. */
  checkIntegrity(): void {
    this.scheduler.checkIntegrity();
  }

  /** Forgets cached prefixes; requests under way are not touched. True: it is always possible. */
  resetPrefixCache(): boolean {
    this.scheduler.kv.resetPrefixCache();
    return true;
  }

  private computeStep(): void {
    const { stepSeconds } = this.stats;
    stepSeconds.draft = 0;
    stepSeconds.schedule = stepSeconds.pack = stepSeconds.launch = 0;
    const wasAhead = this.pending !== null;
    const current = this.pending ?? this.launchFirst(this.batches[0]);
    if (!current) {
      this.pace.interrupt();
      return;
    }
    if (!wasAhead) this.constraints.begin(current);
    const ahead = this.goesAhead(current)
      ? this.launchNext(this.otherThan(current))
      : null;
    this.sample(current);
    const collecting = performance.now();
    const output = this.currentRunner.collect();
    const updating = performance.now();
    this.pending = ahead;
    this.stats.iterationTokens = this.scheduler.update(current, output);
    if (ahead) this.constraints.begin(ahead);
    this.noteTimes(output, collecting, updating);
    this.stats.numSteps++;
    if (ahead) this.lookAhead();
    this.notePace(current, wasAhead);
  }

  /** What the next step computes can't be chosen before this one is booked where either has drafts. */
  private goesAhead({ numDraftTokens }: ScheduledBatch): boolean {
    if (!this.config.asyncScheduling || numDraftTokens > 0) return false;
    return !this.speculator?.waitsForBooking(this.scheduler.runningSequences);
  }

  /** Everything is booked: the step may have drafts. */
  private launchFirst(batch: ScheduledBatch): ScheduledBatch | null {
    if (!this.speculator) return this.launchNext(batch, true);
    const start = performance.now();
    this.speculator.propose(this.scheduler.runningSequences);
    this.stats.stepSeconds.draft += (performance.now() - start) / 1e3;
    return this.launchNext(batch, true);
  }

  private lookAhead(): void {
    if (!this.speculator) return;
    const start = performance.now();
    this.speculator.lookAhead(this.scheduler.runningSequences);
    this.stats.stepSeconds.draft += (performance.now() - start) / 1e3;
  }

  /** Gives a batch that waits for masks what it waits for. A sequence that can't go on ends with an error. */
  private sample(batch: ScheduledBatch): void {
    for (const { sequence, reason } of this.constraints.apply(batch)) {
      const { request, choice } = sequence;
      this.scheduler.abort(request.handle, choice, reason);
    }
  }

  private otherThan(batch: ScheduledBatch): ScheduledBatch {
    return batch === this.batches[0] ? this.batches[1] : this.batches[0];
  }

  /** Schedules into `batch` and launches it, first or ahead of another; null when there is nothing to compute. */
  private launchNext(
    batch: ScheduledBatch,
    isFirst = false,
  ): ScheduledBatch | null {
    const { stepSeconds } = this.stats;
    const start = performance.now();
    this.scheduler.schedule(batch, isFirst && this.speculator !== null);
    const scheduled = performance.now();
    stepSeconds.schedule += (scheduled - start) / 1e3;
    if (batch.numSeqs === 0) return null;
    // Masks are made while a constrained step computes.
    const awaited =
      isFirst && batch.numConstrained === 0 && !this.goesAhead(batch);
    this.currentRunner.launch(batch, awaited);
    const pack = this.currentRunner.seconds?.pack ?? 0;
    stepSeconds.pack += pack;
    stepSeconds.launch += (performance.now() - scheduled) / 1e3 - pack;
    return batch;
  }

  private noteTimes(
    output: StepOutput,
    collecting: number,
    updating: number,
  ): void {
    const { stepSeconds } = this.stats;
    stepSeconds.device = (output.timings[Timing.total] ?? 0) / 1e6;
    stepSeconds.collect = (updating - collecting) / 1e3;
    stepSeconds.update = (performance.now() - updating) / 1e3;
  }

  private get stats(): EngineStats {
    return this.report.result.stats;
  }

  private get health(): RunnerHealth {
    return this.stats.runner;
  }

  private isReplaceable(error: unknown): error is OctavoError {
    return (
      this.reopen !== null &&
      error instanceof OctavoError &&
      error.code === "device_error"
    );
  }

  /** Whatever was launched never comes; the requests are put back to be computed from their tokens. */
  private loseRunner(error: OctavoError): void {
    this.pending = null;
    // Both were filled since the last booking, or one is empty: none of what they hold has been booked.
    const numReplayed = this.scheduler.replay(this.batches);
    for (const batch of this.batches) batch.clear();
    const { health } = this;
    health.restarting = true;
    health.numFailures++;
    health.numReplayedRequests += numReplayed;
    health.lastError = error.message;
  }

  private openAnother(): void {
    this.currentRunner.close();
    assert(this.reopen !== null, "a lost runner can be replaced");
    this.currentRunner = this.reopen();
    this.speculator?.reset();
    this.health.restarting = false;
    this.health.numRestarts++;
  }

  /** Whatever was launched never comes, and every request ends. */
  private fail(error: unknown): OctavoError {
    this.pending = null;
    this.scheduler.abortAll(FinishReason.error);
    if (error instanceof OctavoError) return error;
    const message = error instanceof Error ? error.message : String(error);
    return new OctavoError("internal_error", message, null, { cause: error });
  }

  private deliver(): StepResult {
    for (const sequence of this.report.finished) {
      this.constraints.release(sequence);
      this.speculator?.release(sequence);
    }
    return this.report.deliver(this.scheduler, this.speculator?.stats ?? null);
  }

  /** Tells the speculator what the step took, where it can be compared with others. */
  private notePace(batch: ScheduledBatch, wasAhead: boolean): void {
    const kind = kindOf(batch, wasAhead, this.pending !== null, this.config);
    const seconds = this.pace.step(kind);
    if (!this.speculator || !onlyDecodes(batch)) return;
    if (seconds > 0) this.speculator.noteStep(kind, batch.numTokens, seconds);
    if (kind !== "plain") this.speculator.settle(this.pace.elapsed);
  }
}

function givenUp(error: OctavoError): OctavoError {
  const message = `The device failed for the third time within a minute: ${error.message}`;
  return new OctavoError("device_error", message, null, { cause: error });
}
