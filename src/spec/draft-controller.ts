import { planDrafts } from "./draft-plan.js";
import type { DraftCandidates } from "./draft-plan.js";
import { StepTimes } from "./step-times.js";

/** No further than this beyond the rows that are known: a first step too large would cost more than it tells. */
const LADDER = 2;

/**
 *   plain     a step without drafts, while steps without drafts follow each other
 *   drafted   a step with drafts behind another such step: everything between the two counts, drafting included
 *   other     anything else: nothing is learned from it
 */
export type StepKind = "plain" | "drafted" | "other";

/**
 * How many drafts pay, from what steps have taken so far and how many drafts were right. It has no clock and no say in
 * what the output is: only the speed depends on it.
 */
export class DraftController {
  private readonly plain = new StepTimes();
  private readonly drafted = new StepTimes();

  /** `mostRows`: that a step may have. */
  constructor(private readonly mostRows: number) {}

  /** A step of nothing but decoding took `seconds`. */
  noteStep(kind: StepKind, rows: number, seconds: number): void {
    this.plain.tick();
    this.drafted.tick();
    if (kind === "plain") this.plain.observe(rows, seconds);
    else if (kind === "drafted") this.drafted.observe(rows, seconds);
  }

  /**
   * Drafts for each candidate, into `out`: those that bring the most tokens a second where `numSeqs` sequences decode.
   * False, and all 0, where none pay, or where it isn't known yet what a step without them takes.
   */
  plan(numSeqs: number, candidates: DraftCandidates, out: Int32Array): boolean {
    if (candidates.count === 0 || !this.plain.knows(numSeqs)) {
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
        drafting: (rows) => this.drafted.at(rows, numSeqs, plain),
        mostRows: Math.min(this.mostRows, LADDER * known),
      },
      out,
    );
  }
}
