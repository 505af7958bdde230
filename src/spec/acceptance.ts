import { MAX_GRADE } from "./drafter.js";

/** What is known of one sequence fades: half of it within about 13 judged proposals. */
const FADING = 0.95;
/** Of all sequences together: about 140. */
const OVERALL_FADING = 0.995;
/** Judgements that the average of all counts for beside a sequence's own. */
const PRIOR_WEIGHT = 2;

/** Share of right drafts among those that were judged: the conditional acceptance, lately. */
export class Acceptance {
  private right = 0;
  private judged = 0;

  constructor(private readonly fading = FADING) {}

  /** Of a proposal, `judged` drafts were compared, and `right` of them, the first ones, were right. */
  note(right: number, judged: number): void {
    if (judged === 0) return;
    this.right = this.right * this.fading + right;
    this.judged = this.judged * this.fading + judged;
  }

  /** 0..1, beside `prior` that counts like a few judgements. */
  estimate(prior: number): number {
    return (this.right + PRIOR_WEIGHT * prior) / (this.judged + PRIOR_WEIGHT);
  }
}

/** Before anything is known drafts are worth a try. */
const FIRST_GUESS = 0.7;

/** Of all sequences, by how sure the drafts were: what those of a new sequence are expected to be like. */
export class OverallAcceptance {
  private readonly all = new Acceptance(OVERALL_FADING);
  private readonly byGrade = Array.from(
    { length: MAX_GRADE + 1 },
    () => new Acceptance(OVERALL_FADING),
  );

  note(right: number, judged: number, grade: number): void {
    this.all.note(right, judged);
    this.byGrade[grade]?.note(right, judged);
  }

  /** However sure they were. */
  get estimate(): number {
    return this.all.estimate(FIRST_GUESS);
  }

  of(grade: number): number {
    const { estimate } = this;
    return this.byGrade[grade]?.estimate(estimate) ?? estimate;
  }
}
