import type { MissReason, Sequence } from "../core/sequence.js";
import type { KVCacheManager } from "../kv/kv-cache-manager.js";
import type { RequestGroup } from "./request-group.js";
import { needsPromptRows } from "./step-rows.js";
import type { UnfinishedRequests } from "./unfinished-requests.js";

/**
 * Whether a waiting sequence may run now: the blocks for all of its known tokens must be free, beyond those that
 * running sequences still need for theirs. (One chunk would be enough to start, but a sequence admitted without room
 * for the rest is preempted before it has made a token, and its work is lost.)
 */
export class Admission {
  /** In tokens, counted once per request that was looked up, when first admitted. */
  prefixQueries = 0;
  prefixHits = 0;
  /** One per request that was not found as far as could be. */
  readonly prefixMisses: Record<MissReason, number> = {
    cold: 0,
    evicted: 0,
    salt: 0,
    tooShort: 0,
  };
  /** The sequence that was turned away last, and the blocks or the tokens that were too few: not tried again with these. */
  private blocked: Sequence | null = null;
  private blockedWith = 0;
  private blockedWithTokens = 0;

  constructor(
    private readonly kv: KVCacheManager,
    private readonly requests: UnfinishedRequests,
  ) {}

  /**
   * Gives the sequence what is known of its prefix, sets numComputedTokens, and returns true when the rest fits as well,
   * into the pool and into `mostTokens` tokens; else leaves it without blocks. `alone`: nothing runs, so it must be
   * admitted.
   */
  tryAdmit(
    sequence: Sequence,
    mostTokens: number,
    blocksToCome: number,
    alone: boolean,
  ): boolean {
    const { kv } = this;
    const available = kv.numFreeBlocks - blocksToCome;
    if (
      !alone &&
      sequence === this.blocked &&
      (available <= this.blockedWith || mostTokens <= this.blockedWithTokens)
    )
      return false;
    const known = this.takeKnownPrefix(sequence);
    if (sequence.numTokens - known > mostTokens) {
      kv.release(sequence);
      this.turnAway(sequence, -Infinity, mostTokens);
      return false;
    }
    while (
      kv.numMissing(sequence, sequence.numTokens) >
      kv.numFreeBlocks - blocksToCome
    ) {
      if (alone && this.dropHeldBlocks()) continue;
      kv.release(sequence);
      this.turnAway(sequence, available, 0);
      return false;
    }
    this.blocked = null;
    sequence.numComputedTokens = known;
    return true;
  }

  private turnAway(sequence: Sequence, blocks: number, tokens: number): void {
    this.blocked = sequence;
    this.blockedWith = blocks;
    this.blockedWithTokens = tokens;
  }

  /** Counts an admitted sequence; true when it is the first of its request. */
  noteAdmitted(sequence: Sequence): boolean {
    const group = this.requests.groupOf(sequence);
    if (sequence.numCachedTokens < 0)
      sequence.numCachedTokens = sequence.numComputedTokens;
    group.noteAdmitted();
    if (group.admitted) return false;
    if (this.kv.cachesPrefixes && !this.bypassesCache(sequence)) {
      this.prefixQueries += sequence.numPromptTokens;
      this.prefixHits += sequence.numCachedTokens;
      const miss = this.kv.lastMiss;
      if (miss) this.prefixMisses[miss]++;
      sequence.prefixMiss = miss;
    }
    group.admitted = true;
    return true;
  }

  /** Gives back the blocks held for siblings of the youngest such request; false when there are none. */
  dropHeldBlocks(): boolean {
    let youngest: RequestGroup | null = null;
    for (const group of this.requests.all()) if (group.held) youngest = group;
    youngest?.dropHeld();
    return youngest !== null;
  }

  /** Returns the number of tokens whose blocks it took. */
  private takeKnownPrefix(sequence: Sequence): number {
    const { held } = this.requests.groupOf(sequence);
    const matched = this.bypassesCache(sequence) ? 0 : this.kv.match(sequence);
    if (!held || matched >= held.length * this.kv.blockSize) return matched;
    this.kv.release(sequence);
    return this.kv.shareFrom(held, sequence);
  }

  /** Requests for prompt log-probabilities are looked up only once these are reported: every row has to be sampled. */
  private bypassesCache(sequence: Sequence): boolean {
    const { bypassPrefixCache, params } = sequence.request;
    if (bypassPrefixCache || needsPromptRows(sequence)) return true;
    return (
      params.promptLogprobs !== null &&
      !this.requests.groupOf(sequence).admitted
    );
  }
}
