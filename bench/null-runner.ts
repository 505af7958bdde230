import type { ScheduledBatch } from "../src/core/batch.js";
import { BLOCK_SIZE } from "../src/core/config.js";
import { createPlainArena, packBatch } from "../src/runner/pack.js";
import type { PackSizes } from "../src/runner/pack.js";
import type {
  ModelRunner,
  RunnerLimits,
  StepOutput,
} from "../src/runner/runner.js";
import type { StepArena } from "../src/runner/step-arena.js";

/** Packs each batch as the native runner does, computes nothing, and samples token 1 in every row. */
export class NullRunner implements ModelRunner {
  readonly memory = { weights: 0, kvCache: 0, workspace: 0 };
  readonly seconds = { pack: 0, launch: 0, collect: 0 };
  private readonly arenas: [StepArena, StepArena];
  private readonly outputs: [StepOutput, StepOutput];
  private readonly packSizes: PackSizes;
  private numLaunched = 0;
  private numCollected = 0;

  constructor(readonly limits: RunnerLimits) {
    const maxBlocksPerSeq = Math.ceil(limits.maxModelLen / BLOCK_SIZE);
    const { vocabSize } = limits;
    this.packSizes = { maxBlocksPerSeq, blockSize: BLOCK_SIZE, vocabSize };
    const arena = (): StepArena =>
      createPlainArena({ ...limits, maxBlocksPerSeq });
    this.arenas = [arena(), arena()];
    for (const { sampledIds } of this.arenas) sampledIds.fill(1);
    this.outputs = [
      { numSamples: 0, ...this.arenas[0] },
      { numSamples: 0, ...this.arenas[1] },
    ];
  }

  launch(batch: ScheduledBatch): void {
    const slot = this.numLaunched++ % 2 === 0 ? 0 : 1;
    const start = performance.now();
    packBatch(this.arenas[slot], batch, this.packSizes);
    this.seconds.pack = (performance.now() - start) / 1e3;
    this.outputs[slot].numSamples = batch.numSamples;
  }

  collect(): StepOutput {
    return this.outputs[this.numCollected++ % 2 === 0 ? 0 : 1];
  }

  close(): void {
    this.numLaunched = this.numCollected = 0;
  }
}
