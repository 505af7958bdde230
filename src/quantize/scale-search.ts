/**
 * Activation-aware scales [Lin et al. 2023, AWQ]: channels that carry large activations get a larger share of the 16
 * codes. s = mean|x|^alpha per channel, and alpha is whatever changes the outputs least on calibration data.
 */
import type { AttentionNode } from "../../models/graph.js";
import type { NativeQuantizer } from "../runner/addon.js";
import { breathe } from "./walk.js";

/** Alphas 0, 1/20, ..., 19/20; 0 is plain rounding. */
const NUM_ALPHAS = 20;
/** Channels that are never active still get a scale: their mean counts as this share of the largest. */
const LEAST_SHARE = 1e-4;

export interface SearchedWeights {
  /** [n, k] */
  w: Float32Array;
  /** ||X W^T||^2 */
  energy: number;
}

export interface ScaleChoice {
  alpha: number;
  /** [channels] what divides the producer's rows or weight. */
  producer: Float32Array;
  /** [k] what multiplies the readers' columns. */
  columns: Float32Array;
}

/** mean|x| per channel of the first `numRows` rows of x [rows, width]. */
export function meanMagnitudes(
  x: Float32Array,
  width: number,
  numRows: number,
): Float64Array {
  const sums = new Float64Array(width);
  for (let row = 0; row < numRows; row++)
    for (let i = 0; i < width; i++)
      (sums[i] as number) += Math.abs(x[row * width + i] as number);
  return sums.map((sum) => sum / numRows);
}

/**
 * The scales of the best alpha for linears that read `sample` [rows, k]: least sum of their relative squared errors.
 * `attention`: the producer's channels are those of v, and each serves several query heads.
 */
export async function searchScale(
  native: NativeQuantizer,
  sample: Float32Array,
  magnitudes: Float64Array,
  attention: AttentionNode | null,
  weights: readonly SearchedWeights[],
  groupSize: number,
  signal: AbortSignal,
): Promise<ScaleChoice> {
  const k = magnitudes.length;
  const channels = attention ? headMeans(magnitudes, attention) : magnitudes;
  let best: ScaleChoice | null = null;
  let least = Infinity;
  for (let i = 0; i < NUM_ALPHAS; i++) {
    const alpha = i / NUM_ALPHAS;
    const producer = scalesOf(channels, alpha);
    const columns = attention ? perQueryHead(producer, attention) : producer;
    await breathe(signal);
    let error = 0;
    for (const { w, energy } of weights)
      error +=
        native.quantizationError(sample, w, k, columns, null, groupSize) /
        energy;
    if (best && !(error < least)) continue;
    least = error;
    best = { alpha, producer, columns };
  }
  return best as ScaleChoice;
}

/** mean^alpha, divided by sqrt(max * min) so that neither side of the fold drifts. */
function scalesOf(magnitudes: Float64Array, alpha: number): Float32Array {
  const largest = magnitudes.reduce((a, b) => Math.max(a, b), 0);
  if (largest === 0) return new Float32Array(magnitudes.length).fill(1);
  const scales = magnitudes.map(
    (mean) => Math.max(mean / largest, LEAST_SHARE) ** alpha,
  );
  const smallest = scales.reduce((a, b) => Math.min(a, b), Infinity);
  return Float32Array.from(scales, (scale) => scale / Math.sqrt(smallest));
}

/** The mean over the query heads that share a channel of v: [numKvHeads * headDim]. */
function headMeans(
  magnitudes: Float64Array,
  { numHeads, numKvHeads, headDim }: AttentionNode,
): Float64Array {
  const perKvHead = numHeads / numKvHeads;
  const means = new Float64Array(numKvHeads * headDim);
  magnitudes.forEach((mean, i) => {
    (means[sourceOf(i, headDim, perKvHead)] as number) += mean / perKvHead;
  });
  return means;
}

/** Channels of v, repeated for each query head that reads them: [numHeads * headDim]. */
function perQueryHead(
  scales: Float32Array,
  { numHeads, numKvHeads, headDim }: AttentionNode,
): Float32Array {
  return Float32Array.from(
    { length: numHeads * headDim },
    (_, i) => scales[sourceOf(i, headDim, numHeads / numKvHeads)] as number,
  );
}

/** The channel of v that channel `i` of the attention's output comes from. */
function sourceOf(i: number, headDim: number, perKvHead: number): number {
  const head = Math.floor(i / headDim);
  return Math.floor(head / perKvHead) * headDim + (i % headDim);
}
