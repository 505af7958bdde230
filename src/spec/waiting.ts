/**
 * What waiting may cost before it ends, in steps without drafts: it goes on while more is gained than lost. A try of a
 * step or two would tell nothing, as its code and memory are cold.
 */
const ALLOWANCE = 8;
/** Most that counts of what was gained: half of a long run of good drafts is lost again before it ends. */
const MOST_GAIN = 4;
const FADING = 0.98;

/**
 * Whether to wait for each step before the next one is scheduled, so that it can have drafts where there are any. A look
 * that finds good drafts begins it; the steps themselves say how it fares: each brought tokens that would have taken so
 * many seconds in steps scheduled ahead, and took its own.
 */
export class Waiting {
  private gained = -Infinity;

  get pays(): boolean {
    return this.gained > -ALLOWANCE;
  }

  begin(): void {
    this.gained = Math.max(this.gained, 0);
  }

  end(): void {
    this.gained = -Infinity;
  }

  /** A step took `cost` and brought what takes `worth`; both in steps that are scheduled ahead. */
  note(worth: number, cost: number): void {
    this.gained = Math.min(FADING * this.gained + worth - cost, MOST_GAIN);
  }
}
