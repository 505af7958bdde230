import {
  EMPTY,
  NOTHING,
  Rule,
  choice,
  oneOf,
  repeat,
  sequence,
  shared,
  text,
} from "./nodes.js";
import type { Node, Ranges } from "./nodes.js";
import { COLON, COMMA, PLAIN } from "./json-text.js";
import { chars, includes, subtract, union } from "./ranges.js";

/** How the members of an object are written. */
export interface ObjectStyle {
  readonly open: string;
  readonly close: string;
  /** A member up to its value; null: it cannot be written. */
  key(name: string): Node | null;
  /** The same of a member that has none of these names. */
  keyOtherThan(names: readonly string[]): Node;
}

/** What keys are made of. */
interface KeyAlphabet {
  readonly letters: Ranges;
  /** Behind the key. */
  readonly end: string;
  /** Any letters and the end. */
  readonly rest: Node;
}

function alphabet(letters: Ranges, end: string): KeyAlphabet {
  // With the end in the same rule, as json-text.ts says of strings.
  const rule = new Rule();
  const rest: Node = { kind: "rule", rule };
  rule.body = choice([text(end), sequence(oneOf(letters), rest)]);
  return { letters, end, rest };
}

const LETTER: Ranges = [
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** Without escapes: two spellings of one key can't slip through. */
const STRING_KEY = alphabet(PLAIN, '"');
const WORD_KEY = alphabet(union(LETTER, [[0x30, 0x39]]), "=");

const letters = (name: string): string[] => Array.from(name);

/** `{"key": value}` */
export const JSON_OBJECT: ObjectStyle = {
  open: "{",
  close: "}",
  key: (name) => text(`${JSON.stringify(name)}: `),
  keyOtherThan: (names) =>
    sequence(text('"'), otherThan(names.map(letters), STRING_KEY), COLON),
};

/** `(key=value)` */
export const PYTHON_ARGUMENTS: ObjectStyle = {
  open: "(",
  close: ")",
  key: (name) => (/^[A-Za-z_]\w*$/.test(name) ? text(`${name}=`) : null),
  keyOtherThan: (names) => otherThan(names.map(letters), WORD_KEY, LETTER),
};

export interface Property {
  /** All before its value. */
  key: Node;
  value: Node;
  required: boolean;
}

export interface ObjectShape {
  style: ObjectStyle;
  /** In the order in which they are written. */
  properties: readonly Property[];
  /** Further ones, behind the others: key and value as one node. */
  extra: Node | null;
  minProperties: number;
  /** Infinity: no bound. */
  maxProperties: number;
}

/**
 * An object, its properties in order:
 *
 *   state(i, n)   properties from the i-th on, n written before (counted as far as bounds need it)
 *                 = property i, then state(i + 1, n + 1)   or, where it is optional, state(i + 1, n)
 *                 behind the last one: further properties
 */
export function objectNode(shape: ObjectShape): Node {
  const { style, minProperties, maxProperties } = shape;
  const properties = shape.properties.map((property) => ({
    ...property,
    value: shared(property.value),
  }));
  const extra = shape.extra && shared(shape.extra);
  const bounded = maxProperties < Infinity ? maxProperties + 1 : 1;
  const most = Math.min(
    Math.max(1, minProperties, bounded),
    properties.length + 1,
  );
  const states = new Map<number, Node>();
  const state = (i: number, written: number): Node => {
    if (written > maxProperties) return NOTHING;
    const property = properties[i];
    if (!property) return extras({ ...shape, extra }, written);
    const key = i * (properties.length + 2) + written;
    const known = states.get(key);
    if (known) return known;
    const rule = new Rule();
    const node: Node = { kind: "rule", rule };
    states.set(key, node);
    const member = sequence(
      written > 0 ? COMMA : EMPTY,
      property.key,
      property.value,
      state(i + 1, Math.min(written + 1, most)),
    );
    rule.body = property.required
      ? member
      : choice([member, state(i + 1, written)]);
    return node;
  };
  return sequence(text(style.open), state(0, 0), text(style.close));
}

/** Keys may repeat here, so all of them together count as one towards minProperties. */
function extras(
  { extra, minProperties, maxProperties }: ObjectShape,
  written: number,
): Node {
  const missing = minProperties - written;
  if (missing > 1 || (missing === 1 && !extra)) return NOTHING;
  const room = maxProperties - written;
  if (!extra || room <= 0) return missing > 0 ? NOTHING : EMPTY;
  const min = Math.max(0, missing);
  if (written > 0) return repeat(sequence(COMMA, extra), min, room);
  const some = sequence(extra, repeat(sequence(COMMA, extra), 0, room - 1));
  return min > 0 ? some : choice([EMPTY, some]);
}

/**
 * The rest of a key and its end, where `names` holds what is left of the names that begin like it.
 * @param first what the key begins with, if that is less than its letters: then there is a first letter
 */
function otherThan(
  names: readonly string[][],
  key: KeyAlphabet,
  first?: Ranges,
): Node {
  if (names.length === 0 && !first) return key.rest;
  const parts: Node[] = [];
  if (!first && names.every((name) => name.length > 0))
    parts.push(text(key.end));
  const byFirst = new Map<string, string[][]>();
  for (const [letter, ...rest] of names) {
    if (letter === undefined) continue;
    byFirst.set(letter, [...(byFirst.get(letter) ?? []), rest]);
  }
  const taken = chars([...byFirst.keys()].join(""));
  const others = subtract(first ?? key.letters, taken);
  parts.push(sequence(oneOf(others), key.rest));
  for (const [letter, rests] of byFirst)
    if (includes(key.letters, letter.codePointAt(0) ?? 0))
      parts.push(sequence(text(letter), otherThan(rests, key)));
  return choice(parts);
}
