import {
  CONTEXT_LENGTHS,
  MAX_OCCURRENCES,
  type ContextIndex,
} from "./token-contexts.js";

/** How far drafts go; names are --speculative-config's without their prefix. */
export interface SuffixLimits {
  /** Tokens that matched + drafts, at most. */
  maxTreeDepth: number;
  /** Drafts per token that matched. */
  maxSpecFactor: number;
  /** 0..1: of all drafts up to one being right. */
  minTokenProb: number;
}

/** Drafts and how many of them are expected to be right; reused. */
export class SuffixPath {
  length = 0;
  score = 0;
  readonly tokens: Int32Array;

  constructor(maxNumDrafts: number) {
    this.tokens = new Int32Array(maxNumDrafts);
  }

  clear(): void {
    this.length = 0;
    this.score = 0;
  }

  set(other: SuffixPath): void {
    this.length = other.length;
    this.score = other.score;
    this.tokens.set(other.tokens);
  }
}

/** The text whose end is to be continued, and where to look for it. */
export interface SuffixQuery {
  index: ContextIndex;
  context: Int32Array;
  length: number;
  group: number;
  /** The context is the index's last text: what follows an occurrence goes on in the drafts. */
  own: boolean;
  wanted: number;
}

/**
 * Continues a text as it was continued before. For every length of match, from the longest on, the occurrences of that
 * many last tokens vote for the next token, those that agree with the winner for the one after it, and so on, while
 *
 *   P(drafts so far) = votes of the last winner / occurrences >= minTokenProb
 *   length <= wanted, matched * maxSpecFactor, maxTreeDepth - matched
 *
 * and the path with the largest sum of P, which is the expected number of accepted drafts, wins: of equals the one after
 * the longer match. Ties of votes go to the latest occurrence. (After Oliaro et al. 2025, "SuffixDecoding: Extreme
 * Speculative Decoding for Emerging AI Applications".)
 */
export class SuffixSearch {
  private readonly trial: SuffixPath;
  /** Int32 [MAX_OCCURRENCES] positions, and lengths of their matches. */
  private readonly found = new Int32Array(MAX_OCCURRENCES);
  private readonly matched = new Int32Array(MAX_OCCURRENCES);
  /** Int32 [MAX_OCCURRENCES] positions that agree with the path so far, and their next tokens. */
  private readonly agreeing = new Int32Array(MAX_OCCURRENCES);
  private readonly next = new Int32Array(MAX_OCCURRENCES);

  constructor(
    private readonly limits: SuffixLimits,
    maxNumDrafts: number,
  ) {
    this.trial = new SuffixPath(maxNumDrafts);
  }

  /** Replaces `best` when there is a better path. */
  improve(best: SuffixPath, query: SuffixQuery): void {
    const { index, context, length, group, own } = query;
    const deepest = this.limits.maxTreeDepth - 1;
    const before = own ? index.head - 1 : index.head;
    let longest = deepest;
    for (let which = CONTEXT_LENGTHS.length - 1; which >= 0; which--) {
      const shortest = CONTEXT_LENGTHS[which] as number;
      if (
        shortest > deepest ||
        !this.mayImprove(best, shortest, longest, query)
      )
        continue;
      const { found, matched } = this;
      const count = index.find(context, length, which, group, before, found);
      for (let j = 0; j < count; j++)
        matched[j] = index.matchLength(
          context,
          length,
          found[j] as number,
          group,
          longest,
        );
      for (let n = longest; n >= shortest; n--)
        this.tryLength(best, query, n, count);
      longest = shortest - 1;
    }
  }

  private mayImprove(
    best: SuffixPath,
    shortest: number,
    longest: number,
    { wanted }: SuffixQuery,
  ): boolean {
    for (let n = shortest; n <= longest; n++)
      if (this.mostDrafts(n, wanted) > best.score) return true;
    return false;
  }

  private mostDrafts(matched: number, wanted: number): number {
    const { maxTreeDepth, maxSpecFactor } = this.limits;
    return Math.min(
      wanted,
      Math.floor(matched * maxSpecFactor + 1e-6),
      maxTreeDepth - matched,
    );
  }

  /** The path after the occurrences, of the `count` found, that match at least `n` tokens. */
  private tryLength(
    best: SuffixPath,
    query: SuffixQuery,
    n: number,
    count: number,
  ): void {
    const most = this.mostDrafts(n, query.wanted);
    // Each draft adds at most 1.
    if (most <= best.score) return;
    let agreeing = 0;
    for (let j = 0; j < count; j++)
      if ((this.matched[j] as number) >= n)
        this.agreeing[agreeing++] = this.found[j] as number;
    if (agreeing === 0) return;
    this.follow(query, agreeing, most);
    if (this.trial.score > best.score) best.set(this.trial);
  }

  private follow(query: SuffixQuery, count: number, most: number): void {
    const { trial } = this;
    const { minTokenProb } = this.limits;
    const occurrences = count;
    let agreeing = count;
    trial.clear();
    while (trial.length < most) {
      const token = this.vote(query, agreeing);
      if (token < 0) return;
      agreeing = this.keep(token, agreeing);
      const probability = agreeing / occurrences;
      if (probability < minTokenProb) return;
      trial.tokens[trial.length++] = token;
      trial.score += probability;
    }
  }

  /** The most frequent next token of the occurrences; -1 where all of them end. */
  private vote(query: SuffixQuery, count: number): number {
    const { next, agreeing } = this;
    for (let j = 0; j < count; j++)
      next[j] = this.tokenAfter(query, agreeing[j] as number);
    let winner = -1;
    let most = 0;
    for (let j = 0; j < count && count - j > most; j++) {
      if ((next[j] as number) < 0) continue;
      let votes = 1;
      for (let other = j + 1; other < count; other++)
        if (next[other] === next[j]) votes++;
      if (votes <= most) continue;
      most = votes;
      winner = next[j] as number;
    }
    return winner;
  }

  private tokenAfter({ index, own }: SuffixQuery, position: number): number {
    const at = position + 1 + this.trial.length;
    if (at < index.head) return index.token(at);
    // The text goes on in its drafts: a loop is followed as far as wanted.
    return own ? (this.trial.tokens[at - index.head] as number) : -1;
  }

  private keep(token: number, count: number): number {
    let kept = 0;
    for (let j = 0; j < count; j++)
      if (this.next[j] === token)
        this.agreeing[kept++] = this.agreeing[j] as number;
    return kept;
  }
}
