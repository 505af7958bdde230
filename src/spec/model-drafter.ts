import { ScheduledBatch } from "../core/batch.js";
import { BLOCK_SIZE } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import type { Sequence } from "../core/sequence.js";
import { KVCacheManager } from "../kv/kv-cache-manager.js";
import type { ModelRunner } from "../runner/runner.js";
import { DraftSequences } from "./draft-sequences.js";
import type { DraftBatch, Drafter } from "./drafter.js";

export interface ModelDrafterOptions {
  /** Another runner of the draft model, of the same limits; blocks while the weights are read. */
  reopen: () => ModelRunner;
  enablePrefixCaching: boolean;
  /** When every layer of the draft model is windowed: tokens that a position sees, itself included. */
  slidingWindow: number | null;
}

/** Which entry of the DraftBatch each sampled row of a launch is for. */
interface LaunchRows {
  count: number;
  /** Int32 [maxNumSeqs] */
  readonly entry: Int32Array;
}

/**
 * Asks a smaller model of the same vocabulary, on a runner and in KV blocks of its own. It samples as the target will:
 * same parameters, same noise of (seed, position), so that where the two agree on the distribution they agree on the
 * token.
 *
 *   launch 1    what each sequence has that the draft model has not seen (prompts in chunks)   -> first drafts
 *   launch 2    the first drafts, by the rows that make them                                   -> second drafts
 *   ...         a sequence is in as many launches as it wants drafts; all sequences in one batch
 *
 * A launch is started before the one before it is collected. A device error ends drafting, not serving.
 */
export class ModelDrafter implements Drafter {
  readonly method = "draft_model";
  private reason: string | null = null;
  private runner: ModelRunner | null;
  /** The runner was lost with the target's: another one is opened when it is next needed. */
  private isLost = false;
  private readonly sequences: DraftSequences;
  private readonly batch: ScheduledBatch;
  private readonly rows: [LaunchRows, LaunchRows];
  /** [maxNumSeqs] the draft model's side of each entry of the DraftBatch; null: no drafts for it. */
  private readonly own: (Sequence | null)[];

  /** Takes over `runner`. */
  constructor(
    runner: ModelRunner,
    private readonly options: ModelDrafterOptions,
  ) {
    const { limits } = runner;
    this.runner = runner;
    this.batch = new ScheduledBatch(limits.maxNumSeqs);
    this.own = new Array<Sequence | null>(limits.maxNumSeqs).fill(null);
    this.rows = [launchRows(limits.maxNumSeqs), launchRows(limits.maxNumSeqs)];
    const kv = new KVCacheManager({
      numBlocks: limits.numBlocks,
      blockSize: BLOCK_SIZE,
      enablePrefixCaching: options.enablePrefixCaching,
      slidingWindow: options.slidingWindow,
      maxNumBatchedTokens: limits.maxNumTokens,
    });
    this.sequences = new DraftSequences(kv, limits);
  }

  get failure(): string | null {
    return this.reason;
  }

  propose(batch: DraftBatch): void {
    try {
      if (this.isLost) this.openAnother();
      if (this.runner) this.draft(this.runner, batch);
    } catch (error) {
      this.giveUp(error);
    }
    this.own.fill(null, 0, batch.count);
  }

  numUnseen(sequence: Sequence): number {
    return this.sequences.numUnseen(sequence);
  }

  release(sequence: Sequence): void {
    this.sequences.release(sequence);
  }

  reset(): void {
    this.sequences.clear();
    this.isLost = this.runner !== null;
  }

  close(): void {
    this.runner?.close();
    this.runner = null;
  }

  /** Throws internal_error when the books don't balance. O(blocks): for tests. */
  checkIntegrity(): void {
    this.sequences.checkIntegrity();
  }

  private draft(runner: ModelRunner, batch: DraftBatch): void {
    this.sequences.begin(batch);
    for (let i = 0; i < batch.count; i++)
      this.own[i] = this.sequences.take(
        batch.sequence(i),
        batch.wanted[i] as number,
      );
    let [current, next] = this.rows;
    this.scheduleUnseen(batch, runner.limits.maxNumTokens, current);
    if (this.batch.numSeqs === 0) return;
    runner.launch(this.batch, true);
    for (let numDrafts = 1; ; numDrafts++) {
      this.scheduleNext(batch, numDrafts, current, next);
      const goesOn = next.count > 0;
      if (goesOn) runner.launch(this.batch, true);
      this.book(batch, current, runner.collect().sampledIds);
      if (!goesOn) return;
      [current, next] = [next, current];
    }
  }

  /** Fills the batch with the tokens that the draft model has not seen: those of few first, so that these go on. */
  private scheduleUnseen(
    { count, maxNumDrafts }: DraftBatch,
    budget: number,
    rows: LaunchRows,
  ): void {
    const { batch, own } = this;
    batch.clear();
    rows.count = 0;
    for (const isPrompt of [false, true])
      for (let i = 0; i < count; i++) {
        const sequence = own[i];
        if (!sequence) continue;
        const start = sequence.numComputedTokens;
        const unseen = sequence.numTokens - start;
        // After a call that was left out for a few steps, or all drafts accepted and a bonus.
        if (unseen > maxNumDrafts + 1 !== isPrompt) continue;
        const give = Math.min(unseen, budget - batch.numTokens);
        if (give <= 0) continue;
        const samples = give === unseen ? 1 : 0;
        batch.add(sequence, start, give, 0, samples, -1);
        sequence.numComputedTokens += give;
        if (samples > 0) rows.entry[rows.count++] = i;
      }
  }

  /** Fills the batch with the draft in flight of every row whose sequence wants more than `numDrafts`. */
  private scheduleNext(
    { wanted }: DraftBatch,
    numDrafts: number,
    rows: LaunchRows,
    next: LaunchRows,
  ): void {
    this.batch.clear();
    next.count = 0;
    for (let row = 0; row < rows.count; row++) {
      const i = rows.entry[row] as number;
      const sequence = this.own[i];
      if (!sequence || (wanted[i] as number) <= numDrafts) continue;
      this.batch.add(sequence, sequence.numTokens, 1, 0, 1, row);
      sequence.numComputedTokens++;
      next.entry[next.count++] = i;
    }
  }

  private book(
    batch: DraftBatch,
    rows: LaunchRows,
    sampledIds: Int32Array,
  ): void {
    for (let row = 0; row < rows.count; row++) {
      const i = rows.entry[row] as number;
      const token = sampledIds[row] as number;
      this.own[i]?.append(token);
      batch.push(i, token);
    }
  }

  private openAnother(): void {
    this.runner?.close();
    this.runner = null;
    this.isLost = false;
    this.runner = this.options.reopen();
  }

  /** The device's and the files' errors end drafting; any other is a bug. */
  private giveUp(error: unknown): void {
    if (!(error instanceof OctavoError) || error.code === "internal_error")
      throw error;
    this.sequences.clear();
    this.runner?.close();
    this.runner = null;
    this.reason = error.message;
  }
}

function launchRows(maxNumSeqs: number): LaunchRows {
  return { count: 0, entry: new Int32Array(maxNumSeqs) };
}
