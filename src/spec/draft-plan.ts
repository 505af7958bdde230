import { MAX_SPECULATIVE_TOKENS } from "../core/speculative-config.js";

/** Sequences that could be drafted for: structures of arrays, `count` of each. */
export interface DraftCandidates {
  count: number;
  /** Probability that a draft is right when those before it are. */
  acceptance: Float64Array;
  /** Probability that there will be drafts: 1 where they are there already. */
  reach: Float64Array;
  /** Int32; most drafts. */
  limit: Int32Array;
}

/** What steps cost; any unit. */
export interface DraftCosts {
  /** Of the step without drafts, of as many rows as it has sequences. */
  plain: number;
  /** Of a step of `rows` rows with drafts among them. */
  drafting: (rows: number) => number;
  /** Not planned beyond; those who want more than there is get equal shares. */
  mostRows: number;
}

/** A step with drafts has to be this much better than one without: what is measured is noisy, and neither is free to change to. */
export const MARGIN = 1.02;

/**
 * A sequence without drafts gains nothing of those of others: its tokens may come later by this share of a step, or more
 * only where all gain so many times as much.
 */
const PATIENCE = 0.02;
const WORTH_OF_PATIENCE = 8;

/** Prices of one row, in tokens, that are tried: from what only a sure draft is worth, down. */
const PRICES = Float64Array.from({ length: 32 }, (_, i) => 0.98 * 0.88 ** i);

/**
 * How many drafts for each candidate (into `out`) bring the most tokens a second; false, and all 0, where a step without
 * drafts brings as many.
 *
 * The j-th draft of a sequence is accepted with probability a^j, so drafts are worth less the further they reach, and
 * the best choice for any number of rows is all those worth more than some price. For each price the step has
 *
 *   rows      numSeqs + sum of k_i                        k_i = floor(log price / log a_i), within the limits
 *   tokens    numSeqs + sum of a_i (1 - a_i^k_i) / (1 - a_i)
 *
 * and the best of tokens / seconds(rows) is taken, of those that keep no sequence back too much.
 */
export function planDrafts(
  numSeqs: number,
  candidates: DraftCandidates,
  costs: DraftCosts,
  out: Int32Array,
): boolean {
  const { count } = candidates;
  const room = costs.mostRows - numSeqs;
  let best = (MARGIN * numSeqs) / costs.plain;
  let bestPrice = -1;
  let bestLongest = 0;
  let lastRows = 0;
  for (let price = 0; price < PRICES.length; price++) {
    const longest = Math.floor(room / numWorth(candidates, price));
    const { rows, tokens, fewest } = atPrice(candidates, price, longest);
    // Mostly a lower price buys nothing more.
    if (rows === lastRows) continue;
    lastRows = rows;
    const seconds = costs.drafting(numSeqs + rows);
    const speed = (numSeqs + tokens) / seconds;
    if (speed <= best) continue;
    const least = 1 + (count < numSeqs ? 0 : fewest);
    const delay = seconds / (least * costs.plain) - 1;
    const gain = (speed * costs.plain) / numSeqs - 1;
    if (delay > PATIENCE && gain < WORTH_OF_PATIENCE * delay) continue;
    best = speed;
    bestPrice = price;
    bestLongest = longest;
  }
  for (let i = 0; i < count; i++)
    out[i] =
      bestPrice >= 0 ? lengthAt(candidates, i, bestPrice, bestLongest) : 0;
  return bestPrice >= 0;
}

/** `fewest`: tokens from drafts of the candidate that has fewest. */
const sums = { rows: 0, tokens: 0, fewest: 0 };

/** Candidates whose first draft is worth the price; at least 1. */
function numWorth(
  { count, acceptance, limit }: DraftCandidates,
  price: number,
): number {
  let worth = 0;
  for (let i = 0; i < count; i++)
    if (
      (LENGTHS[rowOf(price, acceptance[i] as number)] as number) > 0 &&
      (limit[i] as number) > 0
    )
      worth++;
  return Math.max(1, worth);
}

/** Rows may be fractions: where drafts are only likely to be there. */
function atPrice(
  candidates: DraftCandidates,
  price: number,
  longest: number,
): typeof sums {
  sums.rows = 0;
  sums.tokens = 0;
  sums.fewest = Infinity;
  for (let i = 0; i < candidates.count; i++) {
    const length = lengthAt(candidates, i, price, longest);
    const reach = candidates.reach[i] as number;
    const accepted =
      reach *
      (ACCEPTED[
        gradeOf(candidates.acceptance[i] as number) *
          (MAX_SPECULATIVE_TOKENS + 1) +
          length
      ] as number);
    sums.rows += reach * length;
    sums.tokens += accepted;
    sums.fewest = Math.min(sums.fewest, accepted);
  }
  return sums;
}

function lengthAt(
  { acceptance, limit }: DraftCandidates,
  i: number,
  price: number,
  longest: number,
): number {
  const most = Math.min(limit[i] as number, longest);
  const worth = LENGTHS[rowOf(price, acceptance[i] as number)] as number;
  return Math.min(most, worth);
}

/*
 * A plan is made in each step, for each price and each candidate: logarithms and powers come from tables, by the
 * acceptance in steps of 1 / (GRADES - 1).
 */
const GRADES = 128;

function gradeOf(acceptance: number): number {
  return Math.round(acceptance * (GRADES - 1));
}

/** Index into LENGTHS, of the price by its place in PRICES. */
function rowOf(price: number, acceptance: number): number {
  return price * GRADES + gradeOf(acceptance);
}

/** Int32 [PRICES.length * GRADES] drafts worth the price. */
const LENGTHS = Int32Array.from(
  { length: PRICES.length * GRADES },
  (_, row) => {
    const a = (row % GRADES) / (GRADES - 1);
    const price = PRICES[Math.floor(row / GRADES)] as number;
    if (a >= 1) return MAX_SPECULATIVE_TOKENS;
    if (a < price) return 0;
    return Math.floor(Math.log(price) / Math.log(a) + 1e-9);
  },
);

/** Float64 [GRADES * (MAX_SPECULATIVE_TOKENS + 1)] drafts accepted, by their number. */
const ACCEPTED = Float64Array.from(
  { length: GRADES * (MAX_SPECULATIVE_TOKENS + 1) },
  (_, row) => {
    const length = row % (MAX_SPECULATIVE_TOKENS + 1);
    const grade = Math.floor(row / (MAX_SPECULATIVE_TOKENS + 1));
    return expectedAccepted(grade / (GRADES - 1), length);
  },
);

/** Drafts accepted of `length`, where each is right with probability `a` when those before it are. */
export function expectedAccepted(a: number, length: number): number {
  return a >= 1 ? length : (a * (1 - a ** length)) / (1 - a);
}
