import { closeSync, openSync, readSync } from "node:fs";

/** In the names of all ops that find the range of a tensor's numbers when they run. */
const DYNAMIC = "DynamicQuantize";
const CHUNK = 1 << 20;

/**
 * Whether a graph rounds numbers by their range over the whole tensor, and so over a whole batch. The runtime does not tell
 * a graph's ops, but their names are in its file as they are; where the text is there for another reason, an input is alone
 * in its batch for nothing.
 */
export function hasDynamicRanges(modelFile: string): boolean {
  const chunk = Buffer.alloc(CHUNK + DYNAMIC.length);
  const descriptor = openSync(modelFile, "r");
  try {
    // The end of a chunk is the beginning of the next: the name may lie across.
    for (let kept = 0; ;) {
      const end = kept + readSync(descriptor, chunk, kept, CHUNK, null);
      if (end === kept) return false;
      if (chunk.subarray(0, end).includes(DYNAMIC)) return true;
      kept = Math.min(DYNAMIC.length - 1, end);
      chunk.copyWithin(0, end - kept, end);
    }
  } finally {
    closeSync(descriptor);
  }
}
