import type { Outcome } from "./outcome.js";
import { summarize, type Summary } from "./statistics.js";

export const LATENCIES = ["ttft", "tpot", "itl", "e2el"] as const;
export type Latency = (typeof LATENCIES)[number];

/** Bounds in milliseconds that a good request keeps, all of them. */
export type Goodput = Partial<Record<"ttft" | "tpot" | "e2el", number>>;

export interface Metrics {
  completed: number;
  failed: number;
  totalInputTokens: number;
  totalOutputTokens: number;
  /** Per second of the run. Goodput is null where no bound was asked for. */
  requestThroughput: number;
  requestGoodput: number | null;
  outputThroughput: number;
  totalTokenThroughput: number;
  /** Tokens of the best of the seconds counted from the first request. */
  maxOutputTokensPerSecond: number;
  maxConcurrentRequests: number;
  /** Milliseconds. */
  latencies: Record<Latency, Summary>;
}

/**
 * The figures of a run. Latencies, tokens and throughput are those of the requests that went well.
 * @param duration seconds from the start of the run to its last answer
 */
export function computeMetrics(
  outcomes: readonly Outcome[],
  duration: number,
  percentiles: readonly number[],
  goodput: Goodput | null,
): Metrics {
  const good = outcomes.filter(({ error }) => error === null);
  const total = (of: (outcome: Outcome) => number): number =>
    good.reduce((sum, outcome) => sum + of(outcome), 0);
  const input = total(({ promptLen }) => promptLen);
  const output = total(({ outputLen }) => outputLen);
  const milliseconds = (seconds: number[]): Summary =>
    summarize(
      seconds.map((value) => value * 1000),
      percentiles,
    );
  const perSecond = (count: number): number =>
    duration > 0 ? count / duration : 0;
  return {
    completed: good.length,
    failed: outcomes.length - good.length,
    totalInputTokens: input,
    totalOutputTokens: output,
    requestThroughput: perSecond(good.length),
    requestGoodput:
      goodput && perSecond(good.filter((one) => meets(one, goodput)).length),
    outputThroughput: perSecond(output),
    totalTokenThroughput: perSecond(input + output),
    maxOutputTokensPerSecond: peakTokens(good),
    maxConcurrentRequests: peakConcurrency(outcomes),
    latencies: {
      ttft: milliseconds(good.map(({ ttft }) => ttft)),
      // One token has no time per further token.
      tpot: milliseconds(
        good.filter(({ outputLen }) => outputLen > 1).map(timePerToken),
      ),
      itl: milliseconds(good.flatMap(({ itls }) => itls)),
      e2el: milliseconds(good.map(({ latency }) => latency)),
    },
  };
}

/** (latency - TTFT) / (output tokens - 1), seconds; 0 for a single token. */
function timePerToken({ latency, ttft, outputLen }: Outcome): number {
  return outputLen > 1 ? (latency - ttft) / (outputLen - 1) : 0;
}

function meets(outcome: Outcome, { ttft, tpot, e2el }: Goodput): boolean {
  return (
    outcome.ttft * 1000 <= (ttft ?? Infinity) &&
    timePerToken(outcome) * 1000 <= (tpot ?? Infinity) &&
    outcome.latency * 1000 <= (e2el ?? Infinity)
  );
}

/** A chunk may carry several tokens (speculation, split characters): each counts as its even share of the request's. */
function peakTokens(good: readonly Outcome[]): number {
  const first = good.reduce(
    (least, { startTime }) => Math.min(least, startTime),
    Infinity,
  );
  const seconds = new Map<number, number>();
  for (const { startTime, ttft, itls, outputLen } of good) {
    const share = outputLen / (itls.length + 1);
    let time = startTime - first + ttft;
    const count = (): void => {
      const second = Math.floor(time);
      seconds.set(second, (seconds.get(second) ?? 0) + share);
    };
    count();
    for (const gap of itls) {
      time += gap;
      count();
    }
  }
  let peak = 0;
  for (const tokens of seconds.values()) peak = Math.max(peak, tokens);
  return peak;
}

/** Most requests in flight at the same instant, failed ones (until they failed) included. */
function peakConcurrency(outcomes: readonly Outcome[]): number {
  const events = outcomes.flatMap(({ startTime, latency }) => [
    { time: startTime, change: 1 },
    { time: startTime + latency, change: -1 },
  ]);
  // At the same instant an end comes first: the next request took its place.
  events.sort((a, b) => a.time - b.time || a.change - b.change);
  let running = 0;
  let peak = 0;
  for (const { change } of events) {
    running += change;
    peak = Math.max(peak, running);
  }
  return peak;
}
