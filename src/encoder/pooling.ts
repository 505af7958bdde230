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
    else if (pooling === "mean") mean(tokens(0, length), out);
    else maximum(tokens(0, length), out);
  });
  return vectors;
}

/** @param tokens Float32 [length, out.length] */
function mean(tokens: Float32Array, out: Float32Array): void {
  const width = out.length;
  const length = tokens.length / width;
  for (let j = 0; j < width; j++) {
    let sum = 0;
    for (let t = j; t < tokens.length; t += width) sum += tokens[t] as number;
    out[j] = sum / length;
  }
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
