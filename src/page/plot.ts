/// <reference lib="dom" />
import { html, setAttributes, setText, svg } from "./dom.js";
import { SPAN, type Point } from "./history.js";
import { formatValue, linearScale, type Scale } from "./scale.js";

export interface PlotSeries {
  /** Its class, which has its colour: s1, s2, s3. */
  readonly name: string;
  readonly label: string;
}

export interface PlotOptions {
  readonly title: string;
  readonly series: readonly PlotSeries[];
  /** The axis reaches at least to here. */
  readonly least: number;
}

const HEIGHT = 92;
const TOP = 8;
const BOTTOM = HEIGHT - 18;
const LEFT = 44;
const RIGHT = 6;
/** Seconds before now that have a mark. */
const MARKS = [
  [SPAN, "3 min ago"],
  [120, "2 min"],
  [60, "1 min"],
  [0, "now"],
] as const;

/** A small plot of the last minutes, with the latest values beside its title. */
export class Plot {
  readonly element: HTMLElement;
  private readonly canvas = svg("svg", { role: "img", height: HEIGHT });
  private readonly grid = svg("g", { class: "axis" });
  private readonly paths: readonly SVGPathElement[];
  private readonly values: readonly HTMLElement[];

  constructor(private readonly options: PlotOptions) {
    const { series, title } = options;
    this.values = series.map(() => html("strong", {}, "–"));
    this.paths = series.map(({ name }) =>
      svg("path", { class: `line ${name}` }),
    );
    setAttributes(this.canvas, { "aria-label": title });
    this.canvas.append(this.grid, ...this.paths);
    const legend = series.map(({ name, label }, i) =>
      html("span", { class: `key ${name}` }, `${label} `, this.values[i] ?? ""),
    );
    this.element = html(
      "figure",
      {},
      html(
        "figcaption",
        {},
        html("span", { class: "title" }, title),
        html("span", { class: "legend" }, ...legend),
      ),
      this.canvas,
    );
  }

  /** @param now the right end, on the points' clock */
  draw(lines: readonly (readonly Point[])[], now: number): void {
    const { width } = this.canvas.getBoundingClientRect();
    if (width === 0) return;
    const { least, title } = this.options;
    const high = Math.max(
      least,
      ...lines.flat().map(({ value }) => value ?? 0),
    );
    const y = linearScale(0, high, [BOTTOM, TOP], 2);
    const x = (time: number): number =>
      LEFT + (1 - (now - time) / SPAN) * (width - LEFT - RIGHT);
    this.drawGrid(y, width);
    lines.forEach((points, i) => {
      const latest = points.at(-1)?.value ?? null;
      const shown = latest === null ? "–" : formatValue(latest);
      this.paths[i]?.setAttribute("d", pathOf(points, x, y));
      if (this.values[i]) setText(this.values[i], shown);
    });
    const last = this.options.series.map(
      ({ label }, i) => `${label} ${this.values[i]?.textContent ?? ""}`,
    );
    setAttributes(this.canvas, {
      "aria-label": `${title}, the last 3 minutes, from 0 to ${formatValue(high)}; now: ${last.join(", ")}`,
    });
  }

  private drawGrid(y: Scale, width: number): void {
    const key = `${width} ${y.ticks.join()}`;
    if (this.grid.dataset["key"] === key) return;
    this.grid.dataset["key"] = key;
    const lines = y.ticks.flatMap((tick) => {
      const at = y.at(tick);
      return [
        svg("line", { x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
        svg(
          "text",
          { x: LEFT - 6, y: at + 4, "text-anchor": "end" },
          formatValue(tick),
        ),
      ];
    });
    const marks = MARKS.map(([ago, label], i) => {
      const at = LEFT + (1 - ago / SPAN) * (width - LEFT - RIGHT);
      const anchor =
        i === 0 ? "start" : i === MARKS.length - 1 ? "end" : "middle";
      return svg(
        "text",
        { x: at, y: HEIGHT - 4, "text-anchor": anchor },
        label,
      );
    });
    this.grid.replaceChildren(...lines, ...marks);
  }
}

/** "M x y L x y ...", begun anew after each gap; points before the plot's left end are left out. */
function pathOf(
  points: readonly Point[],
  x: (time: number) => number,
  y: Scale,
): string {
  let path = "";
  let open = false;
  for (const { time, value } of points) {
    const across = x(time);
    const drawn = value !== null && across >= LEFT;
    if (drawn)
      path += `${open ? "L" : "M"}${across.toFixed(1)} ${y.at(value).toFixed(1)}${open ? "" : "h0"}`;
    open = drawn;
  }
  return path;
}
