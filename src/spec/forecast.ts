import type { Sequence } from "../core/sequence.js";
import { Acceptance } from "./acceptance.js";

/** `right` of the `judged` drafts that were compared were right. */
export type NoteJudged = (right: number, judged: number, grade: number) => void;

/**
 * What speculation knows of one sequence: how many drafts were right lately, and drafts that are not verified but compared with
 * what is decoded anyway, to see whether they would have paid.
 */
export class Forecast {
  /** Of the latest drafts: see DraftBatch. */
  grade = 0;
  /** By grade, those that were seen. */
  private readonly acceptances: (Acceptance | undefined)[] = [];
  /** Int32 [most drafts] */
  private readonly tokens: Int32Array;
  private length = 0;
  /** Position of the first. */
  private start = 0;
  private numRight = 0;

  constructor(
    mostDrafts: number,
    private readonly note: NoteJudged,
  ) {
    this.tokens = new Int32Array(mostDrafts);
  }

  /** Drafts that have not been refuted, beyond what is booked. */
  get numLeft(): number {
    return this.length - this.numRight;
  }

  /** Probability that a draft of the latest grade is right, beside `prior` that counts like a few judgements. */
  acceptance(prior: number): number {
    return this.acceptances[this.grade]?.estimate(prior) ?? prior;
  }

  set({ numTokens }: Sequence, drafts: Int32Array, grade: number): void {
    this.grade = grade;
    this.tokens.set(drafts);
    this.length = drafts.length;
    this.start = numTokens;
    this.numRight = 0;
  }

  /** Compares with what was booked since. */
  compare({ tokens, numTokens }: Sequence): void {
    while (this.numLeft > 0 && this.start + this.numRight < numTokens) {
      if (this.tokens[this.numRight] !== tokens[this.start + this.numRight]) {
        this.judged(this.numRight, this.numRight + 1);
        this.length = this.numRight = 0;
        return;
      }
      this.numRight++;
    }
    if (this.numLeft === 0) this.drop();
  }

  /** What was right so far counts; the rest is forgotten. */
  drop(): void {
    this.judged(this.numRight, this.numRight);
    this.length = this.numRight = 0;
  }

  judged(right: number, judged: number): void {
    if (judged === 0) return;
    const { grade } = this;
    (this.acceptances[grade] ??= new Acceptance()).note(right, judged);
    this.note(right, judged, grade);
  }
}
