/** Decimal numbers of a range, digit by digit. Every number of the language is in the range, as JSON.parse reads it. */
import { choice, NOTHING, oneOf, repeat, sequence, text } from "./nodes.js";
import type { Node } from "./nodes.js";

/** Null: no bound. */
export interface Bounds {
  min: number | null;
  max: number | null;
  /** The bound itself is out. */
  exclusiveMin: boolean;
  exclusiveMax: boolean;
}

/** A double holds any integer of so many digits. */
const MAX_DIGITS = 15;
const LARGEST = 10n ** BigInt(MAX_DIGITS) - 1n;
/** Fractions written freely follow integers below this, so that all digits together stay exact. */
const LARGEST_WITH_FRACTION = 10n ** 9n - 1n;
const FRACTION_DIGITS = 6;
/** Most decimals of a bound. */
export const MAX_DECIMALS = 9;

const anyDigit: Node = oneOf([[0x30, 0x39]]);

function digits(low: number, high: number): Node {
  return low === high ? text(String(low)) : oneOf([[0x30 + low, 0x30 + high]]);
}

/** Digit strings from `low` to `high`, which are equally long. */
function sameLength(low: string, high: string): Node {
  const rest = low.length - 1;
  if (/^0*$/.test(low) && /^9*$/.test(high))
    return repeat(anyDigit, low.length, low.length);
  const [first, last] = [Number(low[0]), Number(high[0])];
  if (rest === 0) return digits(first, last);
  if (first === last)
    return sequence(
      digits(first, first),
      sameLength(low.slice(1), high.slice(1)),
    );
  const parts = [
    sequence(digits(first, first), sameLength(low.slice(1), "9".repeat(rest))),
    sequence(digits(last, last), sameLength("0".repeat(rest), high.slice(1))),
  ];
  if (last - first > 1)
    parts.push(
      sequence(digits(first + 1, last - 1), repeat(anyDigit, rest, rest)),
    );
  return choice(parts);
}

/** Integers 0 <= low..high without a sign or leading zeros. */
function naturals(low: bigint, high: bigint): Node {
  const parts: Node[] = [];
  const top = high < LARGEST ? high : LARGEST;
  for (let from = low; from <= top;) {
    const length = String(from).length;
    const end = 10n ** BigInt(length) - 1n;
    const to = end < top ? end : top;
    parts.push(sameLength(String(from), String(to)));
    from = to + 1n;
  }
  return parts.length > 0 ? choice(parts) : NOTHING;
}

/** Integers in [min, max]; null: as far as 15 digits go. */
export function integerRange(min: bigint | null, max: bigint | null): Node {
  const low = min ?? -LARGEST;
  const high = max ?? LARGEST;
  const parts: Node[] = [];
  if (high >= 0n) parts.push(naturals(low > 0n ? low : 0n, high));
  if (low < 0n)
    parts.push(sequence(text("-"), naturals(high < 0n ? -high : 1n, -low)));
  return parts.length > 0 ? choice(parts) : NOTHING;
}

/** Integers of the bounds. */
export function integersWithin(bounds: Bounds): Node {
  const { min, max, exclusiveMin, exclusiveMax } = bounds;
  let low = min === null ? null : BigInt(clamp(Math.ceil(min)));
  let high = max === null ? null : BigInt(clamp(Math.floor(max)));
  if (exclusiveMin && low !== null && Number(low) === min) low += 1n;
  if (exclusiveMax && high !== null && Number(high) === max) high -= 1n;
  return integerRange(low, high);
}

function clamp(value: number): number {
  return Math.min(Math.max(value, -1e16), 1e16);
}

/** How many decimals the shortest form of a number has; Infinity above MAX_DECIMALS. */
export function decimalsOf(value: number): number {
  for (let decimals = 0; decimals <= MAX_DECIMALS; decimals++)
    if (Number(value.toFixed(decimals)) === value) return decimals;
  return Infinity;
}

/** Numbers of the bounds, without exponents. The bounds have at most MAX_DECIMALS decimals. */
export function numbersWithin(bounds: Bounds): Node {
  const { min, max, exclusiveMin, exclusiveMax } = bounds;
  const decimals = Math.max(decimalsOf(min ?? 0), decimalsOf(max ?? 0), 2);
  const scaled = (value: number): bigint =>
    BigInt(clamp(value).toFixed(decimals).replace(".", ""));
  const low = min === null ? null : scaled(min);
  const high = max === null ? null : scaled(max);
  const parts: Node[] = [];
  if (high === null || high > 0n || (high === 0n && !exclusiveMax))
    parts.push(
      low === null || low < 0n
        ? positives(0n, false, high, exclusiveMax, decimals)
        : positives(low, exclusiveMin, high, exclusiveMax, decimals),
    );
  if (low === null || low < 0n) {
    const mirroredHigh = low === null ? null : -low;
    const negative =
      high === null || high >= 0n
        ? positives(0n, true, mirroredHigh, exclusiveMin, decimals)
        : positives(-high, exclusiveMax, mirroredHigh, exclusiveMin, decimals);
    parts.push(sequence(text("-"), negative));
  }
  return parts.length > 0 ? choice(parts) : NOTHING;
}

/** Numbers >= 0 between bounds that are given in units of 10^-decimals. */
function positives(
  low: bigint,
  exclusiveLow: boolean,
  high: bigint | null,
  exclusiveHigh: boolean,
  decimals: number,
): Node {
  const unit = 10n ** BigInt(decimals);
  const first = low + (exclusiveLow ? 1n : 0n);
  const last =
    high === null ? LARGEST * unit : high - (exclusiveHigh ? 1n : 0n);
  if (first > last) return NOTHING;
  const parts: Node[] = [];
  /** The first integer whose whole unit [n, n + 1) is inside, and the first beyond. */
  const whole = (first + unit - 1n) / unit;
  const beyond = (last + 1n) / unit;
  const lastInteger = last / unit;
  if (whole <= lastInteger) parts.push(naturals(whole, lastInteger));
  const lastFree =
    beyond - 1n < LARGEST_WITH_FRACTION ? beyond - 1n : LARGEST_WITH_FRACTION;
  if (whole <= lastFree)
    parts.push(
      sequence(
        naturals(whole, lastFree),
        text("."),
        repeat(anyDigit, 1, FRACTION_DIGITS),
      ),
    );
  const edge = (integer: bigint, from: bigint, to: bigint): void => {
    if (integer > LARGEST_WITH_FRACTION) return;
    const pad = (value: bigint): string =>
      String(value).padStart(decimals, "0");
    if (from <= to)
      parts.push(sequence(text(`${integer}.`), sameLength(pad(from), pad(to))));
  };
  const firstInteger = first / unit;
  if (firstInteger === lastInteger) {
    if (whole > lastFree || whole > firstInteger)
      edge(firstInteger, first % unit, last % unit);
  } else {
    if (first % unit !== 0n) edge(firstInteger, first % unit, unit - 1n);
    if (high !== null && beyond === lastInteger)
      edge(lastInteger, 0n, last % unit);
  }
  return choice(parts);
}
