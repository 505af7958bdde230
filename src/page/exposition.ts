/** One series of a metric: its labels as they are written, and its value. */
interface Series {
  readonly labels: string;
  readonly value: number;
}

/** A histogram's bounds (the last one is Infinity) and how many values lie at or below each. */
export interface Histogram {
  readonly bounds: readonly number[];
  readonly cumulative: readonly number[];
}

/** Prometheus' text format, read once: metrics by name. */
export class Exposition {
  private readonly metrics = new Map<string, Series[]>();

  constructor(text: string) {
    for (const line of text.split("\n")) {
      const match = /^([\w:]+)(?:\{(.*)\})? (\S+)/.exec(line);
      if (match === null) continue;
      const [, name = "", labels = "", number = ""] = match;
      const value = number === "+Inf" ? Infinity : Number(number);
      const known = this.metrics.get(name);
      if (known === undefined) this.metrics.set(name, [{ labels, value }]);
      else known.push({ labels, value });
    }
  }

  has(name: string): boolean {
    return this.metrics.has(name);
  }

  /** Over all series, or those with this label (`state="used"`). 0 where there is none. */
  sum(name: string, label = ""): number {
    let sum = 0;
    for (const { labels, value } of this.metrics.get(name) ?? [])
      if (labels.includes(label)) sum += value;
    return sum;
  }

  /** The value of a label of the first series; "" where there is none. */
  label(name: string, label: string): string {
    const labels = this.metrics.get(name)?.[0]?.labels ?? "";
    return new RegExp(`(?:^|,)${label}="([^"]*)"`).exec(labels)?.[1] ?? "";
  }

  /** Values by one label. */
  byLabel(name: string, label: string): Map<string, number> {
    const found = new Map<string, number>();
    const pattern = new RegExp(`(?:^|,)${label}="([^"]*)"`);
    for (const { labels, value } of this.metrics.get(name) ?? []) {
      const key = pattern.exec(labels)?.[1];
      if (key !== undefined) found.set(key, (found.get(key) ?? 0) + value);
    }
    return found;
  }

  histogram(name: string): Histogram {
    const buckets = [...this.byLabel(`${name}_bucket`, "le")]
      .map(([le, count]) => [le === "+Inf" ? Infinity : Number(le), count])
      .sort(([a = 0], [b = 0]) => a - b);
    return {
      bounds: buckets.map(([bound = 0]) => bound),
      cumulative: buckets.map(([, count = 0]) => count),
    };
  }
}

/**
 * The value below which a share `q` of what was counted between two readings lies, linear within its bucket (as
 * Prometheus' histogram_quantile); null where nothing was counted. In the last, open bucket it is that bucket's lower
 * bound.
 */
export function quantile(
  q: number,
  { bounds, cumulative }: Histogram,
  before: Histogram | null,
): number | null {
  const counts = cumulative.map(
    (count, i) => count - (before?.cumulative[i] ?? 0),
  );
  const total = counts.at(-1) ?? 0;
  if (total <= 0) return null;
  const rank = q * total;
  const bucket = counts.findIndex((count) => count >= rank);
  const low = bounds[bucket - 1] ?? 0;
  const high = bounds[bucket] ?? Infinity;
  if (high === Infinity) return low;
  const below = counts[bucket - 1] ?? 0;
  const inside = (counts[bucket] ?? 0) - below;
  return inside === 0 ? low : low + ((rank - below) / inside) * (high - low);
}
