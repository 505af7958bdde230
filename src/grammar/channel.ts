/**
 * Shared memory between the engine's thread and one grammar worker. The engine writes commands into a ring and rings the
 * bell; the worker writes masks and counts up `done`. No messages, so that a mask costs microseconds and neither side needs
 * its event loop.
 *
 *   header   Int32 [8]
 *   tickets  Int32 [maxRows]          the last `fill` of each row: its ticket, or -ticket where nothing can follow
 *   ring     Int32 [RING_SIZE]        one writer (the engine), one reader (the worker)
 *   masks    Uint32 [maxRows * words]
 */
export const Header = {
  /** Changes when there is something to read, here or among the messages. The worker sleeps on it. */
  bell: 0,
  /** Changes with every mask, and when a worker has started. The engine sleeps on it. */
  done: 1,
  /** Counts the workers that have served this memory: one that starts knows no matchers. */
  generation: 2,
  /** Ints written and read since the beginning, modulo 2^32. */
  written: 3,
  read: 4,
  /** The last generation whose worker has ended, or was given up because a mask took it too long. */
  lost: 5,
} as const;

/** Commands: the number, then its ints. */
export const Command = {
  /** matcher, grammar */
  open: 1,
  /** matcher, count, then so many tokens */
  accept: 2,
  /** matcher, row, ticket, number of drafts, then the drafts: masks of 1 + drafts rows */
  fill: 3,
  /** matcher */
  close: 4,
} as const;

const HEADER_INTS = 8;
export const RING_SIZE = 1 << 14;
/** The most ints of a command. */
export const MAX_COMMAND = 1 << 11;

export interface ChannelSizes {
  /** Most rows that a step samples. */
  maxRows: number;
  /** ceil(vocabSize / 32) */
  words: number;
}

export interface Channel {
  readonly header: Int32Array;
  readonly tickets: Int32Array;
  readonly ring: Int32Array;
  readonly masks: Uint32Array;
}

export function createChannelMemory({
  maxRows,
  words,
}: ChannelSizes): SharedArrayBuffer {
  const ints = HEADER_INTS + maxRows + RING_SIZE + maxRows * words;
  return new SharedArrayBuffer(ints * Int32Array.BYTES_PER_ELEMENT);
}

export function viewChannel(
  memory: SharedArrayBuffer,
  { maxRows, words }: ChannelSizes,
): Channel {
  let offset = 0;
  const ints = (length: number): Int32Array => {
    const view = new Int32Array(memory, offset, length);
    offset += view.byteLength;
    return view;
  };
  const header = ints(HEADER_INTS);
  const tickets = ints(maxRows);
  const ring = ints(RING_SIZE);
  const masks = new Uint32Array(memory, offset, maxRows * words);
  return { header, tickets, ring, masks };
}

/** Wakes whoever sleeps on `field`. */
export function bump(header: Int32Array, field: number): void {
  Atomics.add(header, field, 1);
  Atomics.notify(header, field);
}
