/** A bucket counts fractions, of up to 1e9 units; this much is rounding. */
const EPSILON = 1e-6;
const MINUTE_MS = 60_000;

/**
 * A rate: `limit` units a minute, and as many at once after a pause. Full at first, it refills evenly. What costs more than
 * is left makes a debt, which is refilled before there is anything again. Times are milliseconds of one clock that never
 * goes back.
 */
export class TokenBucket {
  private level: number;

  constructor(
    private limit: number,
    private time: number,
  ) {
    this.level = limit;
  }

  /** Whole units that are left, at least 0. */
  remaining(time: number): number {
    this.refill(time);
    return Math.max(0, Math.floor(this.level + EPSILON));
  }

  /** @param amount of units, negative to give them back */
  spend(amount: number, time: number): void {
    this.refill(time);
    this.level = Math.min(this.limit, this.level - amount);
  }

  /** Milliseconds until a unit is left, 0 if one is. */
  untilOne(time: number): number {
    this.refill(time);
    return this.level >= 1 - EPSILON ? 0 : this.timeFor(1 - this.level);
  }

  /** Milliseconds until it is full. */
  untilFull(time: number): number {
    this.refill(time);
    return this.timeFor(this.limit - this.level);
  }

  /** What a higher limit adds is there at once; a lower one takes what would overflow and makes no debt. */
  resize(limit: number, time: number): void {
    this.refill(time);
    this.level = Math.min(limit, this.level + Math.max(0, limit - this.limit));
    this.limit = limit;
  }

  private timeFor(units: number): number {
    return (units * MINUTE_MS) / this.limit;
  }

  private refill(time: number): void {
    const passed = time - this.time;
    if (passed <= 0) return;
    this.time = time;
    this.level = Math.min(
      this.limit,
      this.level + (passed * this.limit) / MINUTE_MS,
    );
  }
}
