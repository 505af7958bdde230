/** Up to here every number of rows has a time of its own; beyond, eight times per doubling. */
const EXACT_ROWS = 16;
const PER_DOUBLING = 8;
const MAX_ROWS = 1 << 16;
/** Observations after which a time is believed: the first one may find code and memory cold, so the middle one counts. */
const TRUSTED_AFTER = 3;
const SMOOTHING = 0.06;
/** Until so many were observed the shortest counts, where steps are only made to find out what they take. */
const COLD_UNTIL = 16;
/** A step that took longer than this many times the usual was disturbed. */
const OUTLIER = 2;
/** Steps after which a time that was not seen again is to be looked at once more; doubled when it was as before. */
const FIRST_EXPIRY = 512;
const LAST_EXPIRY = 16_384;

/**
 * How long a step takes as a function of its rows, learned from the steps that were made: smoothed per number of rows,
 * linear in between. Without a clock: whoever measures says what came out.
 */
export class StepTimes {
  private readonly times: Float64Array;
  /** The shortest until three are known; then the middle one of these is the first time. */
  private readonly shortest: Float64Array;
  /** Mean number of rows behind each time. */
  private readonly rows: Float64Array;
  private readonly counts: Int32Array;
  /** In steps. */
  private readonly expiresAt: Float64Array;
  private readonly expiry: Float64Array;
  private clock = 0;

  /** @param cold the first observations may find code and memory cold: they are hoped to become shorter */
  constructor(private readonly cold = false) {
    const n = bucketOf(MAX_ROWS) + 1;
    this.times = new Float64Array(n);
    this.shortest = new Float64Array(n);
    this.rows = new Float64Array(n);
    this.counts = new Int32Array(n);
    this.expiresAt = new Float64Array(n);
    this.expiry = new Float64Array(n).fill(FIRST_EXPIRY);
  }

  /** A step was made, of whatever kind: what was not seen for long expires. */
  tick(): void {
    this.clock++;
  }

  observe(rows: number, seconds: number): void {
    const b = bucketOf(rows);
    if (this.isTrusted(b)) this.smooth(b, rows, seconds);
    else if (this.holds(b, seconds)) this.renew(b);
    else this.learn(b, rows, seconds);
    this.expiresAt[b] = this.clock + (this.expiry[b] as number);
  }

  /** Whether steps of about `rows` rows have been seen, and lately, or both smaller and larger ones. */
  knows(rows: number): boolean {
    const b = bucketOf(rows);
    if (this.isTrusted(b) || this.isTrusted(b - 1) || this.isTrusted(b + 1))
      return true;
    if (rows >= this.largest) return false;
    for (let smaller = b - 2; smaller > 0; smaller--)
      if (this.isTrusted(smaller)) return true;
    return false;
  }

  /**
   * Seconds of a step of `rows` rows, interpolated between those that are known; beyond them, the nearest. Where steps
   * of `fromRows` rows are said to take `fromSeconds`, what is known of smaller ones does not count. NaN where nothing
   * is known.
   */
  at(rows: number, fromRows = 0, fromSeconds = NaN): number {
    let lowRows = fromRows;
    let low = fromSeconds;
    for (let b = 0; b < this.times.length; b++) {
      const highRows = this.rows[b] as number;
      if (!this.isTrusted(b) || highRows <= fromRows) continue;
      const high = this.times[b] as number;
      if (highRows >= rows) {
        if (Number.isNaN(low)) return high;
        const share = (rows - lowRows) / (highRows - lowRows);
        return low + share * (high - low);
      }
      lowRows = highRows;
      low = high;
    }
    return low;
  }

  /** Seconds that each row adds, from the least known rows to `rows`; 0 where only one number is known. */
  slopeUpTo(rows: number): number {
    for (let b = 0; b < this.times.length; b++) {
      if (!this.isTrusted(b)) continue;
      const least = this.rows[b] as number;
      if (least >= rows) return 0;
      return (this.at(rows) - (this.times[b] as number)) / (rows - least);
    }
    return 0;
  }

  /** Most rows that are known; 0 where nothing is. */
  get largest(): number {
    for (let b = this.times.length - 1; b >= 0; b--)
      if (this.isTrusted(b)) return this.rows[b] as number;
    return 0;
  }

  private isTrusted(b: number): boolean {
    return (
      (this.counts[b] ?? 0) >= TRUSTED_AFTER &&
      this.clock <= (this.expiresAt[b] as number)
    );
  }

  private smooth(b: number, rows: number, seconds: number): void {
    const time = this.times[b] as number;
    const mean = this.rows[b] as number;
    const isCold = this.cold && (this.counts[b] as number) < COLD_UNTIL;
    const usual = Math.min(seconds, time * (isCold ? 1 : OUTLIER));
    if (isCold) this.counts[b] = (this.counts[b] as number) + 1;
    this.times[b] = isCold ? usual : time + SMOOTHING * (usual - time);
    this.rows[b] = mean + SMOOTHING * (rows - mean);
  }

  /** Whether what has expired is as it was. */
  private holds(b: number, seconds: number): boolean {
    if ((this.counts[b] as number) < TRUSTED_AFTER) return false;
    const change = seconds / (this.times[b] as number);
    return change > 0.8 && change < 1.25;
  }

  private renew(b: number): void {
    this.expiry[b] = Math.min((this.expiry[b] as number) * 2, LAST_EXPIRY);
  }

  private learn(b: number, rows: number, seconds: number): void {
    const known = this.counts[b] as number;
    const count = known >= TRUSTED_AFTER ? 0 : known;
    const mean = this.rows[b] as number;
    const low = count === 0 ? Infinity : (this.shortest[b] as number);
    const second = count === 0 ? Infinity : (this.times[b] as number);
    this.shortest[b] = Math.min(low, seconds);
    this.times[b] =
      count < 2
        ? Math.max(low === Infinity ? seconds : low, seconds)
        : Math.min(second, Math.max(low, seconds));
    this.rows[b] = count === 0 ? rows : mean + (rows - mean) / (count + 1);
    this.counts[b] = count + 1;
    this.expiry[b] = FIRST_EXPIRY;
  }
}

function bucketOf(rows: number): number {
  if (rows <= EXACT_ROWS) return rows;
  const doublings = Math.log2(Math.min(rows, MAX_ROWS) / EXACT_ROWS);
  return EXACT_ROWS + Math.ceil(PER_DOUBLING * doublings);
}
