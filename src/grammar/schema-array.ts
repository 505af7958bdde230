import {
  EMPTY,
  NOTHING,
  choice,
  repeat,
  sequence,
  shared,
  text,
} from "./nodes.js";
import type { Node } from "./nodes.js";
import { COMMA } from "./json-text.js";

export interface ArrayShape {
  prefix: readonly Node[];
  /** Items behind the prefix; null: there are none. */
  items: Node | null;
  minItems: number;
  /** Infinity: no bound. */
  maxItems: number;
}

/** `[a, b, item, item, ...]` with a length within the bounds. */
export function arrayNode({
  prefix,
  items,
  minItems,
  maxItems,
}: ArrayShape): Node {
  if (maxItems < minItems) return NOTHING;
  const rest = (): Node => {
    const written = prefix.length;
    const min = Math.max(0, minItems - written);
    const max = maxItems - written;
    if (!items || max <= 0) return min > 0 ? NOTHING : EMPTY;
    if (written > 0) return repeat(sequence(COMMA, items), min, max);
    const item = shared(items);
    const more = sequence(COMMA, item);
    const some = sequence(item, repeat(more, Math.max(0, min - 1), max - 1));
    return min > 0 ? some : choice([EMPTY, some]);
  };
  let tail = prefix.length <= maxItems ? rest() : NOTHING;
  for (let i = prefix.length - 1; i >= 0; i--) {
    const parts: Node[] = i >= minItems ? [EMPTY] : [];
    if (i < maxItems)
      parts.push(sequence(i > 0 ? COMMA : EMPTY, prefix[i] as Node, tail));
    tail = parts.length > 0 ? choice(parts) : NOTHING;
  }
  return sequence(text("["), tail, text("]"));
}
