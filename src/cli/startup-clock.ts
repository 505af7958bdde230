import type { StartupSeconds } from "../server/meters.js";

/** What a start is spent on, from the process's start: each phase lasts from the end of the one before. */
export class StartupClock {
  /** process: until the clock was made; find: the model, downloaded where it has to be; plan: its description read, memory planned. */
  readonly seconds: StartupSeconds = {
    process: performance.now() / 1000,
    find: 0,
    plan: 0,
    weights: 0,
    server: 0,
  };
  private last = performance.now();

  end(phase: keyof StartupSeconds): void {
    const now = performance.now();
    this.seconds[phase] = (now - this.last) / 1000;
    this.last = now;
  }

  get total(): number {
    return Object.values(this.seconds).reduce((sum, part) => sum + part, 0);
  }
}
