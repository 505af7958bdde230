import type { Outcome } from "../serve/outcome.js";
import { percentile } from "../serve/statistics.js";
import { niceStep } from "../../src/page/scale.js";

export interface Bin {
  from: number;
  to: number;
  count: number;
}

export interface Histogram {
  bins: Bin[];
  kind: "linear" | "log";
  count: number;
}

const NUM_BINS = 40;
/** Spreads wider than this are shown on a logarithmic axis: linearly, all but the tail would be one bar. */
const LOG_SPREAD = 20;

/** Every value is in a bin. Logarithmic bins where the values spread far (and none is 0). */
export function histogram(values: readonly number[]): Histogram {
  const sorted = Float64Array.from(values).sort();
  const low = sorted[0] ?? 0;
  const high = sorted.at(-1) ?? 0;
  const log = low > 0 && high / percentile(sorted, 5) > LOG_SPREAD;
  const [from, to] = log
    ? [Math.log(low), Math.log(high)]
    : [Math.min(low, 0), high];
  const width = to > from ? (to - from) / NUM_BINS : 1;
  const edge = (i: number): number =>
    log ? Math.exp(from + i * width) : from + i * width;
  const bins = Array.from({ length: NUM_BINS }, (_, i) => ({
    from: edge(i),
    to: edge(i + 1),
    count: 0,
  }));
  for (const value of sorted) {
    const position = ((log ? Math.log(value) : value) - from) / width;
    const bin = bins[Math.min(NUM_BINS - 1, Math.max(0, Math.floor(position)))];
    if (bin) bin.count++;
  }
  return { bins, kind: log ? "log" : "linear", count: sorted.length };
}

export interface Point {
  x: number;
  y: number;
}

/** Seconds of a bin so that a run has about this many. */
const NUM_TIME_BINS = 60;

/**
 * Output tokens per second over the run: [x = middle of a bin, seconds; y = tokens / s]. Each chunk counts as its even
 * share of the request's tokens, so that the sum of y * width is the run's output tokens.
 */
export function throughputOverTime(
  outcomes: readonly Outcome[],
  duration: number,
): { points: Point[]; width: number } {
  const width = niceStep(duration, NUM_TIME_BINS);
  const bins = new Float64Array(Math.max(1, Math.ceil(duration / width)));
  const add = (time: number, tokens: number): void => {
    const bin = Math.min(bins.length - 1, Math.floor(time / width));
    bins[bin] = (bins[bin] ?? 0) + tokens;
  };
  for (const { error, startTime, ttft, itls, outputLen } of outcomes) {
    if (error !== null) continue;
    const share = outputLen / (itls.length + 1);
    let time = startTime + ttft;
    add(time, share);
    for (const gap of itls) add((time += gap), share);
  }
  return {
    width,
    points: Array.from(bins, (tokens, i) => ({
      x: (i + 0.5) * width,
      y: tokens / width,
    })),
  };
}

const MAX_STEPS = 1000;

/** Requests in flight after each start and end. Long runs: the most within each of a thousand parts. */
export function concurrencyOverTime(
  outcomes: readonly Outcome[],
  duration: number,
): Point[] {
  const changes = outcomes
    .flatMap(({ startTime, latency }) => [
      { x: startTime, change: 1 },
      { x: startTime + latency, change: -1 },
    ])
    .sort((a, b) => a.x - b.x || a.change - b.change);
  let running = 0;
  const points = changes.map(({ x, change }) => ({
    x,
    y: (running += change),
  }));
  if (points.length <= MAX_STEPS) return [{ x: 0, y: 0 }, ...points];
  const width = duration / MAX_STEPS;
  const most = new Map<number, number>();
  for (const { x, y } of points) {
    const part = Math.floor(x / width);
    most.set(part, Math.max(most.get(part) ?? 0, y));
  }
  return Array.from(most, ([part, y]) => ({ x: part * width, y }));
}

/** @param values in any order */
export function percentilesOf(
  values: readonly number[],
  wanted: readonly number[],
): { p: number; value: number }[] {
  const sorted = Float64Array.from(values).sort();
  return wanted.map((p) => ({ p, value: percentile(sorted, p) }));
}
