/** The functions that chat templates expect beside Jinja's own, as transformers provides them. */
import { OctavoError } from "../core/errors.js";

const DAYS = [
  "Sunday",
  "Monday",
  "Tuesday",
  "Wednesday",
  "Thursday",
  "Friday",
  "Saturday",
];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** As in Jinja's sandbox: a longer range is an error, not a list that fills the memory. */
const MAX_RANGE = 100_000;

function dayOfYear(date: Date): number {
  const day = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return (day - Date.UTC(date.getFullYear(), 0, 0)) / 86_400_000;
}

function name(
  names: readonly string[],
  index: number,
  length?: number,
): string {
  return (names[index] ?? "").slice(0, length);
}

/** Directive -> [value, width it is padded to, pad character]. */
function field(
  date: Date,
  directive: string,
): [number | string, number, string] | null {
  const hour12 = date.getHours() % 12 === 0 ? 12 : date.getHours() % 12;
  switch (directive) {
    case "Y":
      return [date.getFullYear(), 4, "0"];
    case "y":
      return [date.getFullYear() % 100, 2, "0"];
    case "m":
      return [date.getMonth() + 1, 2, "0"];
    case "d":
      return [date.getDate(), 2, "0"];
    case "e":
      return [date.getDate(), 2, " "];
    case "j":
      return [dayOfYear(date), 3, "0"];
    case "H":
      return [date.getHours(), 2, "0"];
    case "I":
      return [hour12, 2, "0"];
    case "M":
      return [date.getMinutes(), 2, "0"];
    case "S":
      return [date.getSeconds(), 2, "0"];
    case "f":
      return [date.getMilliseconds() * 1000, 6, "0"];
    case "w":
      return [date.getDay(), 1, "0"];
    case "u":
      return [date.getDay() === 0 ? 7 : date.getDay(), 1, "0"];
    case "p":
      return [date.getHours() < 12 ? "AM" : "PM", 0, ""];
    case "A":
      return [name(DAYS, date.getDay()), 0, ""];
    case "a":
      return [name(DAYS, date.getDay(), 3), 0, ""];
    case "B":
      return [name(MONTHS, date.getMonth()), 0, ""];
    case "b":
    case "h":
      return [name(MONTHS, date.getMonth(), 3), 0, ""];
    case "Z": // a naive datetime, as transformers passes one, has no zone
    case "z":
      return ["", 0, ""];
    case "n":
      return ["\n", 0, ""];
    case "t":
      return ["\t", 0, ""];
    case "%":
      return ["%", 0, ""];
    default:
      return null;
  }
}

const COMPOUND: Readonly<Record<string, string>> = {
  F: "%Y-%m-%d",
  D: "%m/%d/%y",
  x: "%m/%d/%y",
  T: "%H:%M:%S",
  X: "%H:%M:%S",
  R: "%H:%M",
  c: "%a %b %e %H:%M:%S %Y",
};

/**
 * Python's `date.strftime(format)` in the C locale and the server's time zone, with glibc's `%-d` (not padded).
 * A directive that is not known stays as it is written, as in glibc.
 */
export function strftime(date: Date, format: string): string {
  return format.replace(
    /%(-?)([A-Za-z%])/g,
    (whole, flag: string, directive: string) => {
      const compound = COMPOUND[directive];
      if (compound !== undefined) return strftime(date, compound);
      const value = field(date, directive);
      if (value === null) return whole;
      return flag === "-"
        ? String(value[0])
        : String(value[0]).padStart(value[1], value[2]);
    },
  );
}

/** Python's range(). */
function range(start: number, stop?: number, step = 1): number[] {
  const from = stop === undefined ? 0 : start;
  const to = stop ?? start;
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!Number.isInteger(length) || length > MAX_RANGE)
    throw new Error(
      `range(${from}, ${to}, ${step}): expected at most ${MAX_RANGE} numbers`,
    );
  return Array.from({ length }, (_, i) => from + i * step);
}

/** A value of the Jinja runtime: a Map or an array of further ones, or plain. */
function plain(value: unknown): unknown {
  if (value instanceof Map)
    return Object.fromEntries(
      [...(value as Map<string, { value: unknown }>)].map(([key, item]) => [
        key,
        plain(item.value),
      ]),
    );
  if (Array.isArray(value))
    return (value as { value: unknown }[]).map((item) => plain(item.value));
  return value;
}

/** Python's dict(mapping, **kwargs); keyword arguments arrive as a last mapping. */
function dict(...mappings: unknown[]): unknown {
  return Object.assign({}, ...mappings.map(plain));
}

/** What every template may use. */
export function templateGlobals(now: Date): Record<string, unknown> {
  return {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range,
    dict,
    raise_exception: (message: unknown): never => {
      throw new OctavoError("invalid_request", String(message), "messages");
    },
    strftime_now: (format: string) => strftime(now, format),
  };
}
