import type { ServeRun } from "../serve/serve-run.js";
import { computeMetrics } from "../serve/metrics.js";
import { pointLabel } from "../serve/sweep.js";
import { sweepChart } from "./charts.js";
import { element, type Markup } from "./markup.js";
import { figure, table } from "./table.js";

interface SweepValues {
  label: string;
  requests: number;
  output: number;
  ttft: { median: number; p99: number };
  tpot: { median: number; p99: number };
  failed: number;
}

/** Latency and throughput against load. */
export function sweepSections(runs: readonly ServeRun[]): Markup {
  const values = runs.map(valuesOf);
  const settings = runs.map((run) => settingOf(run));
  const axis = axisOf(runs);
  const latency = (key: "ttft" | "tpot", title: string): Markup =>
    figure(
      `sweep-${key}`,
      `${title} against load`,
      sweepChart(title, axis, "ms", settings, [
        { label: "median", values: values.map((one) => one[key].median) },
        { label: "P99", values: values.map((one) => one[key].p99) },
      ]),
      ["load", "median (ms)", "P99 (ms)"],
      values.map((one) => [
        one.label,
        one[key].median.toFixed(3),
        one[key].p99.toFixed(3),
      ]),
    );
  return element(
    "section",
    {},
    element("h2", {}, "Against load"),
    element(
      "div",
      { class: "charts" },
      latency("ttft", "Time to first token"),
      latency("tpot", "Time per output token"),
      figure(
        "sweep-throughput",
        "Output throughput against load",
        sweepChart("Output throughput", axis, "tok/s", settings, [
          { label: "output tokens", values: values.map((one) => one.output) },
        ]),
        ["load", "tok/s"],
        values.map((one) => [one.label, one.output.toFixed(3)]),
      ),
      figure(
        "sweep-requests",
        "Request throughput against load",
        sweepChart("Request throughput", axis, "req/s", settings, [
          { label: "requests", values: values.map((one) => one.requests) },
        ]),
        ["load", "req/s"],
        values.map((one) => [one.label, one.requests.toFixed(3)]),
      ),
    ),
    table(
      [
        "load",
        "req/s",
        "output tok/s",
        "TTFT P50 (ms)",
        "TTFT P99",
        "TPOT P50",
        "TPOT P99",
        "failed",
      ],
      values.map((one) => [
        one.label,
        one.requests.toFixed(2),
        one.output.toFixed(2),
        one.ttft.median.toFixed(2),
        one.ttft.p99.toFixed(2),
        one.tpot.median.toFixed(2),
        one.tpot.p99.toFixed(2),
        one.failed,
      ]),
    ),
  );
}

function valuesOf(run: ServeRun): SweepValues {
  const { latencies, requestThroughput, outputThroughput, failed } =
    computeMetrics(run.outcomes, run.duration, [99], null);
  const of = (key: "ttft" | "tpot"): SweepValues["ttft"] => ({
    median: latencies[key].median,
    p99: latencies[key].percentiles.get(99) ?? 0,
  });
  return {
    label: pointLabel(run.point),
    requests: requestThroughput,
    output: outputThroughput,
    ttft: of("ttft"),
    tpot: of("tpot"),
    failed,
  };
}

/** What stands below the axis: "4", "inf", or "4 / 8" where both are swept. */
function settingOf({ point }: ServeRun): string {
  return [point.requestRate, point.maxConcurrency]
    .filter((value) => value !== undefined)
    .map((value) => (value === Infinity ? "inf" : String(value)))
    .join(" / ");
}

function axisOf([first]: readonly ServeRun[]): string {
  const names = [];
  if (first?.point.requestRate !== undefined)
    names.push("request rate (req/s)");
  if (first?.point.maxConcurrency !== undefined)
    names.push("requests in flight at most");
  return names.join(" / ");
}
