import type { Ranges } from "./nodes.js";

/** Sorted and disjoint. */
export function union(...sets: Ranges[]): Ranges {
  const sorted = sets.flat().sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [low, high] of sorted) {
    const last = merged.at(-1);
    if (last && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  return merged;
}

/** What is in `set` and not in `removed`. */
export function subtract(set: Ranges, removed: Ranges): Ranges {
  let rest = [...set];
  for (const [low, high] of removed)
    rest = rest.flatMap(([from, to]): [number, number][] => {
      if (high < from || low > to) return [[from, to]];
      const parts: [number, number][] = [];
      if (from < low) parts.push([from, low - 1]);
      if (to > high) parts.push([high + 1, to]);
      return parts;
    });
  return rest;
}

/** What is in both; `a` has nothing but characters that text may hold. */
export function intersect(a: Ranges, b: Ranges): Ranges {
  return subtract(a, subtract(ANY, b));
}

export function includes(set: Ranges, codePoint: number): boolean {
  return set.some(([low, high]) => codePoint >= low && codePoint <= high);
}

export function chars(characters: string): Ranges {
  return union(
    Array.from(characters, (char): [number, number] => {
      const codePoint = char.codePointAt(0) ?? 0;
      return [codePoint, codePoint];
    }),
  );
}

/** Begins the spelling of a special token (vocabulary.ts): in no other text. */
export const SPECIAL_MARK = "\x01";

/** Every character that text may hold. */
export const ANY: Ranges = [
  [0, 0],
  [2, 0xd7ff],
  [0xe000, 0x10ffff],
];
