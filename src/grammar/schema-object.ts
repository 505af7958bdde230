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
import type { Node } from "./nodes.js";
import { COLON, COMMA, PLAIN, PLAIN_REST } from "./json-text.js";
import { chars, subtract } from "./ranges.js";

export interface Property {
  name: string;
  value: Node;
  required: boolean;
}

export interface ObjectShape {
  /** In the order in which they are written. */
  properties: readonly Property[];
  /** Further ones, behind the others: `"key": value` as one node. */
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
  const { minProperties, maxProperties } = shape;
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
      text(JSON.stringify(property.name)),
      COLON,
      property.value,
      state(i + 1, Math.min(written + 1, most)),
    );
    rule.body = property.required
      ? member
      : choice([member, state(i + 1, written)]);
    return node;
  };
  return sequence(text("{"), state(0, 0), text("}"));
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

/** A key in quotes that is none of `names`, without escapes: two spellings of one key can't slip through. */
export function keyOtherThan(names: readonly string[]): Node {
  const spelled = names.map((name) => Array.from(name));
  return sequence(text('"'), otherThan(spelled));
}

/** The rest of a key, its quote included, where `names` holds what is left of the names that begin like it. */
function otherThan(names: readonly string[][]): Node {
  if (names.length === 0) return PLAIN_REST;
  const parts: Node[] = [];
  if (names.every((name) => name.length > 0)) parts.push(text('"'));
  const byFirst = new Map<string, string[][]>();
  for (const [first, ...rest] of names) {
    if (first === undefined) continue;
    byFirst.set(first, [...(byFirst.get(first) ?? []), rest]);
  }
  const firsts = [...byFirst.keys()];
  parts.push(
    sequence(oneOf(subtract(PLAIN, chars(firsts.join("")))), PLAIN_REST),
  );
  for (const [first, rests] of byFirst)
    if (JSON.stringify(first).length === first.length + 2)
      parts.push(sequence(text(first), otherThan(rests)));
  return choice(parts);
}
