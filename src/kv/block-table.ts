import type { BlockIds, Sequence } from "../core/sequence.js";

/**
 * The blocks of one sequence, in order of position: ids[i] holds positions [16 i, 16 i + 16).
 *
 *   ids  | 0 0 0 | cached, shared with others | own, being filled |
 *        0    numReleased              numCommitted              length
 *
 * Entries below numReleased lie wholly before the sliding window; they hold no reference and read 0.
 * Blocks below numCommitted are named by the prefix cache or never will be.
 */
export class BlockTable implements BlockIds {
  /** Int32, capacity doubles. */
  ids = new Int32Array(4);
  length = 0;
  numReleased = 0;
  numCommitted = 0;
  /** Cached block that the next committed one continues, and the entry it then had; -1 and 0: the root. */
  parentBlock = -1;
  parentEntry = 0;
  /** The parent is no longer cached: what follows could not be found, so it is not committed. */
  chainBroken = false;

  push(block: number): void {
    if (this.length === this.ids.length) {
      const grown = new Int32Array(this.ids.length * 2);
      grown.set(this.ids);
      this.ids = grown;
    }
    this.ids[this.length++] = block;
  }

  /** Takes the last block out; it must not be committed. */
  pop(): number {
    return this.ids[--this.length] as number;
  }

  block(i: number): number {
    return this.ids[i] as number;
  }

  clear(): void {
    this.length = 0;
    this.numReleased = 0;
    this.numCommitted = 0;
    this.parentBlock = -1;
    this.parentEntry = 0;
    this.chainBroken = false;
  }
}

/** Sequences of the engine are made with a BlockTable; core knows only the part that the runner reads. */
export function blockTableOf(sequence: Sequence): BlockTable {
  return sequence.blockTable as BlockTable;
}
