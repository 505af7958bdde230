import type { ScheduledBatch } from "../core/batch.js";
import { now } from "../core/config.js";
import { assert } from "../core/errors.js";
import { FinishReason } from "../core/request.js";
import type { Request } from "../core/request.js";
import { SequenceStatus } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import { blockTableOf } from "../kv/block-table.js";
import type { BlockTable } from "../kv/block-table.js";
import { KVCacheManager } from "../kv/kv-cache-manager.js";
import { Admission } from "./admission.js";
import { Booking } from "./booking.js";
import { checkCapacity, checkRequest, checkSequence } from "./checks.js";
import { addDrafts } from "./drafts.js";
import { RunningList } from "./running-list.js";
import type { RequestGroup } from "./request-group.js";
import type { SchedulerConfig, SchedulerReport } from "./scheduler-config.js";
import { firstPromptRow, needsPromptRows } from "./step-rows.js";
import type { StepRows } from "./step-rows.js";
import { reachesLength } from "./stop.js";
import { UnfinishedRequests } from "./unfinished-requests.js";
import { WaitingQueue } from "./waiting-queue.js";

/** A request is given up with this failure of the runner under it. */
const MAX_RUNNER_FAILURES = 2;

/**
 * Chooses what each step computes (`schedule`) and books what came out (`update`); nothing else changes a sequence.
 *
 *   want = numTokens + numInFlightTokens - numComputedTokens
 *   give = min(want, token budget, long-prefill threshold), and the blocks for it must be there
 *
 * Running sequences come first, in order of rank (priority, then arrival), with a token of the budget kept for each
 * that decodes; then waiting ones in the same order. Without chunked prefill a waiting sequence is admitted only when
 * the budget has all that it wants.
 *
 * Without a free block the last in rank is preempted: it drops its blocks, keeps its tokens and is recomputed. A
 * sequence alone always fits (see the constructor), so the first in rank always gets on.
 */
export class Scheduler {
  readonly kv: KVCacheManager;
  numPreemptions = 0;
  /** Admits waiting sequences and counts prefix hits. */
  readonly admission: Admission;
  private readonly running: RunningList;
  private readonly waiting: WaitingQueue;
  private readonly requests: UnfinishedRequests;
  private readonly booking: Booking;
  /** [maxNumSeqs] by slot: sample row of the last launch that makes the token in flight. */
  private readonly inFlightRow: Int32Array;

  /** Throws invalid_config when a sequence of maxModelLen tokens does not fit into the KV cache. */
  constructor(
    private readonly config: SchedulerConfig,
    private readonly report: SchedulerReport,
  ) {
    this.kv = new KVCacheManager(config);
    checkCapacity(config, this.kv);
    this.waiting = new WaitingQueue(config.schedulingPolicy);
    this.inFlightRow = new Int32Array(config.maxNumSeqs);
    this.running = new RunningList(config.maxNumSeqs, config.schedulingPolicy);
    const { kv, running, waiting } = this;
    this.requests = new UnfinishedRequests(kv, running, waiting, report);
    this.booking = new Booking(
      config.maxModelLen,
      kv,
      this.requests,
      waiting,
      report,
    );
    this.admission = new Admission(kv, this.requests);
  }

  get hasUnfinished(): boolean {
    return this.requests.numChoices > 0;
  }

  /** In order of rank; changed by the next call. */
  get runningSequences(): Pick<RunningList, "length" | "at"> {
    return this.running;
  }

  /** Choices in the running batch. */
  get numRunning(): number {
    return this.running.length;
  }

  /** Choices that wait for room: never admitted yet, or preempted. */
  get numQueued(): number {
    return this.waiting.length;
  }

  /** Choices that wait for a sibling to compute their prompt. */
  get numDeferred(): number {
    return this.requests.numChoices - this.running.length - this.waiting.length;
  }

  /** Throws context_length_exceeded when no token could follow the prompt, invalid_request for a handle in use. */
  add(request: Request): void {
    checkRequest(request, this.config.maxModelLen);
    this.requests.add(request);
  }

  /** Ends a choice (-1: all) that is not finished; its blocks are free at once. Unknown ones are ignored. */
  abort(handle: number, choice: number, reason: FinishReason): void {
    const group = this.requests.get(handle);
    if (!group) return;
    // Siblings from the last to the first: none becomes the leader only to end as well.
    for (let i = group.sequences.length - 1; i >= 0; i--) {
      const sequence = group.sequences[i] as Sequence;
      if (choice >= 0 && choice !== i) continue;
      if (sequence.status !== SequenceStatus.finished)
        this.requests.finishWithoutToken(sequence, reason);
    }
    this.running.dropFinished();
  }

