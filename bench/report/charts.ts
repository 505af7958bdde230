import type { Outcome } from "../serve/outcome.js";
import {
  chart,
  linePath,
  stepPath,
  NORMAL,
  WIDE,
  type LegendEntry,
} from "./chart.js";
import { element, type Markup } from "./markup.js";
import {
  formatValue,
  linearScale,
  logScale,
  type Scale,
} from "../../src/page/scale.js";
import type { Histogram, Point } from "./series.js";

/** One line of a chart. */
export interface Series {
  label: string;
  points: readonly Point[];
}

/** How often a latency came, with marks at percentiles. */
export function histogramChart(
  title: string,
  unit: string,
  { bins, kind, count }: Histogram,
  marks: readonly { p: number; value: number }[],
): Markup {
  const low = bins[0]?.from ?? 0;
  const high = bins.at(-1)?.to ?? 1;
  const x =
    kind === "log"
      ? logScale(low, high, NORMAL.x)
      : linearScale(low, high, NORMAL.x, 8);
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const y = linearScale(0, most * 1.08, NORMAL.y, 6);
  const bars = bins
    .filter((bin) => bin.count > 0)
    .map((bin) => {
      const left = x.at(bin.from);
      const top = y.at(bin.count);
      return element(
        "rect",
        {
          class: "bar",
          x: left,
          y: top,
          width: Math.max(0.8, x.at(bin.to) - left - 0.8),
          height: y.at(0) - top,
        },
        element(
          "title",
          {},
          `${formatValue(bin.from)} to ${formatValue(bin.to)} ${unit}: ${bin.count}`,
        ),
      );
    });
  const description = `${count} values; ${marks.map(({ p, value }) => `P${p} ${formatValue(value)} ${unit}`).join(", ")}. ${kind === "log" ? "Logarithmic axis." : ""}`;
  return chart(
    title,
    description,
    {
      scale: x,
      label: `${title} (${unit}${kind === "log" ? ", logarithmic" : ""})`,
    },
    { scale: y, label: "count" },
    [bars, percentileMarks(marks, x)],
  );
}

/** Labels of marks that stand close go below each other. */
function percentileMarks(
  marks: readonly { p: number; value: number }[],
  x: Scale,
): Markup[] {
  let previous = -Infinity;
  let level = 0;
  return marks.map(({ p, value }) => {
    const at = x.at(value);
    level = at - previous < 78 ? level + 1 : 0;
    previous = at;
    const [bottom, top] = NORMAL.y;
    const y = top + 8 + level * 14;
    const nearEnd = at > NORMAL.x[1] - 80;
    return element(
      "g",
      { class: "mark" },
      element("line", { x1: at, x2: at, y1: bottom, y2: top }),
      element(
        "text",
        {
          x: nearEnd ? at - 4 : at + 4,
          y,
          "text-anchor": nearEnd ? "end" : "start",
        },
        `P${p} ${formatValue(value)}`,
      ),
    );
  });
}

/** Values over the seconds of a run. `steps`: each holds until the next. */
export function timeChart(
  title: string,
  yLabel: string,
  duration: number,
  series: readonly Series[],
  shape: "area" | "line" | "steps",
): Markup {
  const x = linearScale(0, duration, NORMAL.x, 8);
  const highest = Math.max(
    1e-9,
    ...series.flatMap(({ points }) => points.map((point) => point.y)),
  );
  const y = linearScale(0, highest * 1.08, NORMAL.y, 6);
  const marks = series.map(({ points }, i) => {
    const d =
      shape === "steps"
        ? stepPath(points, x, y, duration)
        : linePath(points, x, y);
    const line = element("path", { class: `line s${i + 1}`, d });
    const first = points[0];
    const last = points.at(-1);
    if (shape !== "area" || !first || !last) return line;
    const closed = `${d}L${x.at(last.x).toFixed(1)} ${y.at(0)}L${x.at(first.x).toFixed(1)} ${y.at(0)}Z`;
    return [element("path", { class: `area s${i + 1}`, d: closed }), line];
  });
  const described = series.map(({ label, points }) => {
    const most = Math.max(0, ...points.map((point) => point.y));
    return `${label}: at most ${formatValue(most)}`;
  });
  return chart(
    title,
    `${described.join("; ")}, over ${formatValue(duration)} s.`,
    { scale: x, label: "time since the start (s)" },
    { scale: y, label: yLabel },
    marks,
    series.length > 1 ? legendOf(series) : [],
  );
}

