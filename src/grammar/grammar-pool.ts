import type { GrammarRef } from "../core/constraint.js";
import { OctavoError } from "../core/errors.js";
import type { ChannelSizes } from "./channel.js";
import { refused } from "./grammar-error.js";
import { PoolWorker } from "./pool-worker.js";
import type { HeldGrammar } from "./pool-worker.js";
import { paramOf } from "./spec.js";
import type { GrammarSpec } from "./spec.js";
import type { VocabularyData } from "./vocabulary.js";

export interface GrammarPoolOptions {
  /** Asked for once, when the first worker starts. */
  vocabulary: () => VocabularyData;
  /** ceil(vocabSize / 32) */
  words: number;
  /** Whether the model has a token that ends its output. */
  canEnd: boolean;
  /** Most rows that a step samples. */
  maxRows: number;
  /** Tells the engine of a worker's memory, before any of its grammars is used. */
  attach: (
    channel: number,
    memory: SharedArrayBuffer,
    sizes: ChannelSizes,
  ) => void;
  /** Default 4. */
  maxWorkers?: number;
  /** Of one compilation. Default 20,000. */
  timeoutMs?: number;
  /** The compiled grammar-worker.js; by default the one beside this file. */
  workerUrl?: URL;
}

/** A compiled grammar, held for one request until it is released. */
export interface GrammarLease {
  readonly ref: GrammarRef;
  /** Idempotent. */
  release(): void;
}

/** Largest grammar, as JSON. */
const MAX_SPEC_CHARS = 1 << 18;
const MAX_WAITING = 256;
/** By the clock, at a worker's lower priority: of a busy machine it may get a quarter of a core. */
const COMPILE_TIMEOUT_MS = 20_000;

interface Waiting {
  key: string;
  spec: GrammarSpec;
  resolve: (held: HeldGrammar) => void;
  reject: (error: unknown) => void;
}

/**
 * A few workers that compile grammars and follow requests through them. Compiling blocks a worker, so a worker compiles
 * only while no request under way uses it: no token ever waits for somebody else's grammar. A request whose grammar a
 * worker holds goes there at once; others wait for a worker that is free, in order, and one worker then takes no new
 * requests until it has compiled.
 */
export class GrammarPool {
  private readonly workers: PoolWorker[] = [];
  private readonly waiting: Waiting[] = [];
  /** By key: who asks for the same grammar meanwhile waits for it too. */
  private readonly underWay = new Map<string, Promise<HeldGrammar>>();
  private readonly sizes: ChannelSizes;
  private vocabulary: VocabularyData | null = null;
  private closed = false;

  constructor(private readonly options: GrammarPoolOptions) {
    const { maxRows, words } = options;
    this.sizes = { maxRows, words };
  }

  /** Requests that hold a grammar. */
  get numLeases(): number {
    return this.workers.reduce((sum, { numLeases }) => sum + numLeases, 0);
  }

  get numWaiting(): number {
    return this.waiting.length;
  }

  /**
   * The grammar compiled, or found. Rejects with 400 for one that can't be had (`param` names the place), queue_full when
   * too many wait.
   */
  async acquire(spec: GrammarSpec): Promise<GrammarLease> {
    if (!this.options.canEnd)
      throw new OctavoError(
        "unsupported",
        "This model names no end-of-sequence token (eos_token_id), so constrained output could not end.",
        paramOf(spec),
      );
    const key = JSON.stringify(spec);
    if (key.length > MAX_SPEC_CHARS)
      throw refused(
        paramOf(spec),
        `expected at most ${MAX_SPEC_CHARS} characters of JSON, got ${key.length}`,
      );
    for (;;) {
      const found = this.find(key);
      if (found) {
        found.numLeases++;
        return this.lease(found);
      }
      const underWay = this.underWay.get(key);
      if (!underWay) break;
      await underWay;
    }
    if (this.waiting.length >= MAX_WAITING)
      throw new OctavoError(
        "queue_full",
        `${MAX_WAITING} grammars wait to be compiled. Retry later.`,
      );
    const compiled = new Promise<HeldGrammar>((resolve, reject) => {
      this.waiting.push({ key, spec, resolve, reject });
      this.dispatch();
    });
    this.underWay.set(key, compiled);
    try {
      return this.lease(await compiled);
    } finally {
      if (this.underWay.get(key) === compiled) this.underWay.delete(key);
    }
  }

