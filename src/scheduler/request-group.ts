import type { Request } from "../core/request.js";
import { Sequence, SequenceStatus } from "../core/sequence.js";
import { BlockTable } from "../kv/block-table.js";
import type { KVCacheManager } from "../kv/kv-cache-manager.js";

/**
 * The choices of one request. Those that share full prompt blocks wait (deferred) until the first, the leader, has
 * computed them; then the group holds these blocks until every sibling has been admitted with them:
 *
 *   deferred -- leader has computed the prompt --> queued, blocks held -- all admitted --> blocks no longer held
 *
 * Under pressure the held blocks may be dropped: siblings still queued then compute the prompt themselves (or find it
 * in the prefix cache). A leader that ends before is followed by the next sibling.
 */
export class RequestGroup {
  readonly sequences: Sequence[] = [];
  /** Siblings that wait for the leader, in order. */
  readonly deferred: Sequence[] = [];
  held: BlockTable | null = null;
  numUnfinished: number;
  /** The request has been scheduled for the first time: counted and reported. */
  admitted = false;
  /** How often the runner failed while it computed for this request. */
  numRunnerFailures = 0;
  private leader: Sequence;

  constructor(
    readonly request: Request,
    firstArrivalOrder: number,
    private readonly kv: KVCacheManager,
  ) {
    for (let choice = 0; choice < request.n; choice++)
      this.sequences.push(
        new Sequence(
          request,
          choice,
          new BlockTable(),
          firstArrivalOrder + choice,
        ),
      );
    this.numUnfinished = request.n;
    this.leader = this.sequences[0] as Sequence;
    if (this.numSharedBlocks > 0)
      this.deferred.push(...this.sequences.slice(1));
  }

  /** Blocks that every choice has in common: full ones before the last prompt token. */
  get numSharedBlocks(): number {
    return Math.floor(
      (this.request.promptTokenIds.length - 1) / this.kv.blockSize,
    );
  }

  /** Choices that need not wait for another. */
  get ready(): Sequence[] {
    return this.deferred.length > 0 ? [this.leader] : this.sequences;
  }

  /** Positions below this one may still be seen by a sibling: the leader's blocks are not given back beyond it. */
  lastSharedPosition(sequence: Sequence, nextPosition: number): number {
    return sequence === this.leader && this.deferred.length > 0
      ? Math.min(nextPosition, this.numSharedBlocks * this.kv.blockSize)
      : nextPosition;
  }

  /** The prompt up to `numBooked` tokens is computed. Returns the siblings that may be queued now. */
  notePromptProgress(sequence: Sequence, numBooked: number): Sequence[] {
    if (sequence !== this.leader || this.deferred.length === 0) return [];
    if (numBooked < sequence.numPromptTokens) return [];
    this.held = this.kv.hold(sequence, this.numSharedBlocks);
    return this.deferred.splice(0);
  }

  /** A choice was admitted for the first time. */
  noteAdmitted(): void {
    if (this.held && !this.sequences.some(isPending)) this.dropHeld();
  }

  /** A choice ended. Returns the sibling that leads from now on and is to be queued, if any. */
  noteFinished(sequence: Sequence): Sequence | null {
    this.numUnfinished--;
    if (this.held && !this.sequences.some(isPending)) this.dropHeld();
    const at = this.deferred.indexOf(sequence);
    if (at >= 0) this.deferred.splice(at, 1);
    if (sequence !== this.leader) return null;
    const next = this.deferred.shift();
    if (next) this.leader = next;
    return next ?? null;
  }

  dropHeld(): void {
    if (this.held) this.kv.releaseTable(this.held);
    this.held = null;
  }
}

function isPending(sequence: Sequence): boolean {
  return (
    sequence.status === SequenceStatus.waiting && sequence.numCachedTokens < 0
  );
}
