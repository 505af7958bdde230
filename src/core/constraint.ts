/** A grammar that a worker of the grammar pool holds compiled for this request. */
export interface GrammarRef {
  /** The worker's channel. */
  channel: number;
  /** Its name there. */
  grammar: number;
  /** The tokens that end what matches it. */
  endTokenIds: readonly number[];
}

/**
 * What the output of a request must be. Plain data: it crosses the thread boundary with the request.
 *
 *   output   free part ..... startAfter | constrained part ..... end of sequence
 *            at most freeTokens, then startAfter is forced
 */
export interface Constraint {
  /** What the constrained part must match; null: anything (only the free part is bounded). */
  grammar: GrammarRef | null;
  /** The tokens that end the free part (the end of thinking); empty: the output is constrained from its first token. */
  startAfter: number[];
  /** Tokens of the free part before its end is forced; null: as many as it takes. */
  freeTokens: number | null;
  /** The output may also end in its free part: what is constrained need not come. Default false. */
  optional?: boolean;
}

/**
 * Where the masks of constrained rows come from. A mask has ceil(vocabSize / 32) words; bit (t & 31) of word t / 32 is
 * set where token t may follow.
 */
export interface MaskSource {
  /** Never throws: a grammar that is not there gives a matcher without masks. */
  open(grammar: GrammarRef): TokenMatcher;
}

/** Follows one sequence through its grammar. */
export interface TokenMatcher {
  /**
   * Starts making the masks of `1 + drafts.length` sampled rows of the next step, from `row` on: of what may follow
   * tokens[from, to), and then each draft. `tokens` begins as in every call before; [from, to) only grows at its end.
   */
  begin(
    tokens: Int32Array,
    from: number,
    to: number,
    drafts: Int32Array,
    row: number,
  ): void;
  /**
   * Waits for the mask of `row`: valid until the next `begin`. Null where nothing can follow: behind a draft that the
   * grammar refuses, after its end, or where no token spells what comes next. "late" where the grammar took too long to
   * say, undefined when the source failed.
   */
  finish(row: number): Uint32Array | null | "late" | undefined;
  /** Frees what the source holds for it. */
  close(): void;
}
