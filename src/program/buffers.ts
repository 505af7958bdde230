import type { Value } from "../../models/graph.js";
import type { BufferPlan } from "./program.js";

/** Columns; 64 bytes of f32, so that every buffer starts on a cache line. */
const ALIGNMENT = 16;

/** First and last instruction that touches a value; `name` says what it holds, for people. */
export interface Lifetime {
  value: Value;
  name: string;
  first: number;
  last: number;
}

export interface PlannedBuffers {
  buffers: BufferPlan[];
  tokenColumns: number;
  sampleColumns: number;
  /** Value id -> index into `buffers`. */
  indexOf: ReadonlyMap<number, number>;
}

/**
 * Gives each value columns that no other value uses while it lives (first fit, in order of birth).
 *
 *   columns  0        16             48
 *   instr 0  | x      |
 *   instr 1  | x      | normed |
 *   instr 2  | x      | normed | qkv     |      a value born by an instruction never overlaps
 *   instr 3  | x      | attn   | qkv     |      one that the instruction reads: both live then
 *
 * Values with the same place and width share one buffer (one per layer would be the same numbers many times).
 */
export function planBuffers(lifetimes: readonly Lifetime[]): PlannedBuffers {
  const buffers: BufferPlan[] = [];
  const indexOf = new Map<number, number>();
  const placed: { life: Lifetime; column: number }[] = [];
  const columns = { tokens: 0, samples: 0 };
  for (const life of [...lifetimes].sort((a, b) => a.first - b.first)) {
    const { rows, width, id } = life.value;
    const living = placed
      .filter((p) => p.life.value.rows === rows && p.life.last >= life.first)
      .map((p) => ({ start: p.column, end: p.column + p.life.value.width }));
    const column = firstFit(living, width);
    placed.push({ life, column });
    columns[rows] = Math.max(columns[rows], align(column + width));
    let index = buffers.findIndex(
      (b) => b.rows === rows && b.width === width && b.column === column,
    );
    if (index < 0)
      index = buffers.push({ name: life.name, rows, width, column }) - 1;
    indexOf.set(id, index);
  }
  return {
    buffers,
    tokenColumns: columns.tokens,
    sampleColumns: columns.samples,
    indexOf,
  };
}

function align(column: number): number {
  return Math.ceil(column / ALIGNMENT) * ALIGNMENT;
}

/** Lowest aligned column where `width` columns are free. */
function firstFit(
  taken: { start: number; end: number }[],
  width: number,
): number {
  let column = 0;
  for (const { start, end } of taken.sort((a, b) => a.start - b.start)) {
    if (column + width <= start) break;
    column = Math.max(column, align(end));
  }
  return column;
}
