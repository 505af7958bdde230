import type { Outcome } from "./outcome.js";

/** A timer may fire this much late, in milliseconds; the rest of a wait turns the event loop. */
const TIMER_SLACK = 1.5;

export interface LoadResult {
  /** In the order of the arrivals. */
  outcomes: Outcome[];
  /** Seconds from the start to the last answer. */
  duration: number;
  /** Sent - due, seconds, per request. A wait for a free place (max concurrency) is not the client's and not in it. */
  lateness: number[];
}

/**
 * The open loop: every request is sent when its time comes, whatever has become of those before it, unless a limit of
 * concurrency holds it back; then it is sent as soon as a place is free, first come first served.
 * @param arrivals seconds after the start, ascending
 * @param send never rejects
 */
export async function runLoad(
  arrivals: ArrayLike<number>,
  send: (index: number, origin: number) => Promise<Outcome>,
  maxConcurrency: number | null,
  onDone: (done: number, total: number) => void,
): Promise<LoadResult> {
  const total = arrivals.length;
  const outcomes: Promise<Outcome>[] = [];
  const lateness: number[] = [];
  const places = new Places(maxConcurrency ?? Infinity);
  let done = 0;
  const origin = performance.now();
  const one = async (index: number): Promise<Outcome> => {
    if (!places.take()) await places.wait();
    const outcome = await send(index, origin);
    places.release();
    onDone(++done, total);
    return outcome;
  };
  for (let i = 0; i < total; i++) {
    const due = origin + (arrivals[i] ?? 0) * 1000;
    await until(due);
    lateness.push((performance.now() - due) / 1000);
    outcomes.push(one(i));
  }
  const settled = await Promise.all(outcomes);
  return {
    outcomes: settled,
    duration: (performance.now() - origin) / 1000,
    lateness,
  };
}

/**
 * Waits by a timer for the most part, then by turns of the event loop, so that it ends within microseconds of the time
 * and answers are read (and their arrival noted) meanwhile. Turns the loop at least once.
 */
async function until(time: number): Promise<void> {
  do {
    const left = time - performance.now();
    await new Promise<void>((resolve) => {
      if (left > TIMER_SLACK + 1)
        // Node fires at once beyond 2^31 ms.
        setTimeout(resolve, Math.min(left - TIMER_SLACK, 2 ** 30));
      else setImmediate(resolve);
    });
  } while (performance.now() < time);
}

/** Places for requests in flight, given away in the order of asking. */
class Places {
  private readonly waiting: (() => void)[] = [];

  constructor(private free: number) {}

  take(): boolean {
    if (this.free <= 0) return false;
    this.free--;
    return true;
  }

  wait(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  release(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free++;
  }
}
