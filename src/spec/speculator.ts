import { NO_DRAFTS } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import type { SpeculativeConfig } from "../core/speculative-config.js";
import { OverallAcceptance } from "./acceptance.js";
import { Budget } from "./budget.js";
import { DraftController } from "./draft-controller.js";
import type { StepKind } from "./draft-controller.js";
import type { DraftCandidates } from "./draft-plan.js";
import { DraftBatch } from "./drafter.js";
import type { Drafter } from "./drafter.js";
import { Forecast } from "./forecast.js";
import { SpecCounter } from "./spec-stats.js";
import type { SpecStats } from "./spec-stats.js";
import { Waiting } from "./waiting.js";

export interface SpeculatorOptions {
  drafter: Drafter;
  config: Pick<SpeculativeConfig, "numSpeculativeTokens" | "adaptive">;
  maxNumSeqs: number;
  vocabSize: number;
  /** Rows that a step may sample. */
  mostRows: number;
  /** Drafts that can be of use before a sequence is as long as it may be. */
  room: (sequence: Sequence) => number;
  /** How many of the drafts (beginning with the first) can be verified, where not all can. */
  verifiable?: (sequence: Sequence, drafts: Int32Array) => number;
}

/** The running sequences, in order of rank. */
export interface RunningSequences {
  readonly length: number;
  at(i: number): Sequence;
}

/** A step that took longer than so many times what was expected was disturbed. */
const OUTLIER = 3;

/**
 * Decides, before each step, for which sequences how many drafts are verified in it.
 *
 *   waiting    propose -> step, with drafts where some are good -> book -> propose ...    while that pays: see Waiting
 *   ahead      step -> step -> ...   none has drafts; each is scheduled while the one before computes. What the drafter
 *              would have proposed is compared with what comes, until it looks as if drafts would pay
 */
export class Speculator {
  private readonly drafter: Drafter;
  /** What may have drafts, and what the drafter is asked for. */
  private readonly eligible: DraftBatch;
  private readonly asked: DraftBatch;
  private readonly controller: DraftController;
  private readonly counter: SpecCounter;
  private readonly overall = new OverallAcceptance();
  private readonly forecasts = new Map<Sequence, Forecast>();
  private readonly candidates: DraftCandidates;
  /** Int32 [maxNumSeqs] */
  private readonly lengths: Int32Array;
  private readonly waiting = new Waiting();
  private readonly budget = new Budget();
  private waits = false;
  /** Nothing that may have drafts decoded when `propose` was last called. */
  private idle = false;
  /** The step that is waited for; 0 sequences: none. */
  private readonly current = { numSeqs: 0, rows: 0, numAccepted: 0 };
  /** The latest drafts made a draft model read sequences that were new to it. */
  private hasRead = false;

  constructor(private readonly options: SpeculatorOptions) {
    const { maxNumSeqs, config } = options;
    this.drafter = options.drafter;
    this.eligible = new DraftBatch(maxNumSeqs, config.numSpeculativeTokens);
    this.asked = new DraftBatch(maxNumSeqs, config.numSpeculativeTokens);
    this.controller = new DraftController(options.mostRows);
    this.counter = new SpecCounter(config.numSpeculativeTokens);
    this.candidates = {
      count: 0,
      acceptance: new Float64Array(maxNumSeqs),
      reach: new Float64Array(maxNumSeqs),
      limit: new Int32Array(maxNumSeqs),
    };
    this.lengths = new Int32Array(maxNumSeqs);
  }

  get stats(): SpecStats {
    const { stats } = this.counter;
    stats.failure = this.drafter.failure ?? null;
    return stats;
  }

  /** The next step is not to be scheduled before this one is booked: it is likely to have drafts. */
  waitsForBooking(running: RunningSequences): boolean {
    if (this.waits || !this.idle || !this.waiting.pays) return this.waits;
    // Prompts alone: what comes after them may have drafts from the first step on.
    for (let i = 0; i < running.length; i++)
      if (this.mostFor(running.at(i)) > 0) return true;
    return false;
  }

  /** Before a step, with everything booked: sets the draftTokens of running sequences. */
  propose(running: RunningSequences): void {
    const start = performance.now();
    const numSeqs = this.collect(running, 0);
    const { eligible, lengths, waiting } = this;
    const { adaptive } = this.options.config;
    this.current.numSeqs = 0;
    this.idle = eligible.count === 0;
    this.waits = !adaptive && eligible.count > 0;
    if (this.idle || (adaptive && this.budget.isSpent && !waiting.pays)) return;
    for (let i = 0; i < eligible.count; i++)
      this.forecastOf(eligible.sequence(i)).drop();
    lengths.set(eligible.wanted.subarray(0, eligible.count));
    if (adaptive && this.isCostly) {
      this.fillCandidates(eligible, eligible.wanted);
      if (!this.controller.plan(numSeqs, this.candidates, lengths))
        return waiting.end();
    }
    const rows = numSeqs + this.proposeWanted(numSeqs);
    if (!adaptive) return;
    if (rows > numSeqs && !waiting.pays) waiting.begin();
    this.waits = waiting.pays && this.controller.knowsPlain(numSeqs);
    if (rows > numSeqs || this.waits) this.noteCurrent(numSeqs, rows);
    else this.charge(start);
  }

