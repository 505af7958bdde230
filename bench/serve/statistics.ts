/** What the table and the JSON say of one latency. All in the unit of the values. */
export interface Summary {
  mean: number;
  median: number;
  /** Of the population (divided by n), as numpy's default. */
  std: number;
  /** Percentile (0..100) -> value. */
  percentiles: Map<number, number>;
}

/** Without values everything is 0. */
export function summarize(
  values: readonly number[],
  percentiles: readonly number[],
): Summary {
  const sorted = Float64Array.from(values).sort();
  const mean = sorted.reduce((sum, x) => sum + x, 0) / (sorted.length || 1);
  const variance =
    sorted.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (sorted.length || 1);
  return {
    mean,
    median: percentile(sorted, 50),
    std: Math.sqrt(variance),
    percentiles: new Map(percentiles.map((p) => [p, percentile(sorted, p)])),
  };
}

/**
 * Linear interpolation between the two ranks around p / 100 * (n - 1), as numpy's default.
 * @param sorted ascending
 * @param p 0..100
 */
export function percentile(sorted: Float64Array, p: number): number {
  if (sorted.length === 0) return 0;
  const rank = (p / 100) * (sorted.length - 1);
  const below = Math.floor(rank);
  const low = sorted[below] ?? 0;
  const high = sorted[Math.min(below + 1, sorted.length - 1)] ?? low;
  return low + (high - low) * (rank - below);
}
