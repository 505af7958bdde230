import type { ScheduledBatch } from "../core/batch.js";
import { BLOCK_SIZE } from "../core/config.js";
import { MAX_LOGPROBS } from "../core/sampling-params.js";
import { NO_MEMORY } from "./addon.js";
import { NO_FAULTS } from "./fault-plan.js";
import type { FaultPlan } from "./fault-plan.js";
import { mix } from "./mix.js";
import { packBatch, setMask } from "./pack.js";
import type { PackSizes } from "./pack.js";
import { createPlainArena } from "./plain-arena.js";
import type { ModelRunner, RunnerLimits, StepOutput } from "./runner.js";
import { slotOf } from "./step-arena.js";
import type { StepArena } from "./step-arena.js";

/**
 * `--device null`: packs each batch as the native runner does and computes nothing, so that what is left is the cost of
 * everything around the model. The token of a row is a hash of the token before it, its position and the seed, or the next
 * one that the row's mask allows, whatever the other sampling parameters say: the same request always gives the same tokens, and a replay from a wrong place
 * shows. Every token is as likely as any other: log-probabilities are -ln(vocabSize).
 */
export class NullRunner implements ModelRunner {
  readonly memory = NO_MEMORY;
  readonly seconds = { pack: 0, launch: 0, collect: 0, compute: 0 };
  private readonly arenas: [StepArena, StepArena];
  private readonly outputs: [StepOutput, StepOutput];
  private readonly packSizes: PackSizes;
  private numLaunched = 0;
  private numSampled = 0;
  private numCollected = 0;
  /** By slot: sampling waits for masks. */
  private readonly waits: [boolean, boolean] = [false, false];

  constructor(
    readonly limits: RunnerLimits,
    private readonly faults: FaultPlan = NO_FAULTS,
  ) {
    faults.pass("open");
    const maxBlocksPerSeq = Math.ceil(limits.maxModelLen / BLOCK_SIZE);
    const { vocabSize } = limits;
    this.packSizes = { maxBlocksPerSeq, blockSize: BLOCK_SIZE, vocabSize };
    const arena = (): StepArena =>
      createPlainArena({ ...limits, maxBlocksPerSeq });
    this.arenas = [arena(), arena()];
    const logprob = -Math.log(vocabSize);
    for (const { rank, targetRank, ...floats } of this.arenas) {
      rank.fill(1);
      targetRank.fill(1);
      floats.logprob.fill(logprob);
      floats.targetLogprob.fill(logprob);
      floats.topLogprobs.fill(logprob);
    }
    this.outputs = [
      { numSamples: 0, ...this.arenas[0] },
      { numSamples: 0, ...this.arenas[1] },
    ];
  }

  launch(batch: ScheduledBatch): void {
    this.faults.pass("launch");
    const slot = slotOf(this.numLaunched++);
    const start = performance.now();
    packBatch(this.arenas[slot], batch, this.packSizes);
    const packed = performance.now();
    this.outputs[slot].numSamples = batch.numSamples;
    this.waits[slot] = batch.numConstrained > 0;
    this.sampleAll();
    this.seconds.pack = (packed - start) / 1e3;
    this.seconds.launch = (performance.now() - packed) / 1e3;
  }

  setMask(row: number, mask: Uint32Array): void {
    setMask(this.arenas[slotOf(this.numCollected)], row, mask);
  }

  sample(): void {
    this.waits[slotOf(this.numCollected)] = false;
    this.sampleAll();
  }

  collect(): StepOutput {
    this.faults.pass("collect");
    return this.outputs[slotOf(this.numCollected++)];
  }

  close(): void {
    this.numLaunched = this.numSampled = this.numCollected = 0;
  }

  /** In order, up to a launch that waits for its masks. */
  private sampleAll(): void {
    for (; this.numSampled < this.numLaunched; this.numSampled++) {
      const slot = slotOf(this.numSampled);
      if (this.waits[slot]) return;
      this.sampleRows(
        this.arenas[slot],
        this.arenas[slotOf(this.numSampled + 1)],
        this.outputs[slot].numSamples,
      );
    }
  }

  /** A negative input id -1 - r is the token that `previous` sampled in row r. */
  private sampleRows(
    arena: StepArena,
    previous: StepArena,
    numSamples: number,
  ): void {
    const { vocabSize } = this.limits;
    const { inputIds, sampleRows, rowPosition, seedLo, seedHi } = arena;
    for (let r = 0; r < numSamples; r++) {
      const id = inputIds[sampleRows[r] as number] as number;
      const input = id >= 0 ? id : (previous.sampledIds[-1 - id] as number);
      let hash = mix(input, rowPosition[r] as number);
      hash = mix(hash, seedLo[r] as number);
      hash = mix(hash, seedHi[r] as number);
      const token = nextAllowed(arena, r, (hash >>> 0) % vocabSize, vocabSize);
      arena.sampledIds[r] = token;
      const numTop = arena.numTop[r] as number;
      for (let k = 0; k < numTop; k++)
        arena.topIds[r * MAX_LOGPROBS + k] = (token + k) % vocabSize;
    }
  }
}

/** The first id from `id` on, around the end of the vocabulary, that the row's mask allows; `id` where it allows none. */
function nextAllowed(
  { maskRow, masks }: StepArena,
  r: number,
  id: number,
  vocabSize: number,
): number {
  const row = maskRow[r] as number;
  if (row < 0) return id;
  const first = row * Math.ceil(vocabSize / 32);
  for (let k = 0; k < vocabSize; k++) {
    const next = (id + k) % vocabSize;
    if (((masks[first + (next >>> 5)] as number) >>> (next & 31)) & 1)
      return next;
  }
  return id;
}
