import { Worker } from "node:worker_threads";
import { OctavoError } from "../core/errors.js";
import type { GrammarRef } from "../core/constraint.js";
import { bump, createChannelMemory, Header, viewChannel } from "./channel.js";
import type { ChannelSizes } from "./channel.js";
import type {
  FromGrammarWorker,
  GrammarWorkerData,
  ToGrammarWorker,
} from "./messages.js";
import { refused } from "./grammar-error.js";
import { paramOf } from "./spec.js";
import type { GrammarSpec } from "./spec.js";
import type { VocabularyData } from "./vocabulary.js";

/** A grammar that a worker holds. */
export interface HeldGrammar {
  readonly key: string;
  readonly spec: GrammarSpec;
  readonly ref: GrammarRef;
  /** Requests under way that use it. */
  numLeases: number;
}

/** Grammars that nobody uses and a worker keeps for the next one who asks. */
const MAX_IDLE_GRAMMARS = 32;

/** How often a thread is asked whether the engine has given it up. */
const WATCH_MS = 100;

let lastGrammar = 0;

interface Job {
  grammar: number;
  spec: GrammarSpec;
  resolve: (error: OctavoError | null) => void;
  timer: NodeJS.Timeout;
}

/**
 * One place of the pool: its shared memory, and the thread that serves it. A thread that dies is followed by another in
 * the same memory, with the grammars of the requests under way.
 */
export class PoolWorker {
  readonly memory: SharedArrayBuffer;
  readonly grammars = new Map<string, HeldGrammar>();
  /** Takes no new request, so that it comes to compile. */
  draining = false;
  /** Being used for compiling by the pool. */
  busy = false;
  private readonly header: Int32Array;
  private thread: Worker | null = null;
  private job: Job | null = null;
  /** Resolves when the thread, which has been told to end, has ended. */
  private ending: Promise<void> | null = null;
  private onExit: () => void = () => undefined;
  /** Resolves when the thread, which has been started, serves its channel (or has ended). */
  private starting: Promise<void> | null = null;
  private onReady: () => void = () => undefined;
  private onWarm: () => void = () => undefined;
  /** The last generation that is known to be lost. */
  private lastLost = 0;
  private closed = false;

  constructor(
    readonly index: number,
    private readonly sizes: ChannelSizes,
    private readonly vocabulary: VocabularyData,
    private readonly entry: URL,
    private readonly timeoutMs: number,
  ) {
    this.memory = createChannelMemory(sizes);
    this.header = viewChannel(this.memory, sizes).header;
  }

  get numLeases(): number {
    let count = 0;
    for (const { numLeases } of this.grammars.values()) count += numLeases;
    return count;
  }

  /** Starts a thread that has practised once this resolves, or has ended, or has something to do. */
  warmUp(): Promise<void> {
    const warm = new Promise<void>((resolve) => {
      this.onWarm = resolve;
    });
    this.start(true);
    return warm;
  }

  /** Starts its thread where there is none. */
  private start(warmUp = false): void {
    if (this.thread || this.closed) return;
    const restore = [...this.grammars.values()].map(({ spec, ref }) => ({
      grammar: ref.grammar,
      spec,
    }));
    const data: GrammarWorkerData = {
      memory: this.memory,
      sizes: this.sizes,
      vocabulary: this.vocabulary,
      restore,
      practiseWhile: warmUp ? Atomics.load(this.header, Header.bell) : null,
    };
    const thread = new Worker(this.entry, {
      workerData: data,
      name: `octavo-grammar-${this.index}`,
    });
    this.thread = thread;
    const watch = setInterval(() => this.endIfLost(), WATCH_MS).unref();
    this.starting = new Promise((resolve) => {
      this.onReady = resolve;
    });
    thread.unref();
    thread.on("message", (message: FromGrammarWorker) => this.receive(message));
    thread.on("error", (error) => this.settle(failure(error.message)));
    thread.on("exit", () => {
      clearInterval(watch);
      this.replace();
    });
  }

