import type { Random } from "../random.js";

/**
 * When each request is sent: gaps are Gamma(shape = burstiness, scale = 1 / (rate * burstiness)), burstiness 1 being a
 * Poisson process, and the whole is rescaled so that the last request comes at count / rate.
 * @param rate requests per second; Infinity sends all at once
 * @returns seconds after the start, ascending, Float64 [count]
 */
export function arrivalTimes(
  count: number,
  rate: number,
  burstiness: number,
  random: Random,
): Float64Array {
  const times = new Float64Array(count);
  if (rate === Infinity) return times;
  let time = 0;
  for (let i = 0; i < count; i++) {
    time += random.gamma(burstiness) / (rate * burstiness);
    times[i] = time;
  }
  // A burstiness near 0 can underflow to no gap at all; then there is nothing to rescale.
  const factor = time > 0 ? count / rate / time : 1;
  return times.map((value) => value * factor);
}
