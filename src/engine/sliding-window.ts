import { Opcode } from "../program/program.js";
import type { Program } from "../program/program.js";

/** Index of slidingWindow among the arguments of Opcode.attention. */
const WINDOW_ARGUMENT = 7;

/**
 * How many tokens a position can see, itself included, when every attention layer has a window: the widest of them.
 * Null when some layer sees everything; blocks behind the window must then be kept.
 */
export function slidingWindowOf({
  code,
}: Pick<Program, "code">): number | null {
  let widest: number | null = null;
  for (let at = 0; at < code.length; at += 2 + (code[at + 1] as number)) {
    if (code[at] !== Opcode.attention) continue;
    const window = code[at + 2 + WINDOW_ARGUMENT] as number;
    if (window === 0) return null;
    widest = Math.max(widest ?? 0, window);
  }
  return widest;
}
