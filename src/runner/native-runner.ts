import type { ScheduledBatch } from "../core/batch.js";
import { assert, OctavoError } from "../core/errors.js";
import type { ErrorCode } from "../core/errors.js";
import { BLOCK_SIZE } from "../core/config.js";
import type { NativeRunnerHandle, RunnerMemory, RunnerSpec } from "./addon.js";
import { HistoryTracker } from "./history-tracker.js";
import { packBatch, setMask } from "./pack.js";
import type { PackSizes } from "./pack.js";
import type {
  ModelRunner,
  RunnerLimits,
  RunnerSeconds,
  StepOutput,
} from "./runner.js";
import { slotOf, Timing, viewArena } from "./step-arena.js";
import type { StepArena } from "./step-arena.js";

const ERROR_CODES: Record<string, ErrorCode> = {
  ERR_OCTAVO_STATE: "internal_error",
  ERR_OCTAVO_ARGUMENT: "internal_error",
  ERR_OCTAVO_DEVICE: "device_error",
  ERR_OCTAVO_MEMORY: "out_of_memory",
  ERR_OCTAVO_FILE: "invalid_model",
};

/** The OctavoError for what the addon threw; its message is kept. Anything without a native code is returned as it is. */
export function fromNativeError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof OctavoError) return error;
  const { code } = error as NodeJS.ErrnoException;
  const known = code === undefined ? undefined : ERROR_CODES[code];
  return known
    ? new OctavoError(known, error.message, null, { cause: error })
    : error;
}

/** Runs `body`, and turns the addon's errors into OctavoErrors. */
export function translated<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw fromNativeError(error);
  }
}

/**
 * The model on a device. Two arenas: while one computes, the other is packed.
 *
 *   launch   packs and starts the next slot        slots are used in turn: 0 1 0 1 ...
 *   collect  waits for the oldest launch           its output lies in the slot until that is launched again
 */
export class NativeRunner implements ModelRunner {
  readonly limits: RunnerLimits;
  readonly memory: RunnerMemory;
  readonly seconds: RunnerSeconds = {
    pack: 0,
    launch: 0,
    collect: 0,
    compute: 0,
  };
  private readonly arenas: [StepArena, StepArena];
  private readonly outputs: [StepOutput, StepOutput];
  private readonly packSizes: PackSizes;
  private readonly history: HistoryTracker;
  private numLaunched = 0;
  private numCollected = 0;

  /** Takes over `handle`, which has been loaded. */
  constructor(
    private readonly handle: NativeRunnerHandle,
    spec: RunnerSpec,
    memory: RunnerMemory,
  ) {
    const { sizes, program } = spec;
    this.memory = memory;
    this.limits = {
      maxNumTokens: sizes.maxNumTokens,
      maxNumSeqs: sizes.maxNumSeqs,
      maxNumSamples: sizes.maxNumSamples,
      maxModelLen: sizes.maxModelLen,
      numBlocks: sizes.numBlocks,
      vocabSize: program.vocabSize,
    };
    this.packSizes = {
      maxBlocksPerSeq: sizes.maxBlocksPerSeq,
      blockSize: BLOCK_SIZE,
      vocabSize: program.vocabSize,
    };
    this.arenas = translated(() => [
      viewArena(handle.arena(0), handle.layout),
      viewArena(handle.arena(1), handle.layout),
    ]);
    this.outputs = [outputOf(this.arenas[0]), outputOf(this.arenas[1])];
    this.history = new HistoryTracker(sizes.maxNumSeqs);
  }

  /** Makes and loads the runner; blocks while the weights are read. Throws invalid_model, out_of_memory, device_error. */
  static load(
    Runner: new (spec: RunnerSpec) => NativeRunnerHandle,
    spec: RunnerSpec,
    progress?: (doneBytes: number, totalBytes: number) => void,
  ): NativeRunner {
    return translated(() => {
      const handle = new Runner(spec);
      try {
        return new NativeRunner(handle, spec, handle.load(progress));
      } catch (error) {
        handle.close();
        throw error;
      }
    });
  }

  /** Logits of the last collected launch, [numSamples, vocabSize], when the runner was made with keepLogits. */
  get logits(): Float32Array | undefined {
    return this.arenas[slotOf(this.numCollected - 1)].logits;
  }

  launch(batch: ScheduledBatch, awaited = false): void {
    assert(
      this.numLaunched - this.numCollected < 2,
      "at most two launches are uncollected",
    );
    const slot = slotOf(this.numLaunched);
    const begin = performance.now();
    packBatch(this.arenas[slot], batch, this.packSizes);
    const packed = performance.now();
    try {
      this.sendHistories(slot, batch);
      this.handle.launch(
        slot,
        batch.numTokens,
        batch.numSeqs,
        batch.numSamples,
        batch.numConstrained > 0,
        awaited,
      );
    } catch (error) {
      throw fromNativeError(error);
    }
    this.outputs[slot].numSamples = batch.numSamples;
    this.numLaunched++;
    this.seconds.pack = (packed - begin) / 1000;
    this.seconds.launch = (performance.now() - packed) / 1000;
  }

  setMask(row: number, mask: Uint32Array): void {
    setMask(this.arenas[slotOf(this.numCollected)], row, mask);
  }

  sample(): void {
    translated(() => this.handle.sample(slotOf(this.numCollected)));
  }

  collect(): StepOutput {
    assert(
      this.numCollected < this.numLaunched,
      "a launch is there to be collected",
    );
    const slot = slotOf(this.numCollected++);
    const begin = performance.now();
    try {
      this.handle.collect(slot);
    } catch (error) {
      throw fromNativeError(error);
    }
    this.seconds.collect = (performance.now() - begin) / 1000;
    this.seconds.compute = computeSeconds(this.outputs[slot].timings);
    return this.outputs[slot];
  }

  close(): void {
    this.handle.close();
  }

  private sendHistories(slot: 0 | 1, batch: ScheduledBatch): void {
    for (let i = 0; i < batch.numSeqs; i++) {
      const sequence = batch.sequence(i);
      const start = batch.start[i] as number;
      if (this.history.advance(sequence, start, batch.count[i] as number))
        this.handle.setHistory(
          slot,
          sequence.slot,
          sequence.tokens.subarray(0, start),
        );
    }
  }
}

function computeSeconds(timings: Float64Array): number {
  const of = (stage: number): number => timings[stage] ?? 0;
  return (of(Timing.forward) + of(Timing.head) + of(Timing.sample)) / 1e6;
}

function outputOf(arena: StepArena): StepOutput {
  const {
    sampledIds,
    logprob,
    rank,
    targetLogprob,
    targetRank,
    topIds,
    topLogprobs,
    timings,
  } = arena;
  return {
    numSamples: 0,
    sampledIds,
    logprob,
    rank,
    targetLogprob,
    targetRank,
    topIds,
    topLogprobs,
    timings,
  };
}
