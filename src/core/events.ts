import type { FinishReason } from "./request.js";

/** token: a sampled token. promptLogprob: one prompt position. finish: an end without a token (abort, error). */
export const EventKind = { token: 0, promptLogprob: 1, finish: 2 } as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** One event as a reader sees it; the object and its arrays are reused for the next one. */
export interface TokenEvent {
  handle: number;
  choice: number;
  kind: EventKind;
  token: number;
  /** Set on the last event of a choice. */
  finish: FinishReason;
  /** The stop token that ended it when it is to be reported (not an eos token), else -1. */
  stopTokenId: number;
  /** Of `token` in the raw distribution; NaN where none was asked for. */
  logprob: number;
  /** 1 is the most likely; 0 where none was asked for. */
  rank: number;
  /** Alternatives in topIds and topLogprobs; -1: no log-probabilities. */
  numTop: number;
  topIds: Int32Array;
  topLogprobs: Float32Array;
}

const INTS_PER_EVENT = 8;

/**
 * Events of one step in two flat arrays, so that they cross the thread boundary as two transfers:
 *   ints    handle, choice, kind, token, finish, stopTokenId, rank, numTop, then numTop ids
 *   floats  logprob, then numTop log-probabilities        (both only when numTop >= 0)
 */
export class TokenEvents {
  private ints = new Int32Array(1024);
  private floats = new Float32Array(256);
  private numInts = 0;
  private numFloats = 0;
  count = 0;

  clear(): void {
    this.numInts = 0;
    this.numFloats = 0;
    this.count = 0;
  }

  push(
    handle: number,
    choice: number,
    kind: EventKind,
    token: number,
    finish: FinishReason,
    stopTokenId: number,
  ): void {
    this.header(handle, choice, kind, token, finish, stopTokenId, 0, -1);
  }

  /** `top*` hold the alternatives from `offset` on. */
  pushWithLogprobs(
    handle: number,
    choice: number,
    kind: EventKind,
    token: number,
    finish: FinishReason,
    stopTokenId: number,
    logprob: number,
    rank: number,
    numTop: number,
    topIds: Int32Array,
    topLogprobs: Float32Array,
    offset: number,
  ): void {
    this.header(handle, choice, kind, token, finish, stopTokenId, rank, numTop);
    this.floats[this.numFloats++] = logprob;
    for (let i = 0; i < numTop; i++) {
      this.ints[this.numInts++] = topIds[offset + i] as number;
      this.floats[this.numFloats++] = topLogprobs[offset + i] as number;
    }
  }

  private header(
    handle: number,
    choice: number,
    kind: EventKind,
    token: number,
    finish: FinishReason,
    stopTokenId: number,
    rank: number,
    numTop: number,
  ): void {
    const needed = INTS_PER_EVENT + Math.max(0, numTop);
    if (this.numInts + needed > this.ints.length)
      this.ints = grow(this.ints, this.numInts + needed);
    if (this.numFloats + needed > this.floats.length)
      this.floats = grow(this.floats, this.numFloats + needed);
    const { ints } = this;
    let at = this.numInts;
    ints[at++] = handle;
    ints[at++] = choice;
    ints[at++] = kind;
    ints[at++] = token;
    ints[at++] = finish;
    ints[at++] = stopTokenId;
    ints[at++] = rank;
    ints[at++] = numTop;
    this.numInts = at;
    this.count++;
  }

  /** Copies sized to the content, to be transferred. */
  toMessage(): EventArrays {
    return {
      count: this.count,
      ints: this.ints.slice(0, this.numInts),
      floats: this.floats.slice(0, this.numFloats),
    };
  }
}

export interface EventArrays {
  count: number;
  ints: Int32Array;
  floats: Float32Array;
}

function grow<T extends Int32Array | Float32Array>(
  array: T,
  needed: number,
): T {
  const grown = new (array.constructor as new (length: number) => T)(
    Math.max(array.length * 2, needed),
  );
  grown.set(array);
  return grown;
}

/** Calls `visit` for each event, in order. The event object is reused: copy what outlives the call. */
export function readEvents(
  { count, ints, floats }: EventArrays,
  visit: (event: TokenEvent) => void,
): void {
  const event: TokenEvent = {
    handle: 0,
    choice: 0,
    kind: EventKind.token,
    token: 0,
    finish: 0,
    stopTokenId: -1,
    logprob: NaN,
    rank: 0,
    numTop: -1,
    topIds: ints,
    topLogprobs: floats,
  };
  let int = 0;
  let float = 0;
  for (let i = 0; i < count; i++) {
    event.handle = ints[int] as number;
    event.choice = ints[int + 1] as number;
    event.kind = ints[int + 2] as EventKind;
    event.token = ints[int + 3] as number;
    event.finish = ints[int + 4] as FinishReason;
    event.stopTokenId = ints[int + 5] as number;
    event.rank = ints[int + 6] as number;
    event.numTop = ints[int + 7] as number;
    int += INTS_PER_EVENT;
    event.logprob = NaN;
    if (event.numTop >= 0) {
      event.logprob = floats[float++] as number;
      event.topIds = ints.subarray(int, int + event.numTop);
      event.topLogprobs = floats.subarray(float, float + event.numTop);
      int += event.numTop;
      float += event.numTop;
    }
    visit(event);
  }
}
