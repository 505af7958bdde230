import { element, type Content, type Markup } from "./markup.js";
import { formatValue, type Scale } from "../../src/page/scale.js";

/** How large a chart is; the page scales it to its column. */
export interface Frame {
  width: number;
  height: number;
  /** Pixels of the plot within the axes: left to right, bottom to top. */
  x: readonly [number, number];
  y: readonly [number, number];
}

const LEFT = 62;
const RIGHT = 18;
const TOP = 14;
const BOTTOM = 48;

function frame(width: number, height: number): Frame {
  return {
    width,
    height,
    x: [LEFT, width - RIGHT],
    y: [height - BOTTOM, TOP],
  };
}

export const NORMAL = frame(640, 300);
/** Across both columns of the page. */
export const WIDE = frame(1310, 380);

export interface Axis {
  scale: Scale;
  label: string;
  /** Text of a tick; by default the number. */
  format?: (value: number) => string;
}

export interface LegendEntry {
  /** Class of the series: s1, s2, s3. */
  series: string;
  label: string;
}

let numCharts = 0;

/**
 * Axes, grid and legend around `marks`. Read aloud it is its title and description; the numbers are in the table that the
 * page puts below it.
 */
export function chart(
  title: string,
  description: string,
  x: Axis,
  y: Axis,
  marks: Content,
  legend: readonly LegendEntry[] = [],
  size: Frame = NORMAL,
): Markup {
  const id = `chart${++numCharts}`;
  return element(
    "svg",
    {
      viewBox: `0 0 ${size.width} ${size.height}`,
      role: "img",
      "aria-labelledby": `${id}t ${id}d`,
    },
    element("title", { id: `${id}t` }, title),
    element("desc", { id: `${id}d` }, description),
    yAxis(y, size),
    xAxis(x, size),
    marks,
    legendOf(legend, size),
  );
}

function xAxis(
  { scale, label, format = formatValue }: Axis,
  size: Frame,
): Markup {
  const [bottom] = size.y;
  const ticks = scale.ticks.map((tick) => {
    const x = scale.at(tick);
    return [
      element("line", {
        class: "tick",
        x1: x,
        x2: x,
        y1: bottom,
        y2: bottom + 5,
      }),
      element(
        "text",
        { x, y: bottom + 18, "text-anchor": "middle" },
        format(tick),
      ),
    ];
  });
  const [left, right] = size.x;
  return element(
    "g",
    { class: "axis" },
    element("line", {
      class: "base",
      x1: left,
      x2: right,
      y1: bottom,
      y2: bottom,
    }),
    ticks,
    element(
      "text",
      {
        class: "label",
        x: (left + right) / 2,
        y: size.height - 8,
        "text-anchor": "middle",
      },
      label,
    ),
  );
}

function yAxis(
  { scale, label, format = formatValue }: Axis,
  size: Frame,
): Markup {
  const [left, right] = size.x;
  const [bottom, top] = size.y;
  const middle = (top + bottom) / 2;
  return element(
    "g",
    { class: "axis" },
    scale.ticks.map((tick) => {
      const y = scale.at(tick);
      return [
        element("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
        element(
          "text",
          { x: left - 8, y: y + 4, "text-anchor": "end" },
          format(tick),
        ),
      ];
    }),
    element(
      "text",
      {
        class: "label",
        transform: `translate(14 ${middle}) rotate(-90)`,
        "text-anchor": "middle",
      },
      label,
    ),
  );
}

const LEGEND_STEP = 150;

/** At the top right, from right to left. */
function legendOf(entries: readonly LegendEntry[], size: Frame): Markup | null {
  if (entries.length === 0) return null;
  const start = size.x[1] - entries.length * LEGEND_STEP;
  return element(
    "g",
    { class: "legend" },
    entries.map(({ series, label }, i) => {
      const x = start + i * LEGEND_STEP;
      return [
        element("line", {
          class: `line ${series}`,
          x1: x,
          x2: x + 22,
          y1: 8,
          y2: 8,
        }),
        element("text", { x: x + 28, y: 12 }, label),
      ];
    }),
  );
}

/** "M x y L x y ..." */
export function linePath(
  points: readonly { x: number; y: number }[],
  x: Scale,
  y: Scale,
): string {
  return points
    .map(
      (point, i) =>
        `${i === 0 ? "M" : "L"}${x.at(point.x).toFixed(1)} ${y.at(point.y).toFixed(1)}`,
    )
    .join("");
}

/** A value holds until the next point, the last one until `end`. */
export function stepPath(
  points: readonly { x: number; y: number }[],
  x: Scale,
  y: Scale,
  end: number,
): string {
  return (
    points
      .map((point, i) => {
        const across = x.at(point.x).toFixed(1);
        const up = y.at(point.y).toFixed(1);
        return i === 0 ? `M${across} ${up}` : `H${across}V${up}`;
      })
      .join("") + (points.length > 0 ? `H${x.at(end).toFixed(1)}` : "")
  );
}
