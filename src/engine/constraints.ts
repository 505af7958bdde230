import type { ScheduledBatch } from "../core/batch.js";
import type {
  Constraint,
  MaskSource,
  TokenMatcher,
} from "../core/constraint.js";
import { FinishReason } from "../core/request.js";
import { SequenceStatus } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import type { ModelRunner } from "../runner/runner.js";

/** Where a constrained sequence is on its way. */
interface Progress {
  matcher: TokenMatcher | null;
  /** Position of the first token of the constrained part; -1 while the free part goes on. */
  start: number;
  /** Output tokens searched for the end of the free part. */
  numSearched: number;
}

/** A sequence that can't go on, and what it ends with. */
export interface StuckSequence {
  readonly sequence: Sequence;
  readonly reason: FinishReason;
}

/**
 * The masks of constrained sequences. `begin` and `apply` are called once for each batch, in order:
 *
 *   launch n+1   body and logits; the batch waits
 *   update n     the tokens before its rows are booked  -> begin(n+1): matchers start on its masks
 *   ...          the device computes n+1, the scheduler n+2
 *                                                       -> apply(n+1): masks go into the arena, the batch is sampled
 *
 * What may follow depends on booked tokens alone, so a sequence that was preempted, or whose KV is recomputed, goes on
 * where it was.
 */
export class Constraints {
  private readonly progress = new Map<Sequence, Progress>();
  private readonly stuck: StuckSequence[] = [];
  /** [ceil(vocabSize / 32)] */
  private readonly mask: Uint32Array;

  constructor(
    private readonly runner: Pick<ModelRunner, "setMask" | "sample">,
    vocabSize: number,
    private readonly source: MaskSource,
  ) {
    this.mask = new Uint32Array(Math.ceil(vocabSize / 32));
  }

  get numMatchers(): number {
    let count = 0;
    for (const { matcher } of this.progress.values()) if (matcher) count++;
    return count;
  }

  /**
   * How many of the drafts, from the first on, can be verified: before the constrained part begins there is no mask for
   * what comes in it. Everything is booked.
   */
  numVerifiable(sequence: Sequence, drafts: Int32Array): number {
    const { constraint } = sequence.request;
    if (!constraint) return drafts.length;
    const progress = this.progressOf(sequence);
    this.searchStart(sequence, constraint, progress);
    if (progress.start >= 0) return drafts.length;
    const { startAfter } = constraint;
    for (let k = 0; k < drafts.length; k++)
      if (endsIn(sequence, k + 1, drafts, startAfter, startAfter.length))
        return k;
    return drafts.length;
  }

  /** Everything before the batch's rows is booked: starts the matchers. */
  begin(batch: ScheduledBatch): void {
    if (batch.numConstrained === 0) return;
    this.eachRow(batch, (sequence, constraint, row, numRows) => {
      const progress = this.progressOf(sequence);
      this.searchStart(sequence, constraint, progress);
      const { grammar } = constraint;
      if (progress.start < 0 || !grammar) return;
      progress.matcher ??= this.source.open(grammar);
      progress.matcher.begin(
        sequence.tokens,
        progress.start,
        sequence.numTokens,
        sequence.draftTokens.subarray(0, numRows - 1),
        row,
      );
    });
  }

  /** Sets the batch's masks and lets it be sampled. Returns the sequences that can't go on (reused). */
  apply(batch: ScheduledBatch): readonly StuckSequence[] {
    this.stuck.length = 0;
    if (batch.numConstrained === 0) return this.stuck;
    this.eachRow(batch, (sequence, constraint, row, numRows) => {
      const progress = this.progressOf(sequence);
      if (progress.start < 0)
        for (let k = 0; k < numRows; k++)
          this.applyFree(sequence, constraint, row + k, k);
      else if (constraint.grammar)
        this.applyGrammar(sequence, progress, row, numRows);
    });
    this.runner.sample();
    return this.stuck;
  }

  /** The sequence has ended. */
  release(sequence: Sequence): void {
    this.progress.get(sequence)?.matcher?.close();
    this.progress.delete(sequence);
  }

  /** Visits the constrained sequences of a batch that sample a token: the first of their rows, and how many they are. */
  private eachRow(
    batch: ScheduledBatch,
    visit: (
      sequence: Sequence,
      constraint: Constraint,
      row: number,
      numRows: number,
    ) => void,
  ): void {
    let end = 0;
    for (let i = 0; i < batch.numSeqs; i++) {
      const sequence = batch.sequence(i);
      end += batch.samplesOf[i] as number;
      const { constraint, params } = sequence.request;
      if (!constraint || params.maxTokens === 0) continue;
      // A sequence that ended meanwhile has a garbage row.
      if (sequence.status === SequenceStatus.finished) continue;
      const numDrafts = batch.numDrafts[i] as number;
      const position = (batch.start[i] as number) + (batch.count[i] as number);
      if (position - numDrafts !== sequence.numTokens) continue;
      visit(sequence, constraint, end - 1 - numDrafts, 1 + numDrafts);
    }
  }

