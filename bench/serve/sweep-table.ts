import { computeMetrics } from "./metrics.js";
import { percentile } from "./statistics.js";
import type { ServeRun } from "./serve-run.js";
import { pointLabel } from "./sweep.js";

/** One line a run: load, throughput, latencies in milliseconds, failures, and how late the client was. */
export function sweepTable(runs: readonly ServeRun[]): string {
  const header = [
    "load".padEnd(24),
    ...["req/s", "tok/s out", "tok/s all"].map((name) => name.padStart(11)),
    ...["TTFT P50", "TTFT P99", "TPOT P50", "TPOT P99", "E2EL P50"].map(
      (name) => name.padStart(10),
    ),
    "failed".padStart(8),
    "late P99".padStart(10),
  ].join("");
  return `${header}\n${runs.map(row).join("\n")}\n`;
}

function row({
  point,
  metrics,
  outcomes,
  duration,
  lateness,
}: ServeRun): string {
  // P99 whatever --metric-percentiles asks for.
  const { latencies } = computeMetrics(outcomes, duration, [99], null);
  const { ttft, tpot, e2el } = latencies;
  const late = Float64Array.from(lateness, (value) => value * 1000).sort();
  const fixed = (value: number, width: number): string =>
    value.toFixed(2).padStart(width);
  return [
    pointLabel(point).padEnd(24),
    fixed(metrics.requestThroughput, 11),
    fixed(metrics.outputThroughput, 11),
    fixed(metrics.totalTokenThroughput, 11),
    fixed(ttft.median, 10),
    fixed(ttft.percentiles.get(99) ?? 0, 10),
    fixed(tpot.median, 10),
    fixed(tpot.percentiles.get(99) ?? 0, 10),
    fixed(e2el.median, 10),
    String(metrics.failed).padStart(8),
    fixed(percentile(late, 99), 10),
  ].join("");
}
