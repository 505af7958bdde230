/** What speculation did since the start; positions count from 0, the first draft. Names follow docs/metrics.md. */
export interface SpecStats {
  /** Once for each sequence in each step that had drafts for it. */
  numDrafts: number;
  numDraftTokens: number;
  numAcceptedTokens: number;
  /** [numSpeculativeTokens] */
  acceptedPerPosition: number[];
  /** Mean tokens of a sequence in a step with drafts for it, over the latest ones; 1 before there are any. */
  acceptanceLength: number;
  /** Share of right drafts among those compared while all before them were right, lately; judged ones are counted. */
  conditionalAcceptance: number;
  numJudged: number;
  /** Why there will be no more drafts; null: there may be. */
  failure: string | null;
}

/** Drafted steps over which the acceptance length is taken: between one and two windows. */
const WINDOW = 1024;

export class SpecCounter {
  readonly stats: SpecStats;
  private before = { drafts: 0, accepted: 0 };
  private current = { drafts: 0, accepted: 0 };

  constructor(numSpeculativeTokens: number) {
    this.stats = {
      numDrafts: 0,
      numDraftTokens: 0,
      numAcceptedTokens: 0,
      acceptedPerPosition: new Array<number>(numSpeculativeTokens).fill(0),
      acceptanceLength: 1,
      conditionalAcceptance: 0,
      numJudged: 0,
      failure: null,
    };
  }

  /** One sequence's drafts in one step: `accepted` of `drafted`. */
  note(drafted: number, accepted: number): void {
    const { stats } = this;
    stats.numDrafts++;
    stats.numDraftTokens += drafted;
    stats.numAcceptedTokens += accepted;
    for (let p = 0; p < accepted; p++)
      stats.acceptedPerPosition[p] = (stats.acceptedPerPosition[p] ?? 0) + 1;
    if (this.current.drafts === WINDOW) {
      this.before = this.current;
      this.current = { drafts: 0, accepted: 0 };
    }
    this.current.drafts++;
    this.current.accepted += accepted;
    const drafts = this.before.drafts + this.current.drafts;
    stats.acceptanceLength =
      1 + (this.before.accepted + this.current.accepted) / drafts;
  }

  /** `right` of `judged` drafts, made for use or only to see how they fare. */
  noteJudged(judged: number, conditionalAcceptance: number): void {
    this.stats.numJudged += judged;
    this.stats.conditionalAcceptance = conditionalAcceptance;
  }
}