  private progressOf(sequence: Sequence): Progress {
    let progress = this.progress.get(sequence);
    if (!progress) {
      const free = (sequence.request.constraint?.startAfter.length ?? 0) > 0;
      const start = free ? -1 : sequence.numPromptTokens;
      progress = { matcher: null, start, numSearched: 0 };
      this.progress.set(sequence, progress);
    }
    return progress;
  }

  /** Looks through the output booked since the last time for the end of the free part. */
  private searchStart(
    { tokens, numPromptTokens, numOutputTokens }: Sequence,
    { startAfter }: Constraint,
    progress: Progress,
  ): void {
    while (progress.start < 0 && progress.numSearched < numOutputTokens) {
      const end = numPromptTokens + ++progress.numSearched;
      const begin = end - startAfter.length;
      if (begin < numPromptTokens) continue;
      if (startAfter.every((token, k) => tokens[begin + k] === token))
        progress.start = end;
    }
  }

  /**
   * The end of the free part is forced where its budget is spent; before a grammar the output may not end in it. Of the
   * row behind `numDrafts` drafts.
   */
  private applyFree(
    sequence: Sequence,
    { grammar, startAfter, freeTokens, optional }: Constraint,
    row: number,
    numDrafts: number,
  ): void {
    const { numOutputTokens, request } = sequence;
    if (freeTokens !== null && numOutputTokens + numDrafts >= freeTokens) {
      const matched = numMatched(sequence, numDrafts, startAfter);
      const forced = startAfter[matched] as number;
      this.mask.fill(0);
      setBit(this.mask, forced);
      this.runner.setMask(row, this.mask);
    } else if (grammar && optional !== true) {
      this.mask.fill(0xffffffff);
      for (const id of request.params.eosTokenIds) clearBit(this.mask, id);
      this.runner.setMask(row, this.mask);
    }
  }

  private applyGrammar(
    sequence: Sequence,
    { matcher }: Progress,
    row: number,
    numRows: number,
  ): void {
    const { eosTokenIds } = sequence.request.params;
    for (let r = row; r < row + numRows; r++) {
      const mask = matcher?.finish(r);
      if (!mask || mask === "late" || !leavesAny(sequence, mask)) {
        if (r === row) this.stuck.push({ sequence, reason: reasonOf(mask) });
        // Behind drafts the output goes on up to here; the next step meets what is in its way.
        else
          sequence.draftTokens = sequence.draftTokens.subarray(0, r - 1 - row);
        return;
      }
      this.runner.setMask(r, this.withoutEarlyEnd(sequence, mask));
      // Rows behind a draft that the grammar refuses, or behind its end, have no mask and are dropped unread.
      const draft = sequence.draftTokens[r - row] ?? -1;
      if (draft < 0 || !hasBit(mask, draft) || eosTokenIds.includes(draft))
        return;
    }
  }

  /** With ignore_eos the output ends only where the grammar leaves nothing else. */
  private withoutEarlyEnd(
    { request: { params } }: Sequence,
    mask: Uint32Array,
  ): Uint32Array {
    if (!params.ignoreEos) return mask;
    this.mask.set(mask);
    for (const id of params.eosTokenIds) clearBit(this.mask, id);
    return this.mask.some((word) => word !== 0) ? this.mask : mask;
  }
}

/** Why an output ends that has no token to go on with. */
function reasonOf(mask: ReturnType<TokenMatcher["finish"]>): FinishReason {
  if (mask === undefined) return FinishReason.error;
  return mask === "late" ? FinishReason.slow : FinishReason.stuck;
}

/** Whether the mask has one of the tokens that the request allows at all. */
function leavesAny(
  { request: { params } }: Sequence,
  mask: Uint32Array,
): boolean {
  const { allowedTokenIds } = params;
  return (
    allowedTokenIds === null || allowedTokenIds.some((id) => hasBit(mask, id))
  );
}

/** How many tokens at the end of the output and `numDrafts` of its drafts are the beginning of `wanted`. */
function numMatched(
  sequence: Sequence,
  numDrafts: number,
  wanted: readonly number[],
): number {
  for (let n = wanted.length - 1; n > 0; n--)
    if (endsIn(sequence, numDrafts, sequence.draftTokens, wanted, n)) return n;
  return 0;
}

/** Whether the output with `numDrafts` of the drafts ends in the first `length` tokens of `wanted`. */
function endsIn(
  { tokens, numTokens, numOutputTokens }: Sequence,
  numDrafts: number,
  drafts: Int32Array,
  wanted: readonly number[],
  length: number,
): boolean {
  if (length > numOutputTokens + numDrafts) return false;
  const begin = numTokens + numDrafts - length;
  for (let k = 0; k < length; k++) {
    const at = begin + k;
    const token = at < numTokens ? tokens[at] : drafts[at - numTokens];
    if (token !== wanted[k]) return false;
  }
  return true;
}

function hasBit(mask: Uint32Array, id: number): boolean {
  return (((mask[id >>> 5] ?? 0) >>> (id & 31)) & 1) === 1;
}

function setBit(mask: Uint32Array, id: number): void {
  mask[id >>> 5] = (mask[id >>> 5] as number) | (1 << (id & 31));
}

function clearBit(mask: Uint32Array, id: number): void {
  mask[id >>> 5] = (mask[id >>> 5] as number) & ~(1 << (id & 31));
}
