import { quantile, type Histogram } from "./exposition.js";
import type { Snapshot } from "./snapshot.js";

/** Null: unknown, a gap in the line. */
export interface Point {
  /** Seconds, the snapshots' clock. */
  readonly time: number;
  readonly value: number | null;
}

/** How far back it reaches, in seconds. */
export const SPAN = 180;
/** Over which quantiles are taken. */
export const WINDOW = 30;
/** Snapshots further apart have a pause between them: the page was hidden. */
const PAUSE = 5;

/** Snapshots of the last minutes. */
export class History {
  private readonly snapshots: Snapshot[] = [];

  get latest(): Snapshot | undefined {
    return this.snapshots.at(-1);
  }

  add(snapshot: Snapshot): void {
    const { latest } = this;
    // Totals that shrink are those of another process: the server was started anew.
    if (latest !== undefined && wentBack(snapshot, latest))
      this.snapshots.length = 0;
    this.snapshots.push(snapshot);
    while ((this.snapshots[0]?.time ?? 0) < snapshot.time - SPAN - PAUSE)
      this.snapshots.shift();
  }

  /** A value of each snapshot. */
  values(pick: (snapshot: Snapshot) => number): Point[] {
    return this.points((now) => pick(now));
  }

  /** A total's growth per second. */
  rates(pick: (snapshot: Snapshot) => number): Point[] {
    return this.points((now, before) =>
      before === null
        ? null
        : (pick(now) - pick(before)) / (now.time - before.time),
    );
  }

  /** What one total grew while another grew by one; null where that did not. */
  ratios(
    part: (snapshot: Snapshot) => number,
    whole: (snapshot: Snapshot) => number,
  ): Point[] {
    return this.points((now, before) => {
      const grown = before === null ? 0 : whole(now) - whole(before);
      return before === null || grown <= 0
        ? null
        : (part(now) - part(before)) / grown;
    });
  }

  /** A histogram's quantile over the WINDOW seconds before each snapshot. */
  quantiles(q: number, pick: (snapshot: Snapshot) => Histogram): Point[] {
    return this.points((now) => {
      const before = this.since(now.time - WINDOW);
      return before === now ? null : quantile(q, pick(now), pick(before));
    });
  }

  /** How much a total grew in the last `seconds`, as far as that is known. */
  growth(pick: (snapshot: Snapshot) => number, seconds: number): number {
    const { latest } = this;
    return latest === undefined
      ? 0
      : pick(latest) - pick(this.since(latest.time - seconds));
  }

  /** Seconds of the last `seconds` that `growth` knows. */
  known(seconds: number): number {
    return this.growth(({ time }) => time, seconds);
  }

  /** The first snapshot from `time` on: after a pause, what happened in it is not counted as of now. */
  private since(time: number): Snapshot {
    const found = this.snapshots.find((snapshot) => snapshot.time >= time);
    if (found === undefined) throw new Error(`no snapshot from ${time} on`);
    return found;
  }

  /** Of each snapshot, with the one before it; null after a pause. */
  private points(
    value: (now: Snapshot, before: Snapshot | null) => number | null,
  ): Point[] {
    const points: Point[] = [];
    let before: Snapshot | null = null;
    for (const now of this.snapshots) {
      if (before !== null && now.time - before.time > PAUSE) {
        points.push({ time: before.time, value: null });
        before = null;
      }
      points.push({ time: now.time, value: value(now, before) });
      before = now;
    }
    return points;
  }
}

function wentBack(now: Snapshot, before: Snapshot): boolean {
  return (
    now.promptTokens < before.promptTokens ||
    now.generationTokens < before.generationTokens ||
    now.steps < before.steps
  );
}
