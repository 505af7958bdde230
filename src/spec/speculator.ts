import { NO_DRAFTS } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import type { SpeculativeConfig } from "../core/speculative-config.js";
import { OverallAcceptance } from "./acceptance.js";
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

/** Share of the time that may be spent on finding out whether drafts would pay. */
const PROBING = 0.01;
/** The same where each look takes a model's steps. */
const COSTLY_PROBING = 0.005;
/** Seconds a look of a drafter that costs nothing is charged with at most: the first ones find their code cold. */
const MOST_CHARGE = 0.00002;
/** Seconds of it that can be saved up. */
const MOST_CREDIT = 0.001;

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
  private waits = false;
  /** Nothing that may have drafts decoded when `propose` was last called. */
  private idle = false;
  /** The step that is waited for; 0 sequences: none. */
  private readonly current = { numSeqs: 0, rows: 0, numAccepted: 0 };
  /** Seconds that may be spent on looking ahead; what asking a costly drafter took. */
  private credit = 0;
  private probeSeconds = 0;

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
    const numSeqs = this.collect(running, 0);
    const { eligible, lengths, waiting } = this;
    const { adaptive } = this.options.config;
    if (adaptive) this.judgeWaiting();
    this.idle = eligible.count === 0;
    this.waits = !adaptive && eligible.count > 0;
    if (this.idle) return;
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
    // Where it has not paid lately, looking may cost no more than a small share of the time.
    if (adaptive && this.credit < 0) return;
    const start = performance.now();
    const numSeqs = this.collect(running, 1);
    if (this.eligible.count === 0) return;
    if (!adaptive) this.waits = true;
    else if (this.isCostly) this.waits = this.weighProbes(numSeqs);
    else this.waits = this.weighForecasts(numSeqs);
    const took = (performance.now() - start) / 1e3;
    const left =
      this.credit - (this.isCostly ? took : Math.min(took, MOST_CHARGE));
    this.credit = this.waits ? Math.max(0, left) : left;
    if (this.waits && adaptive) this.waiting.begin();
  }

  /** A step that did nothing but decode took `seconds`. */
  noteStep(kind: StepKind, rows: number, seconds: number): void {
    this.controller.noteStep(kind, rows, seconds);
    const most = Math.max(MOST_CREDIT, 2 * this.probeSeconds);
    const share = this.isCostly ? COSTLY_PROBING : PROBING;
    this.credit = Math.min(this.credit + share * seconds, most);
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

  /** How the step before fared, if it was waited for. */
  private judgeWaiting(): void {
    const { numSeqs, rows, numAccepted } = this.current;
    if (numSeqs > 0 && this.controller.knowsPlain(numSeqs))
      this.waiting.note(
        1 + numAccepted / numSeqs,
        this.controller.costOfWaiting(numSeqs, rows),
      );
    this.current.numSeqs = 0;
  }

  /** Looking at what it would propose takes time from the steps. */
  private get isCostly(): boolean {
    return this.drafter.method === "draft_model";
  }

  /** Fills `eligible` with the sequences that may have drafts; returns how many decode. */
  private collect(running: RunningSequences, numInFlight: number): number {
    const { eligible } = this;
    eligible.clear();
    if (this.drafter.failure) return 0;
    let numSeqs = 0;
    for (let i = 0; i < running.length; i++) {
      const sequence = running.at(i);
      sequence.draftTokens = NO_DRAFTS;
      const { numTokens, numInFlightTokens, numComputedTokens } = sequence;
      const want = numTokens + numInFlightTokens - numComputedTokens;
      if (want !== 1 || numInFlightTokens !== numInFlight) continue;
      numSeqs++;
      const most = this.mostFor(sequence);
      if (most > 0) eligible.add(sequence, most);
    }
    return numSeqs;
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
    this.drafter.propose(asked);
    for (let i = 0; i < asked.count; i++) {
      const drafts = asked.draftsOf(i);
      const foreign = drafts.findIndex((id) => id < 0 || id >= vocabSize);
      if (foreign >= 0) asked.numDrafts[i] = foreign;
      if (verifiable)
        asked.numDrafts[i] = verifiable(asked.sequence(i), asked.draftsOf(i));
    }
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
    if (this.credit > this.probeSeconds) {
      const start = performance.now();
      this.renewForecasts();
      this.probeSeconds = (performance.now() - start) / 1e3;
    }
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
