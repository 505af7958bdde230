import type { Program } from "../../src/program/program.js";
import { loadAddon } from "../../src/runner/addon.js";
import type {
  NativeRunnerHandle,
  RunnerSizes,
  RunnerSpec,
} from "../../src/runner/addon.js";
import { viewArena } from "../../src/runner/step-arena.js";
import type { StepArena } from "../../src/runner/step-arena.js";

export * from "./tiny-model.js";

export const SIZES: RunnerSizes = {
  maxNumTokens: 64,
  maxNumSeqs: 4,
  maxNumSamples: 12,
  maxModelLen: 100,
  maxBlocksPerSeq: 7,
  numBlocks: 24,
  logitsRows: 4,
};

export function specOf(
  model: { program: Program; file?: string },
  overrides: Partial<RunnerSpec> = {},
): RunnerSpec {
  return {
    device: "reference",
    threads: 1,
    program: model.program,
    files: model.file === undefined ? [] : [model.file],
    sizes: SIZES,
    kvCacheDtype: "f32",
    cpuActivations: "f32",
    keepLogits: true,
    dummySeed: 0,
    graphRows: new Int32Array(0),
    tiles: [],
    useMatmulLibrary: false,
    ...overrides,
  };
}

/** A loaded runner with views of both of its arenas. */
export interface Open {
  runner: NativeRunnerHandle;
  spec: RunnerSpec;
  arenas: [StepArena, StepArena];
}

export function open(spec: RunnerSpec): Open {
  const runner = new (loadAddon().Runner)(spec);
  runner.load();
  return {
    runner,
    spec,
    arenas: [
      viewArena(runner.arena(0), runner.layout),
      viewArena(runner.arena(1), runner.layout),
    ],
  };
}

/** One sequence of a step: `ids` are computed from position `start` on, the last `samples` rows are sampled. */
export interface SequenceRows {
  slot: number;
  start: number;
  ids: number[];
  blocks: number[];
  numPrompt?: number;
  samples?: number;
  temperature?: number;
  seed?: number;
  numTop?: number;
  targetId?: number;
  repetition?: number;
  presence?: number;
  bias?: [id: number, value: number][];
  /** Ids that may be sampled; row r's mask is row r of the mask area. */
  allowed?: number[];
}

export interface Counts {
  numTokens: number;
  numSeqs: number;
  numSamples: number;
}

/** Writes a step into an arena. */
export function pack(
  { spec }: Open,
  arena: StepArena,
  sequences: SequenceRows[],
): Counts {
  const { maxBlocksPerSeq } = spec.sizes;
  let row = 0;
  let sample = 0;
  arena.queryStart[0] = 0;
  arena.biasStart[0] = 0;
  sequences.forEach((sequence, s) => {
    sequence.ids.forEach((id, i) => {
      const position = sequence.start + i;
      arena.inputIds[row] = id;
      arena.positions[row] = position;
      arena.slotMapping[row] =
        (sequence.blocks[Math.floor(position / 16)] ?? 0) * 16 +
        (position % 16);
      if (i >= sequence.ids.length - (sequence.samples ?? 1)) {
        arena.sampleRows[sample] = row;
        arena.rowSlot[sample] = sequence.slot;
        arena.rowPosition[sample] = position;
        packSampling(spec, arena, sample++, sequence);
      }
      row++;
    });
    arena.queryStart[s + 1] = row;
    arena.contextLens[s] = sequence.start + sequence.ids.length;
    arena.seqSlot[s] = sequence.slot;
    arena.numPromptTokens[s] = sequence.numPrompt ?? 0;
    arena.blockTables.set(sequence.blocks, s * maxBlocksPerSeq);
  });
  return { numTokens: row, numSeqs: sequences.length, numSamples: sample };
}

/** Sampling parameters of row r. */
export function packSampling(
  spec: RunnerSpec,
  arena: StepArena,
  r: number,
  sequence: SequenceRows,
): void {
  arena.temperature[r] = sequence.temperature ?? 0;
  arena.topP[r] = 1;
  arena.minP[r] = 0;
  arena.repetition[r] = sequence.repetition ?? 1;
  arena.presence[r] = sequence.presence ?? 0;
  arena.frequency[r] = 0;
  arena.topK[r] = 0;
  arena.seedLo[r] = sequence.seed ?? 0;
  arena.seedHi[r] = 0;
  arena.targetId[r] = sequence.targetId ?? -1;
  arena.numTop[r] = sequence.numTop ?? -1;
  let bias = arena.biasStart[r] ?? 0;
  for (const [id, value] of sequence.bias ?? []) {
    arena.biasId[bias] = id;
    arena.biasValue[bias++] = value;
  }
  arena.biasStart[r + 1] = bias;
  arena.maskRow[r] = sequence.allowed ? r : -1;
  const words = Math.ceil(spec.program.vocabSize / 32);
  if (!sequence.allowed) return;
  arena.masks.fill(0, r * words, (r + 1) * words);
  for (const id of sequence.allowed) {
    const word = r * words + (id >> 5);
    arena.masks[word] = (arena.masks[word] ?? 0) | (1 << (id & 31));
  }
}

/** pack, launch, collect. */
export function step(
  opened: Open,
  slot: 0 | 1,
  sequences: SequenceRows[],
): StepArena {
  const arena = opened.arenas[slot];
  const counts = pack(opened, arena, sequences);
  opened.runner.launch(
    slot,
    counts.numTokens,
    counts.numSeqs,
    counts.numSamples,
    false,
  );
  opened.runner.collect(slot);
  return arena;
}

/** Copy of the kept logits of sample row r. */
export function logitsOf(
  opened: Open,
  arena: StepArena,
  r: number,
): Float32Array {
  const { vocabSize } = opened.spec.program;
  if (!arena.logits) throw new Error("the runner was made without keepLogits");
  return arena.logits.slice(r * vocabSize, (r + 1) * vocabSize);
}

/** The code of what `action` throws; fails when it throws nothing. */
export function errorOf(action: () => unknown): {
  code: string;
  message: string;
} {
  try {
    action();
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    return { code: code ?? "", message };
  }
  throw new Error("expected an error, got none");
}

/** Loads and takes one step: whatever the weights are, it must end. */
export function runOnce(runner: NativeRunnerHandle, spec: RunnerSpec): void {
  try {
    runner.load();
    const arena = viewArena(runner.arena(0), runner.layout);
    const vocab = spec.program.vocabSize;
    const counts = pack({ runner, spec, arenas: [arena, arena] }, arena, [
      {
        slot: 0,
        start: 0,
        ids: [0, vocab - 1],
        blocks: [0],
        temperature: 1,
        numTop: 1,
      },
    ]);
    runner.launch(
      0,
      counts.numTokens,
      counts.numSeqs,
      counts.numSamples,
      false,
    );
    runner.collect(0);
  } finally {
    runner.close();
  }
}
