import type { StepKind } from "./draft-controller.js";

/**
 * Times steps from the end of one to the end of the next, everything in between included: what a client waits for. Only
 * a step that follows one of its own kind tells something: around a change, work of one is done in the other's time.
 */
export class Pace {
  private last: StepKind = "other";
  private end = 0;

  /** A step of this kind has ended. Returns its seconds, or 0 where they say nothing. */
  step(kind: StepKind): number {
    const { last, end } = this;
    this.last = kind;
    this.end = performance.now();
    return kind === last && kind !== "other" ? (this.end - end) / 1e3 : 0;
  }

  /** There was nothing to do. */
  interrupt(): void {
    this.last = "other";
  }
}
