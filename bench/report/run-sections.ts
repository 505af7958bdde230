import type { ServerSample } from "../serve/server-samples.js";
import type { ServeRun } from "../serve/serve-run.js";
import { ganttChart, GANTT_ROWS, histogramChart, timeChart } from "./charts.js";
import { element, type Markup } from "./markup.js";
import { formatValue } from "../../src/page/scale.js";
import {
  concurrencyOverTime,
  histogram,
  percentilesOf,
  throughputOverTime,
  type Point,
} from "./series.js";
import { figure, table, tiles } from "./table.js";

const MARKED = [50, 90, 99];
const LISTED = [1, 10, 25, 50, 75, 90, 95, 99, 99.9];

/** Everything about one run: key figures, latencies, how it went over time. */
export function runSections(run: ServeRun): Markup {
  return element(
    "section",
    {},
    keyFigures(run),
    element("h2", {}, "Latency"),
    element("div", { class: "charts" }, latencyFigures(run)),
    latencyTable(run),
    element("h2", {}, "Over time"),
    element(
      "div",
      { class: "charts" },
      throughputFigure(run),
      concurrencyFigure(run),
      serverFigures(run),
      ganttFigure(run),
    ),
    failures(run),
  );
}

function keyFigures({ metrics, lateness, duration }: ServeRun): Markup {
  const { ttft, tpot } = metrics.latencies;
  const late = percentilesOf(lateness, [99])[0]?.value ?? 0;
  return tiles([
    {
      name: "output tokens",
      value: formatValue(metrics.outputThroughput),
      unit: "tok/s",
    },
    {
      name: "requests",
      value: formatValue(metrics.requestThroughput),
      unit: "req/s",
    },
    {
      name: "time to first token, median",
      value: formatValue(ttft.median),
      unit: "ms",
    },
    {
      name: "time per output token, median",
      value: formatValue(tpot.median),
      unit: "ms",
    },
    {
      name: `of ${metrics.completed + metrics.failed} requests went well`,
      value: String(metrics.completed),
      unit: "",
      bad: metrics.failed > 0,
    },
    ...(metrics.requestGoodput === null
      ? []
      : [
          {
            name: "requests within the bounds (goodput)",
            value: formatValue(metrics.requestGoodput),
            unit: "req/s",
          },
        ]),
    { name: "duration", value: formatValue(duration), unit: "s" },
    {
      name: "sent late by, P99",
      value: formatValue(late * 1000),
      unit: "ms",
    },
  ]);
}

interface LatencyValues {
  key: string;
  name: string;
  values: number[];
}

/** Milliseconds, of the requests that went well. */
function latencyValues({ outcomes }: ServeRun): LatencyValues[] {
  const good = outcomes.filter(({ error }) => error === null);
  const ms = (seconds: number[]): number[] => seconds.map((one) => one * 1000);
  return [
    {
      key: "ttft",
      name: "Time to first token",
      values: ms(good.map(({ ttft }) => ttft)),
    },
    {
      key: "itl",
      name: "Inter-token latency",
      values: ms(good.flatMap(({ itls }) => itls)),
    },
    {
      key: "tpot",
      name: "Time per output token",
      values: ms(
        good
          .filter(({ outputLen }) => outputLen > 1)
          .map(
            ({ latency, ttft, outputLen }) =>
              (latency - ttft) / (outputLen - 1),
          ),
      ),
    },
    {
      key: "e2el",
      name: "End-to-end latency",
      values: ms(good.map(({ latency }) => latency)),
    },
  ];
}

function latencyFigures(run: ServeRun): Markup[] {
  return latencyValues(run)
    .filter(({ values }) => values.length > 0)
    .map(({ key, name, values }) => {
      const data = histogram(values);
      const marks = percentilesOf(values, MARKED);
      return figure(
        key,
        `${name}: ${formatValue(marks[0]?.value ?? 0)} ms median, ${formatValue(marks[2]?.value ?? 0)} ms P99`,
        histogramChart(name, "ms", data, marks),
        ["from (ms)", "to (ms)", "count"],
        data.bins
          .filter(({ count }) => count > 0)
          .map(({ from, to, count }) => [exact(from), exact(to), count]),
      );
    });
}

