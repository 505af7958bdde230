import { setTimeout as sleep } from "node:timers/promises";
import { OctavoError } from "../../src/core/errors.js";
import { percentile } from "../serve/statistics.js";
import type { GrammarEngine, Stream } from "./grammar-engine.js";
import { RECORDS, slowGrammar } from "./grammars.js";

export interface DelayCase {
  streams: number;
  /** Whether what decodes meanwhile is constrained itself, by a grammar that is there. */
  constrained: boolean;
}

/** Seconds, by the clock of the thread that the tokens are delivered to. */
export interface DelayRound {
  /** The pool's first worker was in use: another was started for the grammar. */
  starts_worker: boolean;
  /** From asking for the grammar to having it. */
  compile_seconds: number;
  /** Median time between two tokens of a stream while nothing is compiled, and the longest. */
  step_seconds: number;
  longest_quiet_gap_seconds: number;
  /** The longest time between two tokens of any stream that overlaps the compilation. */
  longest_gap_seconds: number;
  /** By how much that is longer than a step, in steps. */
  delay_steps: number;
}

export interface DelayResult extends DelayCase {
  rounds: DelayRound[];
  max_delay_steps: number;
}

export interface DelayOptions {
  numIters: number;
  /** Of the slow grammar. */
  numProperties: number;
  seed: number;
  /** [inputLen] another each time. */
  makePrompt: () => Int32Array;
}

/** What decodes has come to its rhythm after so many tokens; so many at least tell what a step takes. */
const SETTLED = 4;
const QUIET = 16;
/** Of the request whose grammar is compiled. */
const ARRIVING_OUTPUT = 4;

/**
 * Streams decode; a request arrives whose grammar nobody has compiled yet. What its compilation does to their tokens: one
 * round in which the pool has to start another worker for it, then `numIters` with the workers there are.
 */
export async function measureDelay(
  engine: GrammarEngine,
  one: DelayCase,
  options: DelayOptions,
): Promise<DelayResult> {
  await engine.renewPool();
  const rounds: DelayRound[] = [];
  for (let i = 0; i <= options.numIters; i++)
    rounds.push(await measureRound(engine, one, options, i === 0));
  const max_delay_steps = Math.max(...rounds.map((r) => r.delay_steps));
  return { ...one, rounds, max_delay_steps };
}

async function measureRound(
  engine: GrammarEngine,
  one: DelayCase,
  options: DelayOptions,
  startsWorker: boolean,
): Promise<DelayRound> {
  const streams = await DecodingStreams.start(engine, one, options);
  // Its lease keeps the worker from compiling.
  const occupant = startsWorker ? await engine.acquire(RECORDS) : null;
  try {
    await streams.advance(SETTLED);
    const asked = performance.now();
    const lease = await engine.acquire(slowGrammar(options.numProperties));
    const compiled = performance.now();
    const { finished } = engine.submit({
      promptTokenIds: options.makePrompt(),
      outputLen: ARRIVING_OUTPUT,
      lease,
      seed: options.seed,
    });
    await streams.during(finished);
    await streams.advance(SETTLED);
    const quiet = performance.now();
    await streams.during(sleep(compiled - asked));
    await streams.advance(QUIET);
    const gaps = streams.gaps(quiet, performance.now());
    const step = percentile(gaps, 50);
    const longest = streams.gaps(asked, compiled).at(-1) ?? 0;
    return {
      starts_worker: startsWorker,
      compile_seconds: (compiled - asked) / 1e3,
      step_seconds: step / 1e3,
      longest_quiet_gap_seconds: (gaps.at(-1) ?? 0) / 1e3,
      longest_gap_seconds: longest / 1e3,
      delay_steps: Math.max(0, longest / step - 1),
    };
  } finally {
    occupant?.release();
    await streams.stop();
  }
}

/** Streams that decode until they are stopped, and when each of their tokens came. */
class DecodingStreams {
  /** [stream] milliseconds */
  private readonly times: number[][] = [];
  private readonly streams: Stream[] = [];
  /** Rejects when a stream ends before it is stopped. */
  private readonly broken: Promise<never>;
  private breakOff: (error: unknown) => void = () => undefined;
  private stopping = false;
  private waiting: (() => void) | null = null;

  private constructor() {
    this.broken = new Promise((_, reject) => {
      this.breakOff = reject;
    });
    // Also where nobody waits for it at that moment.
    this.broken.catch(() => undefined);
  }

  static async start(
    engine: GrammarEngine,
    { streams, constrained }: DelayCase,
    { makePrompt, seed }: DelayOptions,
  ): Promise<DecodingStreams> {
    const started = new DecodingStreams();
    for (let i = 0; i < streams; i++) {
      const lease = constrained ? await engine.acquire(RECORDS) : null;
      const times: number[] = [];
      const promptTokenIds = makePrompt();
      const stream = engine.submit({
        promptTokenIds,
        outputLen: engine.info.maxModelLen - promptTokenIds.length,
        lease,
        seed,
        onToken: () => {
          times.push(performance.now());
          started.waiting?.();
        },
      });
      started.times.push(times);
      started.streams.push(stream);
      stream.finished.then(({ numOutputTokens }) => {
        if (!started.stopping) started.breakOff(tooShort(numOutputTokens));
      }, started.breakOff);
    }
    return started;
  }

  /** Resolves after `count` more tokens of each stream. */
  async advance(count: number): Promise<void> {
    const wanted = this.times.map(({ length }) => length + count);
    const reached = new Promise<void>((resolve) => {
      this.waiting = () => {
        if (this.times.every((times, i) => times.length >= (wanted[i] ?? 0)))
          resolve();
      };
    });
    await this.during(reached);
    this.waiting = null;
  }

  /** What `promise` brings, unless a stream ends before. */
  during<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.broken]);
  }

  /** Milliseconds between two tokens of a stream, where some of it lies between `from` and `to`; ascending. */
  gaps(from: number, to: number): Float64Array {
    const found = this.times.flatMap((times) =>
      times.flatMap((time, i) => {
        const before = times[i - 1];
        if (before === undefined || before >= to || time <= from) return [];
        return [time - before];
      }),
    );
    return Float64Array.from(found).sort();
  }

  async stop(): Promise<void> {
    this.stopping = true;
    for (const stream of this.streams) stream.abort();
    await Promise.allSettled(this.streams.map(({ finished }) => finished));
  }
}

function tooShort(numOutputTokens: number): OctavoError {
  return new OctavoError(
    "invalid_config",
    `--max-model-len: a stream had ended after ${numOutputTokens} tokens, before the compilation that it was to last for; expected a longer one, or a shorter --compile-ms`,
    "max-model-len",
  );
}
