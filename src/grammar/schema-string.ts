/** Strings within the limits of a schema. */
import type { Condition } from "./automaton.js";
import { FORMATS, PURPOSES } from "./formats.js";
import { refused } from "./grammar-error.js";
import { QUOTE, jsonChar, quoted } from "./json-text.js";
import type { Notation } from "./json-text.js";
import { NOTHING, oneOf, repeat, sequence } from "./nodes.js";
import type { Node } from "./nodes.js";
import { ANY } from "./ranges.js";
import { RegexError, meetingAll, regexConditions, regexNode } from "./regex.js";
import type { JsonObject } from "./schema-keywords.js";

/** Longest string that is asked for; longer bounds above are cut. */
const MAX_LENGTH = 10_000;
/** Where a pattern stands beside a bound, each length has states of its own: longer bounds are cut to the first of these that does. */
const LENGTHS_BESIDE = [256, 128, 64];

/** The limits of strings. */
interface StringLimits {
  readonly pattern: string | null;
  /** One that says how strings are written. */
  readonly format: string | null;
  readonly min: number;
  readonly max: number;
}

export function stringNode(
  limits: JsonObject,
  path: string,
  notation: Notation,
): Node {
  const found = limitsOfStrings(limits, path);
  const { pattern, format, min, max } = found;
  if (max < min) return NOTHING;
  if (pattern === null && format === null)
    return min === 0 && max === Infinity
      ? notation.string
      : notation.stringOf(min, max);
  const free = min === 0 && max === Infinity;
  if (pattern !== null && format === null && free)
    return patternNode(pattern, path);
  if (pattern === null && format !== null && withinBounds(format, found))
    return quoted(formatNode(format, true));
  return explained(`${path}.${pattern === null ? "format" : "pattern"}`, () =>
    together(found),
  );
}

function limitsOfStrings(limits: JsonObject, path: string): StringLimits {
  const { pattern, format, minLength, maxLength } = limits;
  const min = (minLength as number | undefined) ?? 0;
  if (min > MAX_LENGTH)
    throw refused(
      `${path}.minLength`,
      `expected at most ${MAX_LENGTH}, got ${min}`,
    );
  return {
    pattern: (pattern as string | undefined) ?? null,
    format: knownFormat(format, pattern !== undefined, path),
    min,
    max: (maxLength as number | undefined) ?? Infinity,
  };
}

/** Null for a format that limits nothing, or that a pattern beside it spells out: zod writes both. */
function knownFormat(
  format: unknown,
  besidePattern: boolean,
  path: string,
): string | null {
  if (typeof format !== "string" || PURPOSES.has(format)) return null;
  if (Object.hasOwn(FORMATS, format)) return format;
  if (besidePattern) return null;
  throw refused(
    `${path}.format`,
    `expected one of ${Object.keys(FORMATS).join(", ")}, got ${JSON.stringify(format)}`,
  );
}

/** A string that matches a pattern as JSON Schema reads it. */
export function patternNode(pattern: string, path: string): Node {
  return explained(`${path}.pattern`, () => {
    const options = { charOf: jsonChar, search: true, end: QUOTE };
    return sequence(QUOTE, regexNode(pattern, options));
  });
}

function formatNode(format: string, json: boolean): Node {
  return regexNode(FORMATS[format] ?? "", json ? { charOf: jsonChar } : {});
}

/** All that the format writes is as long as it has to be. */
function withinBounds(format: string, { min, max }: StringLimits): boolean {
  const [shortest, longest] = lengthsOf(formatNode(format, false));
  return shortest >= min && longest <= max;
}

/** Characters of the shortest and the longest text of an expression. */
function lengthsOf(node: Node): [shortest: number, longest: number] {
  switch (node.kind) {
    case "text": {
      const { length } = Array.from(node.text);
      return [length, length];
    }
    case "class":
      return [1, 1];
    case "sequence":
      return node.parts
        .map(lengthsOf)
        .reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
    case "choice":
      return node.parts
        .map(lengthsOf)
        .reduce(([a, b], [c, d]) => [Math.min(a, c), Math.max(b, d)]);
    case "repeat": {
      const [shortest, longest] = lengthsOf(node.part);
      return [shortest * node.min, longest === 0 ? 0 : longest * node.max];
    }
    case "rule":
      throw new Error("an expression has no rules");
  }
}

/** A string that is within all the limits at once. Throws RegexError. */
function together({ pattern, format, min, max }: StringLimits): Node {
  const conditions: Condition[] =
    pattern === null ? [] : regexConditions(pattern, { search: true });
  if (format !== null)
    conditions.push({ node: formatNode(format, false), negated: false });
  const meet = (more: readonly Condition[]): Node =>
    sequence(QUOTE, meetingAll([...conditions, ...more], QUOTE, jsonChar));
  if (min === 0 && max === Infinity) return meet([]);
  const length = (most: number): Condition => ({
    node: repeat(oneOf(ANY), min, most),
    negated: false,
  });
  if (max === Infinity) return meet([length(Infinity)]);
  const shorter = LENGTHS_BESIDE.filter((most) => most < max && most >= min);
  let failure: RegexError | null = null;
  for (const most of [max, ...shorter]) {
    try {
      return meet([length(most)]);
    } catch (error) {
      if (!(error instanceof RegexError)) throw error;
      failure ??= error;
    }
  }
  throw failure ?? new RegexError("no length fits");
}

function explained(param: string, make: () => Node): Node {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof RegexError)) throw error;
    throw refused(param, error.message);
  }
}
