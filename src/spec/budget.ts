/** Share of the time of decoding that may be lost to finding out whether drafts pay. */
const SHARE = 0.005;
/** What can be saved up, as a multiple of what a try has taken lately at most. */
const MOST_SAVED = 8;
const FADING = 0.98;
/** Seconds of tries that say nothing of later ones: their code is being compiled. */
const WARMING_UP = 0.05;

/**
 * What speculation has cost and brought, in seconds: looks at what a drafter would say, steps that took longer than their
 * tokens were worth, prompts that a draft model read. Nothing new is tried while more is lost than a share of the time:
 * however wrong expectations are, decoding is not slower than without drafts by more than that. What was gained is kept
 * for later tries, but only as much as a few of them take: good times don't pay for long bad ones. The first tries are
 * free.
 */
export class Budget {
  private balance = 0;
  private largest = 0;

  constructor(private cold = WARMING_UP) {}

  /** The code of a try has been compiled: what one takes now is what it takes. */
  get isWarm(): boolean {
    return this.cold <= 0;
  }

  get isSpent(): boolean {
    return this.balance < 0;
  }

  /** Decoding went on for `seconds`. */
  earn(seconds: number): void {
    this.save(SHARE * seconds);
  }

  /** A look took `seconds`. */
  spend(seconds: number): void {
    this.settle(0, seconds);
  }

  /** A step brought tokens that would have taken `worth` seconds, and took `seconds`. */
  settle(worth: number, seconds: number): void {
    if (!this.isWarm) {
      this.cold -= seconds;
      return;
    }
    this.largest = Math.max(seconds, FADING * this.largest);
    if (worth < seconds) this.balance -= seconds - worth;
    else this.save(worth - seconds);
  }

  private save(seconds: number): void {
    const most = Math.max(this.balance, MOST_SAVED * this.largest);
    this.balance = Math.min(this.balance + seconds, most);
  }
}
