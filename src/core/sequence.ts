import type { Request } from "./request.js";

/** What the runner needs of a block table; `ids[i]` holds positions [16 i, 16 i + 16). kv/block-table.ts implements it. */
export interface BlockIds {
  ids: Int32Array;
  length: number;
}

/** Prefill and decode are not states: they follow from the counters. */
export const SequenceStatus = { waiting: 0, running: 1, finished: 2 } as const;
export type SequenceStatus =
  (typeof SequenceStatus)[keyof typeof SequenceStatus];

/**
 * Why a looked-up prompt was not found to the end; one reason per lookup, that of its first missing block.
 *   tooShort  the prompt has no full block before its last token, so none could be shared
 *   evicted   this very block, after this very prefix and salt, was cached and had to give way. Remembered for the
 *             latest blocks only (bounded memory); one that was overwritten since counts as cold
 *   salt      a block of the same tokens after the same prefix is cached now under another salt
 *   cold      none of these
 */
export type MissReason = "cold" | "evicted" | "salt" | "tooShort";

/**
 * One choice of a request while it is in the engine.
 *
 *   tokens      | prompt ................ | booked output .... |
 *   counters    0            numPromptTokens            numTokens   + numInFlightTokens
 *               | KV is there or scheduled ....... |
 *               0                           numComputedTokens
 *
 *   0 <= numComputedTokens <= numTokens + numInFlightTokens; the block table covers [0, numComputedTokens).
 *   numComputedTokens advances when a step is scheduled, drafts included; refused ones are subtracted when it is booked.
 *   A token in flight has been scheduled to be sampled and is not booked yet (one step ahead).
 *   Decode: exactly one token is wanted. Prefill (or recompute after a preemption): more than one.
 */
export class Sequence {
  /** Prompt, then output; capacity doubles. */
  tokens: Int32Array;
  numTokens: number;
  readonly numPromptTokens: number;
  numComputedTokens = 0;
  numInFlightTokens = 0;
  /** Proposed continuation for the next step (speculation); a view that is valid until the step is booked. */
  draftTokens: Int32Array = NO_DRAFTS;
  blockTable: BlockIds;
  /** Row of the runner's per-sequence state while running, else -1. */
  slot = -1;
  status: SequenceStatus = SequenceStatus.waiting;
  /** Prompt tokens found in the prefix cache at first admission; -1 before. */
  numCachedTokens = -1;
  /** Why the prefix cache did not have more of the prompt; null where it had all it could, or was not asked. */
  prefixMiss: MissReason | null = null;
  numPreemptions = 0;
  /** Prompt log-probabilities already reported: positions [0, numPromptLogprobs). */
  numPromptLogprobs = 0;
  /** Prompt tokens computed for it, not found in the cache; recomputation after a preemption is not counted. */
  numPromptTokensComputed = 0;
  /** Its masks depend on the output so far (bad words of several tokens), so it is not run ahead of what is booked. */
  readonly needsBookedTokens: boolean;
  /** Order of admission among equals: the youngest is preempted first. */
  readonly arrivalOrder: number;
  /** Milliseconds (Request.arrivalTime's clock); 0 until it happens. */
  firstScheduledTime = 0;
  firstTokenTime = 0;
  lastTokenTime = 0;

  constructor(
    readonly request: Request,
    /** 0..n-1 */
    readonly choice: number,
    blockTable: BlockIds,
    arrivalOrder: number,
  ) {
    this.numPromptTokens = request.promptTokenIds.length;
    this.numTokens = this.numPromptTokens;
    this.tokens = new Int32Array(
      this.numPromptTokens + Math.min(request.params.maxTokens, 64) + 1,
    );
    this.tokens.set(request.promptTokenIds);
    this.blockTable = blockTable;
    this.arrivalOrder = arrivalOrder;
    this.needsBookedTokens = request.params.badWordsTokenIds.some(
      (word) => word.length > 1,
    );
  }

  get numOutputTokens(): number {
    return this.numTokens - this.numPromptTokens;
  }

  append(token: number): void {
    if (this.numTokens === this.tokens.length) {
      const grown = new Int32Array(this.tokens.length * 2);
      grown.set(this.tokens);
      this.tokens = grown;
    }
    this.tokens[this.numTokens++] = token;
  }
}

export const NO_DRAFTS = new Int32Array(0);