function legendOf(series: readonly Series[]): LegendEntry[] {
  return series.map(({ label }, i) => ({ series: `s${i + 1}`, label }));
}

/**
 * One value a series for each setting of a sweep, evenly spaced in the order of the sweep ("inf" has a place too).
 * @param series y per setting
 */
export function sweepChart(
  title: string,
  xLabel: string,
  yLabel: string,
  settings: readonly string[],
  series: readonly { label: string; values: readonly number[] }[],
): Markup {
  const [left, right] = NORMAL.x;
  const step = (right - left) / settings.length;
  const x: Scale = {
    kind: "linear",
    domain: [0, settings.length - 1],
    ticks: settings.map((_, i) => i),
    at: (i) => left + (i + 0.5) * step,
  };
  const values = series.flatMap((one) => one.values);
  const positive = values.filter((value) => value > 0);
  const low = Math.min(...positive);
  const high = Math.max(...values, 1e-9);
  // Latency grows by orders of magnitude where a server saturates.
  const log = positive.length === values.length && high / low > 20;
  const y = log
    ? logScale(low, high * 1.12, NORMAL.y)
    : linearScale(0, high * 1.08, NORMAL.y, 6);
  const marks = series.map(({ label, values: ys }, s) => [
    element("path", {
      class: `line s${s + 1}`,
      d: linePath(
        ys.map((value, i) => ({ x: i, y: value })),
        x,
        y,
      ),
    }),
    ys.map((value, i) =>
      element(
        "circle",
        { class: `dot s${s + 1}`, cx: x.at(i), cy: y.at(value), r: 4 },
        element(
          "title",
          {},
          `${label}, ${settings[i] ?? ""}: ${formatValue(value)}`,
        ),
      ),
    ),
  ]);
  return chart(
    title,
    `${series.map(({ label, values: ys }) => `${label}: ${ys.map(formatValue).join(", ")}`).join("; ")}, for ${xLabel} ${settings.join(", ")}.`,
    { scale: x, label: xLabel, format: (i) => settings[i] ?? "" },
    { scale: y, label: `${yLabel}${log ? ", logarithmic" : ""}` },
    marks,
    series.map(({ label }, i) => ({ series: `s${i + 1}`, label })),
  );
}

/** More rows than this are no longer told apart. */
export const GANTT_ROWS = 200;

/** Each request from send to its last token, in the order of sending: waiting for the first token, then decoding. */
export function ganttChart(
  outcomes: readonly Outcome[],
  duration: number,
): Markup {
  const shown = outcomes.slice(0, GANTT_ROWS);
  const x = linearScale(0, duration, WIDE.x, 16);
  const [bottom, top] = WIDE.y;
  const row = (bottom - top) / Math.max(1, shown.length);
  const height = Math.max(0.7, Math.min(14, row * 0.8));
  const bar = (kind: string, from: number, to: number, y: number): Markup =>
    element("rect", {
      class: kind,
      x: x.at(from),
      y,
      width: Math.max(0.6, x.at(to) - x.at(from)),
      height,
    });
  const marks = shown.map(({ startTime, ttft, latency, error }, i) => {
    const y = top + i * row + (row - height) / 2;
    const end = startTime + latency;
    if (error !== null) return bar("failed", startTime, end, y);
    return [
      bar("wait", startTime, startTime + ttft, y),
      bar("decode", startTime + ttft, end, y),
    ];
  });
  const scale: Scale = {
    kind: "linear",
    domain: [0, shown.length],
    ticks: [1, shown.length].filter((tick, i, all) => all.indexOf(tick) === i),
    at: (index) => top + (index - 0.5) * row,
  };
  return chart(
    "Requests over time",
    `${shown.length} requests in the order of sending: the time to the first token, then decoding; failed requests stand out.`,
    { scale: x, label: "time since the start (s)" },
    { scale, label: "request" },
    [marks, ganttKey()],
    [],
    WIDE,
  );
}

function ganttKey(): Markup {
  const y = WIDE.height - 18;
  const entries = [
    ["wait", "until the first token", WIDE.x[0]],
    ["decode", "decoding", WIDE.x[1] - 90],
  ] as const;
  return element(
    "g",
    { class: "legend" },
    entries.map(([kind, label, x]) => [
      element("rect", { class: kind, x, y: y + 2, width: 14, height: 8 }),
      element("text", { x: x + 20, y: y + 10 }, label),
    ]),
  );
}
