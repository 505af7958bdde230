import type { Latency, Metrics } from "./metrics.js";
import type { SpecDecodeStats } from "./spec-decode.js";

const WIDTH = 50;
const TITLES: Record<Latency, [name: string, title: string]> = {
  ttft: ["TTFT", "Time to First Token"],
  tpot: ["TPOT", "Time per Output Token (excl. 1st token)"],
  itl: ["ITL", "Inter-token Latency"],
  e2el: ["E2EL", "End-to-end Latency"],
};

export interface TableSettings {
  maxConcurrency: number | null;
  /** Infinity leaves the row out. */
  requestRate: number;
  percentileMetrics: readonly Latency[];
}

/** The table of `vllm bench serve`, to the character: scripts that read the one read the other. */
export function renderTable(
  metrics: Metrics,
  duration: number,
  specDecode: SpecDecodeStats | null,
  { maxConcurrency, requestRate, percentileMetrics }: TableSettings,
): string {
  const lines = [
    banner(" Serving Benchmark Result ", "="),
    row("Successful requests:", metrics.completed),
    row("Failed requests:", metrics.failed),
  ];
  if (maxConcurrency !== null)
    lines.push(row("Maximum request concurrency:", maxConcurrency));
  if (requestRate !== Infinity)
    lines.push(fixed("Request rate configured (RPS):", requestRate));
  lines.push(
    fixed("Benchmark duration (s):", duration),
    row("Total input tokens:", metrics.totalInputTokens),
    row("Total generated tokens:", metrics.totalOutputTokens),
    fixed("Request throughput (req/s):", metrics.requestThroughput),
  );
  if (metrics.requestGoodput !== null)
    lines.push(fixed("Request goodput (req/s):", metrics.requestGoodput));
  lines.push(
    fixed("Output token throughput (tok/s):", metrics.outputThroughput),
    fixed(
      "Peak output token throughput (tok/s):",
      metrics.maxOutputTokensPerSecond,
    ),
    fixed("Peak concurrent requests:", metrics.maxConcurrentRequests),
    fixed("Total token throughput (tok/s):", metrics.totalTokenThroughput),
  );
  for (const latency of percentileMetrics)
    lines.push(...latencyRows(latency, metrics));
  if (specDecode !== null) lines.push(...specDecodeRows(specDecode));
  lines.push("=".repeat(WIDTH));
  return lines.join("\n") + "\n";
}

function latencyRows(latency: Latency, { latencies }: Metrics): string[] {
  const [name, title] = TITLES[latency];
  const { mean, median, percentiles } = latencies[latency];
  return [
    banner(title, "-"),
    fixed(`Mean ${name} (ms):`, mean),
    fixed(`Median ${name} (ms):`, median),
    ...Array.from(percentiles, ([p, value]) =>
      fixed(`P${p} ${name} (ms):`, value),
    ),
  ];
}

function specDecodeRows(stats: SpecDecodeStats): string[] {
  return [
    banner("Speculative Decoding", "-"),
    fixed("Acceptance rate (%):", stats.acceptanceRate),
    fixed("Acceptance length:", stats.acceptanceLength),
    row("Drafts:", stats.numDrafts),
    row("Draft tokens:", stats.draftTokens),
    row("Accepted tokens:", stats.acceptedTokens),
    ...(stats.perPosition.length > 0 ? ["Per-position acceptance (%):"] : []),
    ...stats.perPosition.map((share, position) =>
      fixed(`  Position ${position}:`, share * 100),
    ),
  ];
}

/** Centred; an odd column goes to the right. */
function banner(title: string, fill: string): string {
  const left = Math.floor((WIDTH - title.length) / 2);
  return title.padStart(title.length + left, fill).padEnd(WIDTH, fill);
}

function row(label: string, value: number | string): string {
  return `${label.padEnd(40)} ${String(value).padEnd(10)}`;
}

function fixed(label: string, value: number): string {
  return row(label, value.toFixed(2));
}