  /** Compiles for a request, which then holds the grammar; no other uses this worker meanwhile. Throws 400 for a grammar that can't be had. */
  async compile(key: string, spec: GrammarSpec): Promise<HeldGrammar> {
    await this.ending;
    this.start();
    lastGrammar++;
    const grammar = lastGrammar;
    const error = await new Promise<OctavoError | null>((resolve) => {
      const timer = setTimeout(() => this.giveUp(spec), this.timeoutMs);
      this.job = { grammar, spec, resolve, timer };
      this.post({ type: "compile", grammar, spec });
    });
    if (error) throw error;
    const { eosTokenIds: endTokenIds } = this.vocabulary;
    const ref = { channel: this.index, grammar, endTokenIds };
    const held: HeldGrammar = { key, spec, ref, numLeases: 1 };
    this.grammars.set(key, held);
    this.forgetIdle();
    return held;
  }

  /** Resolves when a thread serves the grammars in use: at once but after a compilation that took the thread with it. */
  async settled(): Promise<void> {
    await this.ending;
    if (this.thread) await this.starting;
  }

  /** Ends the thread; resolves when it has. */
  async close(): Promise<void> {
    this.closed = true;
    this.settle(
      new OctavoError("shutting_down", "The server is shutting down."),
    );
    await this.thread?.terminate();
  }

  private post(message: ToGrammarWorker): void {
    this.thread?.postMessage(message);
    bump(this.header, Header.bell);
  }

  private receive(message: FromGrammarWorker): void {
    switch (message.type) {
      case "compiled":
        this.settle(null);
        break;
      case "refused": {
        const { code, message: text, param } = message.error;
        this.settle(new OctavoError(code, text, param));
        break;
      }
      case "aborted":
        this.expectExit();
        if (this.job && message.grammar === this.job.grammar)
          this.settle(refused(paramOf(this.job.spec), message.reason));
        break;
      case "ready":
        this.onReady();
        break;
      case "warm":
        this.onWarm();
        break;
    }
  }

  private giveUp(spec: GrammarSpec): void {
    this.settle(
      refused(
        paramOf(spec),
        `it is too complex: compiling takes more than ${this.timeoutMs / 1000} s. Long bounds (maxLength, maxItems, {m,n}) cost most`,
      ),
    );
    // Nobody else is served by it. A thread inside of WebAssembly listens to nothing.
    this.expectExit();
    void this.thread?.terminate();
  }

  /** The engine waits in vain for a mask: another thread makes those of the others. */
  private endIfLost(): void {
    const lost = Atomics.load(this.header, Header.lost);
    if (lost === this.lastLost) return;
    this.lastLost = lost;
    this.expectExit();
    void this.thread?.terminate();
  }

  private expectExit(): void {
    this.ending ??= new Promise((resolve) => {
      this.onExit = resolve;
    });
  }

  private settle(error: OctavoError | null): void {
    const { job } = this;
    if (!job) return;
    this.job = null;
    clearTimeout(job.timer);
    job.resolve(error);
  }

  /** The thread has ended. Requests under way wait for another one. */
  private replace(): void {
    this.thread = null;
    this.ending = null;
    this.lastLost = Atomics.load(this.header, Header.generation);
    Atomics.store(this.header, Header.lost, this.lastLost);
    // Whoever waits for its masks now waits for its successor.
    bump(this.header, Header.done);
    this.onReady();
    this.onWarm();
    this.onExit();
    if (this.job)
      this.settle(failure("The grammar worker ended unexpectedly."));
    for (const [key, { numLeases }] of this.grammars)
      if (numLeases === 0) this.grammars.delete(key);
    if (this.grammars.size > 0) this.start();
  }

  /** Drops the grammars that have been unused for longest; a Map keeps the order in which they were used. */
  private forgetIdle(): void {
    const idle = [...this.grammars.values()].filter(
      ({ numLeases }) => numLeases === 0,
    );
    for (const { key, ref } of idle.slice(0, -MAX_IDLE_GRAMMARS)) {
      this.grammars.delete(key);
      this.post({ type: "forget", grammar: ref.grammar });
    }
  }
}

function failure(message: string): OctavoError {
  return new OctavoError("internal_error", message);
}