  /** Ends everything, after a failure of the runner. */
  abortAll(reason: FinishReason): void {
    for (const { request } of [...this.requests.all()])
      this.abort(request.handle, -1, reason);
  }

  /**
   * The runner is lost, and what it held with it: the KV cache, and the results of the batches in `lost`, which will
   * not be booked. Everything that ran waits again, keeps its booked tokens and is computed anew from them. A request
   * that was computed in a lost batch for the second time may be what kills the runner: it ends with an error. Returns
   * the number of requests that go on.
   */
  replay(lost: readonly ScheduledBatch[]): number {
    const replayed = new Set<RequestGroup>();
    for (let i = 0; i < this.running.length; i++)
      replayed.add(this.requests.groupOf(this.running.at(i)));
    const failed = this.groupsIn(lost);
    while (this.running.length > 0) {
      const sequence = this.running.popLast();
      this.kv.release(sequence);
      this.waiting.push(sequence);
    }
    for (const group of this.requests.all()) {
      group.dropHeld();
      for (const sequence of group.sequences) {
        sequence.numComputedTokens = 0;
        sequence.numInFlightTokens = 0;
      }
    }
    this.kv.resetPrefixCache();
    for (const group of failed) {
      if (++group.numRunnerFailures < MAX_RUNNER_FAILURES) continue;
      this.abort(group.request.handle, -1, FinishReason.lost);
      replayed.delete(group);
    }
    return replayed.size;
  }

  /**
   * Fills `batch` with the next step: empty when nothing can be computed before more is booked. `withDrafts`: everything
   * is booked, and the draftTokens of sequences are verified as far as tokens, rows and blocks are left over.
   */
  schedule(batch: ScheduledBatch, withDrafts = false): void {
    batch.clear();
    const preemptions = this.numPreemptions;
    let decodes = 0;
    for (let i = 0; i < this.running.length; i++)
      if (this.wanted(this.running.at(i)) === 1) decodes++;
    let blocksToCome = 0;
    for (let i = 0; i < this.running.length; i++) {
      const sequence = this.running.at(i);
      const want = this.wanted(sequence);
      if (want === 1) decodes--;
      const samples = this.running.length - 1 - i;
      if (
        want > 0 &&
        !this.give(batch, sequence, want, want > 1 ? decodes : 0, samples)
      )
        break;
      if (want > 1)
        blocksToCome += this.kv.numMissing(sequence, sequence.numTokens);
    }
    if (this.numPreemptions > preemptions) return;
    const toCome = this.admit(batch, blocksToCome);
    if (withDrafts) addDrafts(batch, this.kv, this.config, toCome);
  }

  /**
   * Books the results of a batch: appends tokens, ends sequences, commits blocks. Batches are booked in the order in
   * which they were scheduled. Returns the number of tokens that were computed for sequences still alive.
   */
  update(batch: ScheduledBatch, output: StepRows): number {
    const numTokens = this.booking.book(batch, output);
    this.running.dropFinished();
    return numTokens;
  }

  /** Throws internal_error when the blocks, the queues and the sequences do not account for each other. */
  checkIntegrity(): void {
    const tables: BlockTable[] = [];
    let unfinished = 0;
    for (const group of this.requests.all()) {
      if (group.held) tables.push(group.held);
      for (const sequence of group.sequences) {
        if (sequence.status !== SequenceStatus.finished) unfinished++;
        checkSequence(sequence, this.config.blockSize);
        tables.push(blockTableOf(sequence));
      }
    }
    this.kv.checkIntegrity(tables);
    assert(
      unfinished === this.requests.numChoices,
      "unfinished choices are counted",
    );
    this.running.checkIntegrity();
    assert(
      unfinished > 0 || this.kv.numFreeBlocks === this.kv.numBlocks,
      "every block is free when nothing is left to do",
    );
  }

  /** Tokens that could be computed for a running sequence now. */
  private wanted(sequence: Sequence): number {
    const { numInFlightTokens } = sequence;
    if (
      numInFlightTokens > 0 &&
      (sequence.needsBookedTokens ||
        reachesLength(sequence, numInFlightTokens, this.config.maxModelLen))
    )
      return 0;
    return sequence.numTokens + numInFlightTokens - sequence.numComputedTokens;
  }

  /**
   * Adds a running sequence to the batch with what the budget leaves after `keepTokens` tokens and `keepSamples` sample
   * rows for others. False when it was preempted itself.
   */
  private give(
    batch: ScheduledBatch,
    sequence: Sequence,
    want: number,
    keepTokens: number,
    keepSamples: number,
  ): boolean {
    const budget = this.config.maxNumBatchedTokens - keepTokens;
    const rows = this.config.maxNumSamples - keepSamples - batch.numSamples;
    const give = this.chunk(sequence, want, budget - batch.numTokens, rows);
    if (give <= 0) return true;
    if (!this.makeRoom(sequence, sequence.numComputedTokens + give))
      return false;
    this.place(batch, sequence, give);
    return true;
  }

