import type { HttpClient } from "./http.js";

/** What /metrics said at one moment. Null: the server has no such series. */
export interface ServerSample {
  /** Seconds after the start of the run. */
  time: number;
  /** Requests in the running batch, and waiting. */
  running: number | null;
  waiting: number | null;
  /** 0..1 */
  kvCacheUsage: number | null;
}

const INTERVAL_MS = 250;

/** Reads /metrics again and again while a run lasts, on a connection of its own. */
export class ServerSampler {
  readonly samples: ServerSample[] = [];
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;
  private reading: Promise<void> = Promise.resolve();

  constructor(private readonly http: HttpClient) {}

  /** @param origin performance.now() at the start of the run */
  start(origin: number): void {
    const turn = (): void => {
      this.reading = this.read(origin).finally(() => {
        if (!this.stopped) this.timer = setTimeout(turn, INTERVAL_MS);
      });
    };
    turn();
  }

  /** After it no more reads are under way. */
  async stop(): Promise<readonly ServerSample[]> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.reading;
    return this.samples;
  }

  /** A server without /metrics, or that keeps it closed, gives no samples. */
  private async read(origin: number): Promise<void> {
    try {
      const asked = performance.now();
      const { status, text } = await this.http.get("/metrics");
      if (status !== 200) return;
      const time = ((asked + performance.now()) / 2 - origin) / 1000;
      this.samples.push({
        time,
        running: seriesSum(text, "vllm:num_requests_running"),
        waiting: seriesSum(text, "vllm:num_requests_waiting"),
        kvCacheUsage: seriesSum(text, "vllm:kv_cache_usage_perc"),
      });
    } catch {
      // As without /metrics.
    }
  }
}

/** Seconds of processor time that the server has used since it started, or null. */
export async function readCpuSeconds(http: HttpClient): Promise<number | null> {
  try {
    const { status, text } = await http.get("/metrics");
    return status === 200 ? seriesSum(text, "process_cpu_seconds_total") : null;
  } catch {
    return null;
  }
}

/** The sum over a metric's labels in a text exposition; null where it has no series. */
export function seriesSum(exposition: string, name: string): number | null {
  let sum: number | null = null;
  for (const line of exposition.split("\n")) {
    if (!line.startsWith(name)) continue;
    const next = line[name.length];
    if (next !== "{" && next !== " ") continue;
    const value = Number(/^[\w:]+(?:\{.*\})? (\S+)/.exec(line)?.[1]);
    if (Number.isFinite(value)) sum = (sum ?? 0) + value;
  }
  return sum;
}
