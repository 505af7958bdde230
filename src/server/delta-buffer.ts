import type { Delta } from "./output.js";

/**
 * `--stream-interval`: holds back what a stream would say until enough tokens of a choice are there. The first token goes
 * at once (it is what a client waits for), and so does the end.
 */
export class DeltaBuffer {
  /** Per choice: what is held back; null once something was sent and nothing is. */
  private readonly held = new Map<number, Delta | null>();

  /** @param interval tokens to an event, at least 1 */
  constructor(private readonly interval: number) {}

  /** What is to be sent now, everything held back included, or null while it waits. */
  add(index: number, delta: Delta): Delta | null {
    const before = this.held.get(index);
    const whole = before ? merged(before, delta) : delta;
    const due =
      before === undefined ||
      whole.finishReason !== null ||
      whole.tokenIds.length >= this.interval;
    this.held.set(index, due ? null : whole);
    return due ? whole : null;
  }

  /** What waits, when nothing more comes; null: nothing does. */
  take(index: number): Delta | null {
    const held = this.held.get(index) ?? null;
    this.held.set(index, null);
    return held;
  }
}

/** Into the first of the two, which nobody else has. */
function merged(first: Delta, next: Delta): Delta {
  first.text += next.text;
  for (const id of next.tokenIds) first.tokenIds.push(id);
  for (const entry of next.logprobs) first.logprobs.push(entry);
  first.finishReason = next.finishReason;
  first.stopReason = next.stopReason;
  return first;
}