  /**
   * Whether a step may compute a part of what the sequence wants. A prompt whose log-probabilities are wanted is cut at
   * any setting: there are fewer rows to sample than tokens in a step.
   */
  private isCut(sequence: Sequence): boolean {
    return this.config.enableChunkedPrefill || needsPromptRows(sequence);
  }

  private chunk(
    sequence: Sequence,
    want: number,
    budget: number,
    rows: number,
  ): number {
    const { longPrefillTokenThreshold } = this.config;
    let give = Math.min(want, budget);
    if (longPrefillTokenThreshold > 0)
      give = Math.min(give, longPrefillTokenThreshold);
    if (!needsPromptRows(sequence)) return give;
    const start = sequence.numComputedTokens;
    const unsampled = Math.max(0, firstPromptRow(sequence) - start);
    // Someone waits: leave rows for them.
    const free = this.waiting.length > 0 ? Math.ceil(rows / 2) : rows;
    return Math.min(give, unsampled + free);
  }

  /** Blocks for [0, numTokens) of a running sequence, by preempting others that rank below it, or at last itself. */
  private makeRoom(sequence: Sequence, numTokens: number): boolean {
    while (!this.kv.allocate(sequence, numTokens)) {
      if (this.admission.dropHeldBlocks()) continue;
      if (this.preemptLast() === sequence) return false;
    }
    return true;
  }

  private preemptLast(): Sequence {
    const sequence = this.running.popLast();
    this.kv.release(sequence);
    sequence.numComputedTokens = 0;
    sequence.numPreemptions++;
    this.numPreemptions++;
    this.report.preempted.push(sequence);
    this.waiting.push(sequence);
    return sequence;
  }

  /**
   * Waiting sequences in order, while there are seats, tokens, rows and blocks. Returns the blocks that running
   * sequences still need for what they know.
   */
  private admit(batch: ScheduledBatch, blocksToCome: number): number {
    const { maxNumBatchedTokens, maxNumSamples } = this.config;
    let toCome = blocksToCome;
    while (!this.running.isFull) {
      const budget = maxNumBatchedTokens - batch.numTokens;
      const rows = maxNumSamples - batch.numSamples;
      const sequence = this.waiting.peek();
      if (!sequence || budget <= 0 || rows <= 0) break;
      const alone = this.running.length === 0;
      const most = this.isCut(sequence) ? Infinity : budget;
      if (!this.admission.tryAdmit(sequence, most, toCome, alone)) break;
      this.waiting.pop();
      this.join(sequence);
      const want = sequence.numTokens - sequence.numComputedTokens;
      const give = this.chunk(sequence, want, budget, rows);
      const room = this.kv.allocate(
        sequence,
        sequence.numComputedTokens + give,
      );
      assert(room, "an admitted sequence has room for its tokens");
      this.place(batch, sequence, give);
      toCome += this.kv.numMissing(sequence, sequence.numTokens);
    }
    return toCome;
  }

  private join(sequence: Sequence): void {
    this.running.join(sequence);
    if (sequence.firstScheduledTime === 0) sequence.firstScheduledTime = now();
    if (this.admission.noteAdmitted(sequence))
      this.report.admitted.push(sequence);
  }

  private place(batch: ScheduledBatch, sequence: Sequence, give: number): void {
    const start = sequence.numComputedTokens;
    const end = start + give;
    const known = sequence.numTokens + sequence.numInFlightTokens;
    const generates = end === known && sequence.request.params.maxTokens > 0;
    let samples = generates ? 1 : 0;
    if (needsPromptRows(sequence) && start < sequence.numPromptTokens)
      samples = Math.max(
        samples,
        end - Math.max(start, firstPromptRow(sequence)),
      );
    const feedback =
      end > sequence.numTokens
        ? (this.inFlightRow[sequence.slot] as number)
        : -1;
    batch.add(sequence, start, give, 0, samples, feedback);
    sequence.numComputedTokens = end;
    if (!generates) return;
    if (sequence.request.constraint) batch.numConstrained++;
    sequence.numInFlightTokens++;
    this.inFlightRow[sequence.slot] = batch.numSamples - 1;
  }

  /** Requests that have not ended and are computed in one of the batches. */
  private groupsIn(batches: readonly ScheduledBatch[]): Set<RequestGroup> {
    const groups = new Set<RequestGroup>();
    for (const batch of batches)
      for (let i = 0; i < batch.numSeqs; i++) {
        const sequence = batch.sequence(i);
        if (sequence.status !== SequenceStatus.finished)
          groups.add(this.requests.groupOf(sequence));
      }
    return groups;
  }
}
