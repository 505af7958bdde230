/** Where values lie on an axis. */
export interface Scale {
  /** Value -> pixel. */
  at(value: number): number;
  /** Values worth a line and a label, ascending. */
  ticks: readonly number[];
  kind: "linear" | "log";
  domain: readonly [low: number, high: number];
}

/** 1, 2 or 5 times a power of ten: the step that cuts `span` into about `count` parts. */
export function niceStep(span: number, count: number): number {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((one) => one * power >= rough * 0.999);
  return (factor ?? 10) * power;
}

/** From `low` to the first round number at or beyond `high`. */
export function linearScale(
  low: number,
  high: number,
  range: readonly [number, number],
  numTicks = 5,
): Scale {
  const span = high > low ? high - low : 1;
  const step = niceStep(span, numTicks);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil((low + span) / step - 1e-9);
  const ticks = Array.from({ length: last - first + 1 }, (_, i) =>
    rounded((first + i) * step),
  );
  const from = first * step;
  const to = last * step;
  const [start, end] = range;
  return {
    kind: "linear",
    domain: [from, to],
    ticks,
    at: (value) => start + ((value - from) / (to - from)) * (end - start),
  };
}

/** Ticks at 1, 2 and 5 times the powers of ten (the powers alone over more than three of them). Both ends above 0. */
export function logScale(
  low: number,
  high: number,
  range: readonly [number, number],
): Scale {
  const [from, to] = [roundDown(low), roundUp(Math.max(high, low * 1.01))];
  const decades = Math.log10(to / from);
  const ticks: number[] = [];
  for (let p = Math.floor(Math.log10(from)); p <= Math.log10(to) + 1; p++)
    for (const factor of decades > 3 ? [1] : [1, 2, 5]) {
      const tick = rounded(factor * 10 ** p);
      if (tick >= from * 0.999 && tick <= to * 1.001) ticks.push(tick);
    }
  const [start, end] = range;
  return {
    kind: "log",
    domain: [from, to],
    ticks,
    at: (value) =>
      start + (Math.log(value / from) / Math.log(to / from)) * (end - start),
  };
}

const STEPS = [1, 2, 5, 10];

function roundDown(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = STEPS.findLast((one) => one * power <= value * 1.0001) ?? 1;
  return rounded(factor * power);
}

function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = STEPS.find((one) => one * power >= value * 0.9999) ?? 10;
  return rounded(factor * power);
}

/** 0.30000000000000004 -> 0.3 */
function rounded(value: number): number {
  return Number(value.toPrecision(12));
}

/** At most four digits: 1234 -> "1,234", 0.0512 -> "0.0512". */
export function formatValue(value: number): string {
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  if (size >= 100 || value === 0) return value.toFixed(0);
  return String(Number(value.toPrecision(3)));
}
