import { planDrafts } from "./draft-plan.js";
import type { DraftCandidates } from "./draft-plan.js";
import { StepTimes } from "./step-times.js";

/** No further than this beyond the rows that are known: a first step too large would cost more than it tells. */
const LADDER = 2;
/** As many are tried at once. */
const FEW_ROWS = 8;
/** Share of the known cost of a row that one beyond what is known is expected to have. */
const OPTIMISM = 0.7;

/**
 *   plain     a step without drafts, while steps without drafts follow each other
 *   drafted   a step with drafts behind another that was waited for: everything between counts, drafting included
 *   waited    the same without drafts: there were none worth it
 *   other     anything else: nothing is learned from it
 */
export type StepKind = "plain" | "drafted" | "waited" | "other";

/**
 * How many drafts pay, from what steps have taken so far and how many drafts were right. It has no clock and no say in
 * what the output is: only the speed depends on it.
 */
export class DraftController {
  private readonly plain = new StepTimes();
  private readonly drafted = new StepTimes(true);
  private readonly waited = new StepTimes();

  /** `mostRows`: that a step may have. */
  constructor(private readonly mostRows: number) {}

  /** A step of nothing but decoding took `seconds`. */
  noteStep(kind: StepKind, rows: number, seconds: number): void {
    this.plain.tick();
    this.drafted.tick();
    this.waited.tick();
    if (kind === "plain") this.plain.observe(rows, seconds);
    else if (kind === "drafted") this.drafted.observe(rows, seconds);
    else if (kind === "waited") this.waited.observe(rows, seconds);
  }

  /** Whether it is known what a step of `numSeqs` sequences takes without drafts. */
  knowsPlain(numSeqs: number): boolean {
    return this.plain.knows(numSeqs);
  }

  /** Seconds of a step of `numSeqs` sequences without drafts. */
  plainSeconds(numSeqs: number): number {
    return this.plain.at(numSeqs);
  }

  /** What a step of `rows` rows that is waited for takes, as a multiple of one scheduled ahead without drafts. */
  costOfWaiting(numSeqs: number, rows: number): number {
    const plain = this.plain.at(numSeqs);
    if (rows > numSeqs) return this.costsOf(numSeqs, plain)(rows) / plain;
    return this.waited.knows(rows) ? this.waited.at(rows) / plain : 1;
  }

  /**
   * Seconds of a step with drafts, by its rows. Beyond what is known each row costs most of what rows cost so far: not all
   * of it, so that what seems to pay only a little less is tried.
   */
  private costsOf(numSeqs: number, plain: number): (rows: number) => number {
    const { drafted } = this;
    const { largest } = drafted;
    const known = Math.max(numSeqs, largest);
    const ofKnown = drafted.at(known, numSeqs, plain);
    const slope =
      largest > numSeqs
        ? (ofKnown - plain) / (largest - numSeqs)
        : this.plain.slopeUpTo(numSeqs);
    const each = OPTIMISM * Math.max(0, slope);
    return (rows) =>
      rows <= known
        ? drafted.at(rows, numSeqs, plain)
        : ofKnown + each * (rows - known);
  }

  /**
   * Drafts for each candidate, into `out`: those that bring the most tokens a second where `numSeqs` sequences decode.
   * False, and all 0, where none pay, or where it isn't known yet what a step without them takes.
   */
  plan(numSeqs: number, candidates: DraftCandidates, out: Int32Array): boolean {
    if (candidates.count === 0 || !this.knowsPlain(numSeqs)) {
      out.fill(0, 0, candidates.count);
      return false;
    }
    const plain = this.plain.at(numSeqs);
    const known = Math.max(numSeqs, this.drafted.largest);
    return planDrafts(
      numSeqs,
      candidates,
      {
        plain,
        drafting: this.costsOf(numSeqs, plain),
        mostRows: Math.min(this.mostRows, Math.max(FEW_ROWS, LADDER * known)),
      },
      out,
    );
  }
}
