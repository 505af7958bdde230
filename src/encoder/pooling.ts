import type { Pooling } from "./encoder-files.js";

/**
 * One vector for each input from those of its tokens; what was filled in is left out.
 * @param hidden Float32 [inputs, padded length, width]
 * @param lengths Int32 [inputs], tokens at the front of each
 * @returns Float32 [inputs, width]
 */
export function pool(
  pooling: Pooling,
  hidden: Float32Array,
  lengths: Int32Array,
  padded: number,
  width: number,
): Float32Array<ArrayBuffer> {
  const vectors = new Float32Array(lengths.length * width);
  lengths.forEach((length, i) => {
    const tokens = (from: number, to: number): Float32Array =>
      hidden.subarray((i * padded + from) * width, (i * padded + to) * width);
    const out = vectors.subarray(i * width, (i + 1) * width);
    if (pooling === "cls") out.set(tokens(0, 1));
    else if (pooling === "lasttoken") out.set(tokens(length - 1, length));
    else if (pooling === "max") maximum(tokens(0, length), out);
    else sum(tokens(0, length), out, WEIGHTS[pooling](length));
  });
  return vectors;
}

/** What each of `length` tokens counts, by its place from 0. */
type Weight = (place: number) => number;
const WEIGHTS = {
  mean: (length: number): Weight => {
    return () => 1 / length;
  },
  mean_sqrt_len_tokens: (length: number): Weight => {
    return () => 1 / Math.sqrt(length);
  },
  weightedmean: (length: number): Weight => {
    const total = (length * (length + 1)) / 2;
    return (place) => (place + 1) / total;
  },
};

/** @param tokens Float32 [length, out.length] */
function sum(tokens: Float32Array, out: Float32Array, weight: Weight): void {
  const width = out.length;
  // Float64: many small numbers.
  const sums = new Float64Array(width);
  for (let t = 0, place = 0; t < tokens.length; t += width, place++) {
    const factor = weight(place);
    for (let j = 0; j < width; j++)
      sums[j] = (sums[j] as number) + factor * (tokens[t + j] as number);
  }
  out.set(sums);
}

/** @param tokens Float32 [length, out.length] */
function maximum(tokens: Float32Array, out: Float32Array): void {
  const width = out.length;
  out.set(tokens.subarray(0, width));
  for (let t = width; t < tokens.length; t++) {
    const value = tokens[t] as number;
    if (value > (out[t % width] as number)) out[t % width] = value;
  }
}