  /** Drafts for the eligible, up to `lengths`; returns how many. */
  private proposeWanted(numSeqs: number): number {
    const { eligible, asked, lengths } = this;
    asked.clear();
    for (let i = 0; i < eligible.count; i++)
      if ((lengths[i] as number) > 0)
        asked.add(eligible.sequence(i), lengths[i] as number);
    this.draft();
    lengths.set(asked.numDrafts.subarray(0, asked.count));
    if (this.options.config.adaptive) {
      this.fillCandidates(asked, asked.numDrafts);
      this.controller.plan(numSeqs, this.candidates, lengths);
    }
    let numDrafts = 0;
    for (let i = 0; i < asked.count; i++) {
      const drafts = asked.draftsOf(i).subarray(0, lengths[i]);
      asked.sequence(i).draftTokens = drafts;
      numDrafts += drafts.length;
    }
    return numDrafts;
  }

  /** While a step without drafts computes that was scheduled ahead: whether the one after it should have some. */
  lookAhead(running: RunningSequences): void {
    const { adaptive } = this.options.config;
    this.waits = false;
    if (adaptive && this.budget.isSpent) return;
    const start = performance.now();
    const numSeqs = this.collect(running, 1);
    if (this.eligible.count === 0) return;
    if (!adaptive) {
      this.waits = true;
      return;
    }
    this.waits = this.isCostly
      ? this.weighProbes(numSeqs)
      : this.weighForecasts(numSeqs);
    this.charge(start);
    if (this.waits) this.waiting.begin();
  }

  /** A step that did nothing but decode took `seconds`, which can be compared with others of its kind. */
  noteStep(kind: StepKind, rows: number, seconds: number): void {
    // What a draft model reads of new sequences is not what steps take.
    const isUsual = kind === "plain" || (!this.hasRead && this.budget.isWarm);
    this.controller.noteStep(isUsual ? kind : "other", rows, seconds);
    this.budget.earn(seconds);
  }

  /** The step that was proposed for took `seconds`, all since the one before it included; 0: that is not known. */
  settle(seconds: number): void {
    const { numSeqs, rows, numAccepted } = this.current;
    this.current.numSeqs = 0;
    if (numSeqs === 0 || !this.controller.knowsPlain(numSeqs)) return;
    const plain = this.controller.plainSeconds(numSeqs);
    const most = OUTLIER * plain * this.controller.costOfWaiting(numSeqs, rows);
    const worth = 1 + numAccepted / numSeqs;
    const usual = Math.min(seconds, most);
    if (seconds > 0 && !this.hasRead) this.waiting.note(worth, usual / plain);
    if (seconds > 0)
      this.budget.settle(worth * plain, this.hasRead ? seconds : usual);
  }

  /** The drafts of a sequence were compared: see SchedulerReport.verified. */
  noteVerified(
    sequence: Sequence,
    drafted: number,
    accepted: number,
    judged: number,
  ): void {
    this.counter.note(drafted, accepted);
    this.current.numAccepted += accepted;
    this.forecastOf(sequence).judged(accepted, judged);
  }

  /** The sequence has ended. */
  release(sequence: Sequence): void {
    this.forecasts.delete(sequence);
    this.drafter.release(sequence);
  }

  /** The runner was replaced. */
  reset(): void {
    this.forecasts.clear();
    this.drafter.reset();
  }

  close(): void {
    this.drafter.close();
  }

  private noteCurrent(numSeqs: number, rows: number): void {
    const { current } = this;
    current.numSeqs = numSeqs;
    current.rows = rows;
    current.numAccepted = 0;
  }

  /** What a look or a proposal took that led to nothing else. */
  private charge(start: number): void {
    this.budget.spend((performance.now() - start) / 1e3);
  }

  /** Looking at what it would propose takes time from the steps. */
  private get isCostly(): boolean {
    return this.drafter.method === "draft_model";
  }

  /** Fills `eligible` with the sequences that may have drafts; returns how many decode. */
  private collect(running: RunningSequences, numInFlight: number): number {
    const { eligible } = this;
    eligible.clear();
    const hasFailed = (this.drafter.failure ?? null) !== null;
    let numSeqs = 0;
    let isHeldBack = false;
    for (let i = 0; i < running.length; i++) {
      const sequence = running.at(i);
      sequence.draftTokens = NO_DRAFTS;
      if (hasFailed) continue;
      const { numTokens, numInFlightTokens, numComputedTokens } = sequence;
      const want = numTokens + numInFlightTokens - numComputedTokens;
      if (want !== 1 || numInFlightTokens !== numInFlight) continue;
      numSeqs++;
      const most = this.mostFor(sequence);
      if (most <= 0) continue;
      if (this.mayAskFor(sequence)) eligible.add(sequence, most);
      else isHeldBack = true;
    }
    // What could go on has ended.
    if (isHeldBack && eligible.count === 0) this.waiting.end();
    return numSeqs;
  }

