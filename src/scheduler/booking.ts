import type { ScheduledBatch } from "../core/batch.js";
import { now } from "../core/config.js";
import { FinishReason } from "../core/request.js";
import { NO_DRAFTS, SequenceStatus } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import type { KVCacheManager } from "../kv/kv-cache-manager.js";
import { countAccepted } from "../spec/verifier.js";
import type { SchedulerReport } from "./scheduler-config.js";
import {
  bookPromptLogprobs,
  needsPromptRows,
  notePromptComputed,
  pushToken,
} from "./step-rows.js";
import type { SampledRows, StepRows } from "./step-rows.js";
import { finishReasonOf } from "./stop.js";
import type { UnfinishedRequests } from "./unfinished-requests.js";
import type { WaitingQueue } from "./waiting-queue.js";

/**
 * The other half of a step, once its results are there: appends tokens, compares drafts, ends sequences and commits
 * blocks. A sequence that finished while the step was under way has a garbage row, which is dropped.
 */
export class Booking {
  private readonly rows: SampledRows = { first: 0, count: 0, firstPosition: 0 };

  constructor(
    private readonly maxModelLen: number,
    private readonly kv: KVCacheManager,
    private readonly requests: UnfinishedRequests,
    private readonly waiting: WaitingQueue,
    private readonly report: SchedulerReport,
  ) {}

  /** Returns the number of tokens that were computed for sequences still alive. */
  book(batch: ScheduledBatch, output: StepRows): number {
    const time = now();
    let row = 0;
    let numTokens = 0;
    for (let i = 0; i < batch.numSeqs; i++) {
      const sequence = batch.sequence(i);
      const samples = batch.samplesOf[i] as number;
      const end = (batch.start[i] as number) + (batch.count[i] as number);
      if (sequence.status !== SequenceStatus.finished) {
        numTokens += batch.count[i] as number;
        this.rows.first = row;
        this.rows.count = samples;
        this.rows.firstPosition = end - samples;
        const numDrafts = batch.numDrafts[i] as number;
        this.bookSequence(sequence, end, numDrafts, output, time);
      }
      row += samples;
    }
    return numTokens;
  }

  /** One sequence's part of a batch that computed up to position `end`, whose rows are in `this.rows`. */
  private bookSequence(
    sequence: Sequence,
    end: number,
    numDrafts: number,
    output: StepRows,
    time: number,
  ): void {
    const { params } = sequence.request;
    if (sequence.numOutputTokens === 0) notePromptComputed(sequence, end);
    if (needsPromptRows(sequence))
      bookPromptLogprobs(sequence, this.rows, output, this.report.events);
    const known = end - numDrafts;
    const generated = known === sequence.numTokens && params.maxTokens > 0;
    let reason: FinishReason = FinishReason.none;
    if (generated) {
      sequence.numInFlightTokens--;
      if (sequence.firstTokenTime === 0) sequence.firstTokenTime = time;
      sequence.lastTokenTime = time;
      reason = this.bookTokens(sequence, numDrafts, output);
    }
    // A sequence that was preempted since holds no blocks.
    if (sequence.status === SequenceStatus.running)
      this.commit(sequence, numDrafts > 0 ? sequence.numComputedTokens : end);
    if (reason !== FinishReason.none) this.requests.finish(sequence, reason);
    else if (params.maxTokens === 0 && end >= sequence.numPromptTokens)
      this.requests.finishWithoutToken(sequence, FinishReason.length);
  }

  /** Appends the drafts that were right and the token after them, up to one that ends the sequence; why it ends. */
  private bookTokens(
    sequence: Sequence,
    numDrafts: number,
    output: StepRows,
  ): FinishReason {
    const { sampledIds } = output;
    const { draftTokens } = sequence;
    const first = this.rows.first + this.rows.count - 1 - numDrafts;
    const right =
      numDrafts > 0
        ? countAccepted(draftTokens, numDrafts, sampledIds, first)
        : 0;
    let reason: FinishReason = FinishReason.none;
    let booked = 0;
    while (booked <= right && reason === FinishReason.none) {
      const row = first + booked++;
      sequence.append(sampledIds[row] as number);
      reason = finishReasonOf(sequence, this.maxModelLen);
      pushToken(sequence, reason, row, output, this.report.events);
    }
    if (numDrafts > 0) this.dropRefused(sequence, numDrafts, right, booked);
    return reason;
  }

  /** Of the drafts, `right` are what was sampled, and `booked` tokens were appended. */
  private dropRefused(
    sequence: Sequence,
    numDrafts: number,
    right: number,
    booked: number,
  ): void {
    const accepted = Math.min(booked, right);
    const refused = booked > right && right < numDrafts;
    sequence.draftTokens = NO_DRAFTS;
    sequence.numComputedTokens = sequence.numTokens - 1;
    this.kv.truncate(sequence, sequence.numComputedTokens);
    this.report.verified?.(
      sequence,
      numDrafts,
      accepted,
      refused ? accepted + 1 : accepted,
    );
  }

  /** Positions below `end` are computed, and their tokens booked. */
  private commit(sequence: Sequence, end: number): void {
    if (sequence.request.n === 1) {
      this.kv.commit(sequence, end, end);
      return;
    }
    const group = this.requests.groupOf(sequence);
    this.kv.commit(sequence, end, group.lastSharedPosition(sequence, end));
    for (const sibling of group.notePromptProgress(sequence, end))
      this.waiting.push(sibling);
  }
}