function latencyTable(run: ServeRun): Markup {
  const rows = latencyValues(run).map(({ name, values }) => [
    `${name} (ms)`,
    values.length,
    exact(values.reduce((sum, x) => sum + x, 0) / (values.length || 1)),
    ...percentilesOf(values, LISTED).map(({ value }) => exact(value)),
  ]);
  return table(
    ["latency", "values", "mean", ...LISTED.map((p) => `P${p}`)],
    rows,
  );
}

/** Enough digits to be checked against the JSON. */
function exact(value: number): string {
  return value.toFixed(3);
}

function throughputFigure({ outcomes, duration }: ServeRun): Markup {
  const { points, width } = throughputOverTime(outcomes, duration);
  return figure(
    "throughput",
    "Output tokens per second",
    timeChart(
      "Output tokens per second",
      "tok/s",
      duration,
      [{ label: "output tokens", points }],
      "area",
    ),
    ["from (s)", "to (s)", "tok/s"],
    points.map(({ x, y }) => [
      exact(x - width / 2),
      exact(x + width / 2),
      exact(y),
    ]),
  );
}

function concurrencyFigure({ outcomes, duration }: ServeRun): Markup {
  const points = concurrencyOverTime(outcomes, duration);
  return figure(
    "concurrency",
    "Requests in flight, as the client sees them",
    timeChart(
      "Requests in flight",
      "requests",
      duration,
      [{ label: "in flight", points }],
      "steps",
    ),
    ["time (s)", "requests"],
    points.map(({ x, y }) => [exact(x), y]),
  );
}

/** What /metrics said; nothing where it said nothing. */
function serverFigures({ samples, duration }: ServeRun): Markup[] {
  const figures: Markup[] = [];
  const series = (of: (sample: ServerSample) => number | null): Point[] =>
    samples.flatMap((sample) => {
      const y = of(sample);
      return y === null ? [] : [{ x: Math.max(0, sample.time), y }];
    });
  const running = series((sample) => sample.running);
  const waiting = series((sample) => sample.waiting);
  const kv = series(({ kvCacheUsage }) =>
    kvCacheUsage === null ? null : kvCacheUsage * 100,
  );
  const end = Math.max(duration, samples.at(-1)?.time ?? 0);
  if (running.length > 0)
    figures.push(
      figure(
        "batch",
        "Batch size and queue, from the server's /metrics",
        timeChart(
          "Batch size and queue",
          "requests",
          end,
          [
            { label: "running", points: running },
            { label: "waiting", points: waiting },
          ],
          "steps",
        ),
        ["time (s)", "running", "waiting"],
        samples.map(({ time, running: batch, waiting: queue }) => [
          exact(time),
          batch ?? "",
          queue ?? "",
        ]),
      ),
    );
  if (kv.length > 0)
    figures.push(
      figure(
        "kv",
        "KV cache in use, from the server's /metrics",
        timeChart(
          "KV cache in use",
          "% of the blocks",
          end,
          [{ label: "KV cache in use", points: kv }],
          "steps",
        ),
        ["time (s)", "%"],
        kv.map(({ x, y }) => [exact(x), exact(y)]),
      ),
    );
  return figures;
}

function ganttFigure({ outcomes, duration }: ServeRun): Markup {
  const more = outcomes.length - GANTT_ROWS;
  return figure(
    "gantt",
    `Each request from send to last token${more > 0 ? ` (the first ${GANTT_ROWS} of ${outcomes.length})` : ""}`,
    ganttChart(outcomes, duration),
    [
      "request",
      "sent (s)",
      "TTFT (ms)",
      "end (s)",
      "prompt",
      "output",
      "error",
    ],
    outcomes
      .slice(0, GANTT_ROWS)
      .map((one, i) => [
        i + 1,
        exact(one.startTime),
        exact(one.ttft * 1000),
        exact(one.startTime + one.latency),
        one.promptLen,
        one.outputLen,
        one.error ?? "",
      ]),
  );
}

function failures({ outcomes }: ServeRun): Markup | null {
  const reasons = new Map<string, number>();
  for (const { error } of outcomes)
    if (error !== null) reasons.set(error, (reasons.get(error) ?? 0) + 1);
  if (reasons.size === 0) return null;
  const rows = [...reasons].sort(([, a], [, b]) => b - a);
  return element(
    "section",
    { class: "failures" },
    element("h2", {}, "Failed requests"),
    table(["reason", "requests"], rows),
  );
}