  /**
   * Starts the first worker before a request needs it, and has it practise; resolves when it has. Code that V8 finds hot
   * while grammars are compiled it compiles again, in threads at the usual priority: 150 to 250 ms of processor time once
   * in a process, best spent before others decode.
   */
  async warmUp(): Promise<void> {
    if (!this.options.canEnd || this.closed || this.workers.length > 0) return;
    await this.addWorker().warmUp();
  }

  /** Ends the workers. What waits is rejected. */
  async close(): Promise<void> {
    this.closed = true;
    const error = new OctavoError(
      "shutting_down",
      "The server is shutting down.",
    );
    for (const { reject } of this.waiting.splice(0)) reject(error);
    await Promise.all(this.workers.map((worker) => worker.close()));
  }

  private find(key: string): HeldGrammar | null {
    for (const worker of this.workers) {
      const held = worker.grammars.get(key);
      if (held && !worker.draining && !worker.busy) return held;
    }
    return null;
  }

  /** For a request that is counted already. */
  private lease(held: HeldGrammar): GrammarLease {
    const worker = this.workers[held.ref.channel] as PoolWorker;
    // The order of the map is the order of use.
    worker.grammars.delete(held.key);
    worker.grammars.set(held.key, held);
    let released = false;
    return {
      ref: held.ref,
      release: () => {
        if (released) return;
        released = true;
        held.numLeases--;
        this.dispatch();
      },
    };
  }

  /** Gives what waits to workers that are free; where there are none, sees to it that one becomes free. */
  private dispatch(): void {
    while (this.waiting.length > 0 && !this.closed) {
      const worker = this.freeWorker();
      if (!worker) {
        this.drainOne();
        return;
      }
      // Once its grammars are in use it is not free any more: it takes its share of what waits now.
      const idle = this.numFree() + this.maxWorkers - this.workers.length;
      const share = Math.ceil(this.waiting.length / Math.max(1, idle));
      void this.compileAll(worker, this.waiting.splice(0, share));
    }
  }

  private get maxWorkers(): number {
    return this.options.maxWorkers ?? 4;
  }

  private numFree(): number {
    return this.workers.filter(isFree).length;
  }

  private freeWorker(): PoolWorker | null {
    const free = this.workers.find(isFree);
    if (free) return free;
    return this.workers.length < this.maxWorkers ? this.addWorker() : null;
  }

  private addWorker(): PoolWorker {
    const { attach, timeoutMs, workerUrl } = this.options;
    this.vocabulary ??= this.options.vocabulary();
    const worker = new PoolWorker(
      this.workers.length,
      this.sizes,
      this.vocabulary,
      workerUrl ?? new URL("./grammar-worker.js", import.meta.url),
      timeoutMs ?? COMPILE_TIMEOUT_MS,
    );
    attach(worker.index, worker.memory, this.sizes);
    this.workers.push(worker);
    return worker;
  }

  /** The worker with the fewest requests takes no more, unless one is on its way already. */
  private drainOne(): void {
    if (this.workers.some(({ draining, busy }) => draining || busy)) return;
    const [least] = [...this.workers].sort((a, b) => a.numLeases - b.numLeases);
    if (least) least.draining = true;
  }

  private async compileAll(
    worker: PoolWorker,
    jobs: readonly Waiting[],
  ): Promise<void> {
    worker.busy = true;
    const done: (() => void)[] = [];
    for (const { key, spec, resolve, reject } of jobs) {
      try {
        const known = worker.grammars.get(key);
        if (known) known.numLeases++;
        const held = known ?? (await worker.compile(key, spec));
        done.push(() => resolve(held));
      } catch (error) {
        reject(error);
      }
    }
    // A grammar that could not be had may have taken the thread with it, on which nobody is to wait.
    await worker.settled();
    worker.busy = worker.draining = false;
    for (const tell of done) tell();
    this.dispatch();
  }
}

function isFree({ busy, numLeases }: PoolWorker): boolean {
  return !busy && numLeases === 0;
}
