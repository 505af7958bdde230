const WINDOW_MS = 60_000;
const MAX_RESTARTS = 2;

/** How often a lost runner may be replaced: twice within a minute. A device that fails faster than that is broken. */
export class RestartBudget {
  /** Milliseconds, the latest last. */
  private readonly times: number[] = [];

  /** @param clock milliseconds, never going back */
  constructor(private readonly clock: () => number = () => performance.now()) {}

  /** Takes one restart; false when there is none left. */
  take(): boolean {
    const time = this.clock();
    while (this.times.length > 0 && time - (this.times[0] ?? 0) >= WINDOW_MS)
      this.times.shift();
    if (this.times.length >= MAX_RESTARTS) return false;
    this.times.push(time);
    return true;
  }
}
