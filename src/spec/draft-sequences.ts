import { OctavoError } from "../core/errors.js";
import type { Request } from "../core/request.js";
import { Sequence } from "../core/sequence.js";
import { BlockTable, blockTableOf } from "../kv/block-table.js";
import type { KVCacheManager } from "../kv/kv-cache-manager.js";
import type { DraftBatch } from "./drafter.js";

/** What the draft model makes of one sequence of the target. */
export interface DraftSequence {
  /**
   * Its tokens as the draft model has seen them, then drafts of the last time.
   *
   *   own.tokens   | those of the target ....... | drafts |
   *                0                     numKnown         numTokens
   */
  readonly own: Sequence;
  numKnown: number;
  /** Number of the last call that it took part in. */
  lastUse: number;
  /** `numFreed` when there was no room for it; it is not tried again before that has changed. -1: there was. */
  refusedAt: number;
  /** A token that the draft model does not have: it can't follow. */
  isForeign: boolean;
}

/**
 * The sequences of a draft model and their KV blocks. A sequence that finds no room, not even after those that take no
 * part in the call have given theirs, goes without drafts; the target never waits for it.
 */
export class DraftSequences {
  private readonly held = new Map<Sequence, DraftSequence>();
  /** Of a request without what a draft has no use for; gone with it. */
  private readonly requests = new WeakMap<Request, Request>();
  private numCalls = 0;
  /** How often blocks were given back because a sequence ended or was idle. */
  private numFreed = 0;

  constructor(
    private readonly kv: KVCacheManager,
    private readonly limits: { maxModelLen: number; vocabSize: number },
  ) {}

  /** A call begins: what is not in it is idle. */
  begin(batch: DraftBatch): void {
    this.numCalls++;
    for (let i = 0; i < batch.count; i++) {
      const draft = this.held.get(batch.sequence(i));
      if (draft) draft.lastUse = this.numCalls;
    }
  }

  /**
   * The draft model's side of `target`, with all of its tokens, of which the last is not computed, and room for `drafts`
   * drafts. Null: no drafts for it.
   */
  take(target: Sequence, drafts: number): Sequence | null {
    let draft = this.held.get(target);
    if (!draft) {
      draft = this.create(target);
      this.held.set(target, draft);
    }
    draft.lastUse = this.numCalls;
    this.follow(draft, target);
    if (draft.isForeign) this.giveUp(draft.own);
    if (draft.isForeign || draft.refusedAt === this.numFreed) return null;
    const { own } = draft;
    if (own.blockTable.length === 0) own.numComputedTokens = this.kv.match(own);
    // The last draft is sampled and never computed.
    if (this.makeRoom(own, own.numTokens + drafts - 1)) {
      draft.refusedAt = -1;
      return own;
    }
    draft.refusedAt = this.numFreed;
    this.giveUp(own);
    return null;
  }

  /** Tokens of `target` before its last one that are not computed here; some of them may be in the prefix cache. */
  numUnseen(target: Sequence): number {
    const computed = this.held.get(target)?.own.numComputedTokens ?? 0;
    return Math.max(0, target.numTokens - 1 - computed);
  }

  /** The target sequence has ended. */
  release(target: Sequence): void {
    const draft = this.held.get(target);
    if (!draft) return;
    this.held.delete(target);
    if (draft.own.blockTable.length > 0) this.numFreed++;
    this.giveUp(draft.own);
  }

  /** What was computed is lost. */
  clear(): void {
    for (const { own } of this.held.values()) this.giveUp(own);
    this.held.clear();
    this.kv.resetPrefixCache();
  }

  /** Throws internal_error when blocks and sequences do not account for each other. */
  checkIntegrity(): void {
    const drafts = [...this.held.values()];
    this.kv.checkIntegrity(drafts.map(({ own }) => blockTableOf(own)));
    for (const { own, numKnown } of drafts)
      if (
        own.numComputedTokens > own.numTokens ||
        numKnown > own.numTokens ||
        own.blockTable.length * this.kv.blockSize < own.numComputedTokens
      )
        throw new OctavoError(
          "internal_error",
          `draft of request ${own.request.id}: ${own.numComputedTokens} computed, ${numKnown} known of ${own.numTokens} tokens in ${own.blockTable.length} blocks`,
        );
  }

  private create({ request, choice, arrivalOrder }: Sequence): DraftSequence {
    const own = new Sequence(
      this.requestOf(request),
      choice,
      new BlockTable(),
      arrivalOrder,
    );
    const { promptTokenIds } = request;
    return {
      own,
      numKnown: own.numTokens,
      lastUse: 0,
      refusedAt: -1,
      isForeign: promptTokenIds.some((id) => id >= this.limits.vocabSize),
    };
  }

  /** Grammars are the target's business: what they refuse is cut off there. */
  private requestOf(request: Request): Request {
    let own = this.requests.get(request);
    if (!own) {
      const { constraint: _, ...rest } = request;
      const params = {
        ...request.params,
        logprobs: null,
        promptLogprobs: null,
      };
      own = { ...rest, params };
      this.requests.set(request, own);
    }
    return own;
  }

  /** Takes over the target's tokens. Drafts that came true stay computed; the rest costs one subtraction. */
  private follow(draft: DraftSequence, target: Sequence): void {
    const { own } = draft;
    const { tokens, numTokens } = target;
    const end = Math.min(own.numTokens, numTokens);
    let same = draft.numKnown;
    while (same < end && own.tokens[same] === tokens[same]) same++;
    own.numTokens = same;
    for (let at = same; at < numTokens; at++) {
      const token = tokens[at] as number;
      if (token >= this.limits.vocabSize) draft.isForeign = true;
      own.append(token);
    }
    draft.numKnown = numTokens;
    // The last token is computed (again), because its row is sampled.
    const computed = Math.min(own.numComputedTokens, same, numTokens - 1);
    own.numComputedTokens = computed;
    if (own.blockTable.length > 0) this.kv.commit(own, computed, computed);
    own.slot = target.slot;
  }

  /** Blocks for [0, numTokens), those of idle sequences if need be. */
  private makeRoom(own: Sequence, numTokens: number): boolean {
    if (numTokens > this.limits.maxModelLen) return false;
    while (!this.kv.allocate(own, numTokens))
      if (!this.freeIdle()) return false;
    return true;
  }

  /** Takes the blocks of the sequence that was left out for the longest. False: there is none. */
  private freeIdle(): boolean {
    let idlest: DraftSequence | null = null;
    for (const draft of this.held.values())
      if (
        draft.lastUse < (idlest?.lastUse ?? this.numCalls) &&
        draft.own.blockTable.length > 0
      )
        idlest = draft;
    if (!idlest) return false;
    this.giveUp(idlest.own);
    this.numFreed++;
    return true;
  }

  private giveUp(own: Sequence): void {
    this.kv.release(own);
    own.numComputedTokens = 0;
  }
}
