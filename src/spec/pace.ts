import type { StepKind } from "./draft-controller.js";

/**
 * Times steps from the end of one to the end of the next, everything in between included: what a client waits for. Around
 * a change between steps scheduled ahead and steps waited for, work of one is done in the other's time: those say nothing.
 */
export class Pace {
  private last: StepKind = "other";
  private end = -1;
  /** Seconds from the end of the step before the latest one to its end; 0 where nothing was to do in between. */
  elapsed = 0;

  /** A step of this kind has ended. Returns its seconds, or 0 where they say nothing. */
  step(kind: StepKind): number {
    const { last, end } = this;
    this.last = kind;
    this.end = performance.now();
    this.elapsed = end < 0 ? 0 : (this.end - end) / 1e3;
    return isComparable(last, kind) ? this.elapsed : 0;
  }

  /** There was nothing to do. */
  interrupt(): void {
    this.last = "other";
    this.end = -1;
  }
}

function isComparable(last: StepKind, kind: StepKind): boolean {
  if (kind === "other") return false;
  return kind === last || (isWaitedFor(kind) && isWaitedFor(last));
}

/** Nothing of the next step is done before it ends. */
function isWaitedFor(kind: StepKind): boolean {
  return kind === "drafted" || kind === "waited";
}
