export interface BatchLimits {
  /** Most tokens of a batch, padding included; an input that is longer goes alone. */
  readonly maxTokens: number;
  /** Most inputs of a batch. */
  readonly maxInputs: number;
  /** Inputs of a batch must be equally long. */
  readonly equalLengths: boolean;
  /** Every input is padded to this length; null: to the longest of the batch. */
  readonly fixedLength: number | null;
}

/** Up to this length a batch of its own costs more than padding does. */
const SHORT = 64;

/**
 * The next batch of inputs that wait, as their places, the first of which is always in it: nothing waits for ever. The
 * others are those closest to it in length, so that little is padding.
 * @param lengths of the inputs in the order in which they came; at least one
 */
export function chooseBatch(
  lengths: readonly number[],
  limits: BatchLimits,
): number[] {
  const { maxTokens, maxInputs, equalLengths, fixedLength } = limits;
  const order = [...lengths.keys()].sort(
    (a, b) => (lengths[a] ?? 0) - (lengths[b] ?? 0) || a - b,
  );
  const lengthAt = (place: number): number =>
    lengths[order[place] ?? -1] ?? Number.NaN;
  const first = order.indexOf(0);
  let low = first;
  let high = first;
  const fits = (place: number): boolean => {
    if (place < 0 || place >= order.length) return false;
    if (equalLengths && lengthAt(place) !== lengthAt(first)) return false;
    const shortest = Math.min(lengthAt(place), lengthAt(low));
    const most = Math.max(lengthAt(place), lengthAt(high));
    if (most > SHORT && 2 * shortest < most) return false;
    const count = high - low + 2;
    return count <= maxInputs && count * (fixedLength ?? most) <= maxTokens;
  };
  for (;;) {
    const below = fits(low - 1);
    const above = fits(high + 1);
    if (!below && !above) return order.slice(low, high + 1);
    const nearer =
      lengthAt(first) - lengthAt(low - 1) <=
      lengthAt(high + 1) - lengthAt(first);
    if (below && (!above || nearer)) low--;
    else high++;
  }
}