  /** A draft model goes on with what it has read also where nothing new may be tried. */
  private mayAskFor(sequence: Sequence): boolean {
    return (
      !this.options.config.adaptive ||
      !this.budget.isSpent ||
      !this.isNew(sequence)
    );
  }

  /** Whether the drafter has to read more of the sequence than what a step or two may bring. */
  private isNew(sequence: Sequence): boolean {
    const unseen = this.drafter.numUnseen?.(sequence) ?? 0;
    return unseen > 2 * (this.options.config.numSpeculativeTokens + 1);
  }

  private mostFor(sequence: Sequence): number {
    const { numSpeculativeTokens } = this.options.config;
    const wanted = sequence.request.params.numSpeculativeTokens;
    return Math.min(
      numSpeculativeTokens,
      wanted ?? numSpeculativeTokens,
      this.options.room(sequence),
    );
  }

  private fillCandidates(batch: DraftBatch, limit: Int32Array): void {
    const { candidates } = this;
    candidates.count = batch.count;
    candidates.reach.fill(1, 0, batch.count);
    candidates.limit.set(limit.subarray(0, batch.count));
    for (let i = 0; i < batch.count; i++) {
      const forecast = this.forecastOf(batch.sequence(i));
      forecast.grade = batch.grade[i] as number;
      candidates.acceptance[i] = this.acceptanceOf(forecast);
    }
  }

  /** Asks the drafter, and cuts off what the target could not sample or no mask could be made for. */
  private draft(): void {
    const { asked } = this;
    const { vocabSize, verifiable } = this.options;
    this.noteReads();
    this.drafter.propose(asked);
    for (let i = 0; i < asked.count; i++) {
      const drafts = asked.draftsOf(i);
      const foreign = drafts.findIndex((id) => id < 0 || id >= vocabSize);
      if (foreign >= 0) asked.numDrafts[i] = foreign;
      if (verifiable)
        asked.numDrafts[i] = verifiable(asked.sequence(i), asked.draftsOf(i));
    }
  }

  private noteReads(): void {
    const { asked } = this;
    this.hasRead = false;
    for (let i = 0; i < asked.count && !this.hasRead; i++)
      this.hasRead = this.isNew(asked.sequence(i));
  }

  /** Whether the drafts that would be there after the token in flight pay. */
  private weighForecasts(numSeqs: number): boolean {
    const { eligible, candidates } = this;
    this.compareForecasts();
    this.renewForecasts();
    let count = 0;
    for (let i = 0; i < eligible.count; i++) {
      const sequence = eligible.sequence(i);
      const forecast = this.forecastOf(sequence);
      const left = forecast.numLeft - 1;
      if (left <= 0) continue;
      const acceptance = this.acceptanceOf(forecast);
      candidates.acceptance[count] = acceptance;
      candidates.reach[count] = acceptance;
      candidates.limit[count++] = left;
    }
    candidates.count = count;
    return this.controller.plan(numSeqs, candidates, this.lengths);
  }

  /** Whether the drafts of a model pay; while they don't, it is asked now and then. */
  private weighProbes(numSeqs: number): boolean {
    const { eligible, controller, candidates, lengths } = this;
    this.compareForecasts();
    this.fillCandidates(eligible, eligible.wanted);
    if (controller.plan(numSeqs, candidates, lengths)) return true;
    this.renewForecasts();
    return false;
  }

  private compareForecasts(): void {
    const { eligible } = this;
    for (let i = 0; i < eligible.count; i++) {
      const sequence = eligible.sequence(i);
      this.forecastOf(sequence).compare(sequence);
    }
  }

  /** Asks the drafter where nothing is left of what it said before. */
  private renewForecasts(): void {
    const { eligible, asked } = this;
    asked.clear();
    for (let i = 0; i < eligible.count; i++) {
      const sequence = eligible.sequence(i);
      if (this.forecastOf(sequence).numLeft === 0)
        asked.add(sequence, eligible.wanted[i] as number);
    }
    if (asked.count === 0) return;
    this.noteReads();
    this.drafter.propose(asked);
    for (let i = 0; i < asked.count; i++) {
      const sequence = asked.sequence(i);
      const grade = asked.grade[i] as number;
      this.forecastOf(sequence).set(sequence, asked.draftsOf(i), grade);
    }
  }

  /** Of the drafts that it was told of last. */
  private acceptanceOf(forecast: Forecast): number {
    return forecast.acceptance(this.overall.of(forecast.grade));
  }

  private forecastOf(sequence: Sequence): Forecast {
    let forecast = this.forecasts.get(sequence);
    if (!forecast) {
      const { numSpeculativeTokens } = this.options.config;
      forecast = new Forecast(numSpeculativeTokens, (right, judged, grade) => {
        this.overall.note(right, judged, grade);
        this.counter.noteJudged(judged, this.overall.estimate);
      });
      this.forecasts.set(sequence, forecast);
    }
    return forecast;
  }
}
