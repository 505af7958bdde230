import type {
  GrammarRef,
  MaskSource,
  TokenMatcher,
} from "../core/constraint.js";
import {
  bump,
  Command,
  Header,
  MAX_COMMAND,
  RING_SIZE,
  viewChannel,
} from "./channel.js";
import type { Channel, ChannelSizes } from "./channel.js";

/** Of a worker that died: it is back, its grammars compiled again, in seconds. */
const DEFAULT_TIMEOUT_MS = 20_000;
/** Of a mask, which takes microseconds, of some grammars 100 ms: the whole batch waits for it. */
const DEFAULT_MASK_TIMEOUT_MS = 1_000;

/**
 * The engine's end of the grammar workers: synchronous, on the engine's own thread. A matcher lives in the worker that
 * compiled its grammar; should that die, its successor in the same memory gets the matcher's tokens again. A worker whose
 * mask takes too long is given up: the matcher that asked gets none, the others wait for the successor.
 */
export class MaskClient implements MaskSource {
  private readonly channels = new Map<
    number,
    { channel: Channel; words: number }
  >();
  private lastMatcher = 0;

  constructor(
    private readonly timeoutMs = DEFAULT_TIMEOUT_MS,
    private readonly maskTimeoutMs = DEFAULT_MASK_TIMEOUT_MS,
  ) {}

  attach(index: number, memory: SharedArrayBuffer, sizes: ChannelSizes): void {
    const channel = viewChannel(memory, sizes);
    this.channels.set(index, { channel, words: sizes.words });
  }

  open({ channel, grammar }: GrammarRef): TokenMatcher {
    const found = this.channels.get(channel);
    if (!found) return NOWHERE;
    this.lastMatcher = (this.lastMatcher + 1) | 0;
    return new RemoteMatcher(
      found.channel,
      this.lastMatcher,
      grammar,
      found.words,
      this.timeoutMs,
      this.maskTimeoutMs,
    );
  }
}

const NOWHERE: TokenMatcher = {
  begin: () => undefined,
  finish: () => undefined,
  close: () => undefined,
};

/** Of all channels: a ticket is never mistaken for one of a worker before. */
let lastTicket = 0;

class RemoteMatcher implements TokenMatcher {
  /** Tokens that the worker of `generation` has been sent. */
  private numSent = 0;
  private generation = -1;
  /** What was asked for last, to be asked again of a successor. */
  private tokens: Int32Array = new Int32Array(0);
  private from = 0;
  private to = 0;
  private drafts: Int32Array = this.tokens;
  private firstRow = 0;
  private ticket = 0;

  constructor(
    private readonly channel: Channel,
    private readonly id: number,
    private readonly grammar: number,
    private readonly words: number,
    private readonly timeoutMs: number,
    private readonly maskTimeoutMs: number,
  ) {}

  begin(
    tokens: Int32Array,
    from: number,
    to: number,
    drafts: Int32Array,
    row: number,
  ): void {
    this.tokens = tokens;
    this.from = from;
    this.to = to;
    this.drafts = drafts;
    this.firstRow = row;
    this.ask();
  }

  finish(row: number): Uint32Array | null | "late" | undefined {
    const { header, tickets, masks } = this.channel;
    const deadline = performance.now() + this.timeoutMs;
    let maskDeadline = performance.now() + this.maskTimeoutMs;
    for (;;) {
      const done = Atomics.load(header, Header.done);
      const ticket = Atomics.load(tickets, row);
      const current = this.generation === this.currentGeneration();
      if (ticket === this.ticket)
        return masks.subarray(row * this.words, (row + 1) * this.words);
      if (ticket === -this.ticket && current) return null;
      if (!current && this.currentGeneration() > 0) {
        this.ask();
        maskDeadline = performance.now() + this.maskTimeoutMs;
        continue;
      }
      const serves = current && !this.isLost();
      const left =
        (serves ? Math.min(deadline, maskDeadline) : deadline) -
        performance.now();
      if (left <= 0) {
        if (!serves) return undefined;
        Atomics.store(header, Header.lost, this.generation);
        return "late";
      }
      Atomics.wait(header, Header.done, done, left);
    }
  }

  close(): void {
    if (this.generation !== this.currentGeneration()) return;
    this.send([Command.close, this.id]);
    bump(this.channel.header, Header.bell);
  }

  private isLost(): boolean {
    return Atomics.load(this.channel.header, Header.lost) === this.generation;
  }

  private currentGeneration(): number {
    return Atomics.load(this.channel.header, Header.generation);
  }

  private ask(): void {
    const generation = this.currentGeneration();
    if (generation !== this.generation) {
      this.generation = generation;
      this.numSent = 0;
      this.send([Command.open, this.id, this.grammar]);
    }
    const { tokens, from, to, drafts } = this;
    while (from + this.numSent < to) {
      const begin = from + this.numSent;
      const count = Math.min(to - begin, MAX_COMMAND - 3);
      this.send([Command.accept, this.id, count], tokens, begin, count);
      this.numSent += count;
    }
    lastTicket = (lastTicket % 0x7ffffffe) + 1;
    this.ticket = lastTicket;
    const fill = [Command.fill, this.id, this.firstRow, this.ticket];
    this.send([...fill, drafts.length], drafts, 0, drafts.length);
    bump(this.channel.header, Header.bell);
  }

  /** Appends a command, `ints` and then `count` of `more`, to the ring; waits for room. */
  private send(
    ints: readonly number[],
    more: Int32Array = this.drafts,
    first = 0,
    count = 0,
  ): void {
    const { header, ring } = this.channel;
    const written = Atomics.load(header, Header.written);
    const length = ints.length + count;
    const deadline = performance.now() + this.timeoutMs;
    for (;;) {
      const done = Atomics.load(header, Header.done);
      const used = (written - Atomics.load(header, Header.read)) | 0;
      if (used + length <= RING_SIZE) break;
      const left = deadline - performance.now();
      // Nobody reads: what is lost here is sent again to whoever comes next.
      if (left <= 0) return;
      bump(header, Header.bell);
      Atomics.wait(header, Header.done, done, Math.min(left, 100));
    }
    let at = written;
    for (const int of ints) ring[at++ & (RING_SIZE - 1)] = int;
    for (let k = 0; k < count; k++)
      ring[at++ & (RING_SIZE - 1)] = more[first + k] as number;
    Atomics.store(header, Header.written, at | 0);
  }
}
