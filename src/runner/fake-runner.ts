import type { ScheduledBatch } from "../core/batch.js";
import { BLOCK_SIZE } from "../core/config.js";
import { assert } from "../core/errors.js";
import { MAX_LOGPROBS } from "../core/sampling-params.js";
import { NO_MEMORY } from "./addon.js";
import type { RunnerMemory } from "./addon.js";
import { NO_FAULTS } from "./fault-plan.js";
import type { FaultPlan } from "./fault-plan.js";
import { mix } from "./mix.js";
import { packBatch, setMask } from "./pack.js";
import type { PackSizes } from "./pack.js";
import { createPlainArena } from "./plain-arena.js";
import type { ModelRunner, RunnerLimits, StepOutput } from "./runner.js";
import { slotOf } from "./step-arena.js";
import type { StepArena } from "./step-arena.js";

export interface FakeRunnerOptions extends RunnerLimits {
  /** Positions that a token sees, itself included; null: all. */
  slidingWindow?: number | null;
  /** Failures to order. */
  faults?: FaultPlan;
}

/** A launch that is not collected. */
interface Launch {
  numSeqs: number;
  numTokens: number;
  numSamples: number;
  waitsForMasks: boolean;
  /** Int32 [numSamples] hash of what each sampled row sees, once its KV is written. */
  seen: Int32Array | null;
  sampled: boolean;
}

/**
 * A runner whose model is a hash function, over the real arena. Its KV cache holds, in the slot of each position, the
 * token and a state that depends on all tokens before it, as a transformer's does. A sampled token is a hash of all that
 * its position sees through the block table: any mistake in paging, sharing or packing becomes a wrong token, and a read
 * of what was never written throws. `fakeToken` says what is right.
 *
 * A launch is computed at once, or, behind one that waits for its masks, when that has been sampled.
 */
export class FakeRunner implements ModelRunner {
  readonly limits: RunnerLimits;
  readonly memory: RunnerMemory = NO_MEMORY;
  readonly seconds = { pack: 0, launch: 0, collect: 0, compute: 0 };
  private readonly packSizes: PackSizes;
  private readonly slidingWindow: number;
  private readonly arenas: [StepArena, StepArena];
  /** Int32 [numBlocks * blockSize]; -1: unwritten. */
  private readonly tokenOf: Int32Array;
  private readonly stateOf: Int32Array;
  /** Int32 [numBlocks * blockSize] launch that wrote the slot last. */
  private readonly writtenBy: Int32Array;
  private readonly launches: Launch[] = [];
  private numLaunched = 0;
  private numCollected = 0;
  private numComputed = 0;
  private readonly faults: FaultPlan;
  /** It has failed: nothing but close() is allowed. */
  private failed = false;

  constructor(options: FakeRunnerOptions) {
    const { slidingWindow, faults, ...limits } = options;
    this.limits = limits;
    this.faults = faults ?? NO_FAULTS;
    this.faults.pass("open");
    this.slidingWindow = slidingWindow ?? Infinity;
    const maxBlocksPerSeq = Math.ceil(limits.maxModelLen / BLOCK_SIZE);
    const { vocabSize } = limits;
    this.packSizes = { maxBlocksPerSeq, blockSize: BLOCK_SIZE, vocabSize };
    const arenaSizes = { ...limits, maxBlocksPerSeq };
    this.arenas = [createPlainArena(arenaSizes), createPlainArena(arenaSizes)];
    const slots = limits.numBlocks * BLOCK_SIZE;
    this.tokenOf = new Int32Array(slots).fill(-1);
    this.stateOf = new Int32Array(slots);
    this.writtenBy = new Int32Array(slots).fill(-1);
  }

  launch(batch: ScheduledBatch): void {
    this.passFaults("launch");
    assert(
      this.numLaunched - this.numCollected < 2,
      "at most two launches are uncollected",
    );
    const arena = this.arena(this.numLaunched);
    const start = performance.now();
    packBatch(arena, batch, this.packSizes);
    this.seconds.pack = (performance.now() - start) / 1e3;
    this.numLaunched++;
    this.launches.push({
      numSeqs: batch.numSeqs,
      numTokens: batch.numTokens,
      numSamples: batch.numSamples,
      waitsForMasks: batch.numConstrained > 0,
      seen: null,
      sampled: false,
    });
    this.computeAll();
  }

  setMask(row: number, mask: Uint32Array): void {
    assert(
      this.launches[0]?.waitsForMasks === true,
      "a launch waits for masks",
    );
    setMask(this.arena(this.numCollected), row, mask);
  }

  sample(): void {
    const oldest = this.launches[0];
    assert(oldest?.waitsForMasks === true, "a launch waits for masks");
    oldest.waitsForMasks = false;
    this.computeAll();
  }

  collect(): StepOutput {
    this.passFaults("collect");
    const launch = this.launches.shift();
    assert(launch !== undefined, "there is a launch to collect");
    assert(launch.sampled, "the masks of the launch have been given");
    const arena = this.arena(this.numCollected++);
    return { numSamples: launch.numSamples, ...arena };
  }

  close(): void {
    this.launches.length = 0;
  }

  /** The content of `block` is gone; reading it before it is written again throws. */
  poison(block: number): void {
    this.tokenOf.fill(-1, block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
  }

  private passFaults(call: "launch" | "collect"): void {
    assert(!this.failed, "a runner that has failed is not called again");
    // What is thrown from here on is a device error.
    this.failed = true;
    this.faults.pass(call);
    this.failed = false;
  }

  private arena(launch: number): StepArena {
    return this.arenas[slotOf(launch)];
  }

  /** In order, as far as masks allow: the rows of a launch need the tokens sampled by the one before. */
  private computeAll(): void {
    for (const [i, launch] of this.launches.entries()) {
      if (launch.sampled) continue;
      const arena = this.arena(this.numCollected + i);
      launch.seen ??= this.forward(arena, launch);
      if (launch.waitsForMasks) return;
      for (let r = 0; r < launch.numSamples; r++)
        this.fillRow(arena, r, launch.seen[r] as number);
      launch.sampled = true;
    }
  }

  /** Writes KV; returns what each sampled row sees. */
  private forward(
    arena: StepArena,
    { numSeqs, numTokens, numSamples }: Launch,
  ): Int32Array {
    assert(
      arena.queryStart[numSeqs] === numTokens,
      "query starts add up to the tokens",
    );
    const slots = new Set(arena.seqSlot.subarray(0, numSeqs));
    assert(slots.size === numSeqs, "sequence slots are unique in a step");
    const seen = new Int32Array(numSamples);
    let sample = 0;
    for (let i = 0; i < numSeqs; i++) {
      this.write(arena, i);
      sample = this.look(arena, i, sample, seen);
    }
    assert(sample === numSamples, "every sampled row belongs to a sequence");
    this.numComputed++;
    return seen;
  }

  /** Writes the KV of sequence i's rows. */
  private write(arena: StepArena, i: number): void {
    const first = arena.queryStart[i] as number;
    const end = arena.queryStart[i + 1] as number;
    const context = arena.contextLens[i] as number;
    assert(end > first, `sequence ${i} has rows`);
    for (let row = first; row < end; row++) {
      const position = arena.positions[row] as number;
      assert(
        position === context - (end - row),
        `row ${row} is at the end of its context`,
      );
      const slot = arena.slotMapping[row] as number;
      assert(
        slot === this.slotAt(arena, i, position),
        `row ${row} is written where its block table says`,
      );
      assert(
        this.writtenBy[slot] !== this.numComputed,
        `slot ${slot} is written once a step`,
      );
      const before =
        position === 0 ? 0 : this.read(arena, i, position - 1, this.stateOf);
      const token = this.inputToken(arena.inputIds[row] as number);
      this.tokenOf[slot] = token;
      this.stateOf[slot] = mix(before, token);
      this.writtenBy[slot] = this.numComputed;
    }
  }

  private inputToken(id: number): number {
    const token =
      id >= 0 ? id : this.arena(this.numComputed + 1).sampledIds[-1 - id];
    assert(
      token !== undefined && token >= 0 && token < this.limits.vocabSize,
      `input id ${id} is a token or a row of the previous launch`,
    );
    return token;
  }

  private slotAt(arena: StepArena, i: number, position: number): number {
    const { maxBlocksPerSeq } = this.packSizes;
    const at = i * maxBlocksPerSeq + Math.floor(position / BLOCK_SIZE);
    const block = arena.blockTables[at] as number;
    assert(
      block >= 0 && block < this.limits.numBlocks,
      `block ${block} exists`,
    );
    return block * BLOCK_SIZE + (position % BLOCK_SIZE);
  }

  private read(
    arena: StepArena,
    i: number,
    position: number,
    from: Int32Array,
  ): number {
    const slot = this.slotAt(arena, i, position);
    assert(
      (this.tokenOf[slot] as number) >= 0,
      `slot ${slot} (position ${position} of sequence ${i}) was written before it is read`,
    );
    return from[slot] as number;
  }

  /** Notes what the sampled rows of sequence i see: those from `sample` on that lie in it; returns the next sequence's. */
  private look(
    arena: StepArena,
    i: number,
    sample: number,
    seen: Int32Array,
  ): number {
    const first = arena.queryStart[i] as number;
    const end = arena.queryStart[i + 1] as number;
    let r = sample;
    for (; r < seen.length && (arena.sampleRows[r] as number) < end; r++) {
      const row = arena.sampleRows[r] as number;
      assert(row >= first, `sampled row ${r} belongs to sequence ${i}`);
      assert(
        arena.rowSlot[r] === arena.seqSlot[i] &&
          arena.rowPosition[r] === arena.positions[row],
        `sampled row ${r} names its sequence and position`,
      );
      seen[r] = this.seen(arena, i, arena.positions[row] as number);
    }
    return r;
  }

  /** Hash of all that `position` sees. */
  private seen(arena: StepArena, i: number, position: number): number {
    let hash = 0;
    const from = Math.max(0, position - this.slidingWindow + 1);
    for (let p = from; p <= position; p++) {
      hash = mix(hash, this.read(arena, i, p, this.tokenOf));
      hash = mix(hash, this.read(arena, i, p, this.stateOf));
    }
    return hash;
  }

  private fillRow(arena: StepArena, r: number, seen: number): void {
    const { vocabSize } = this.limits;
    const token = chooseToken(
      seen,
      arena.seedLo[r] as number,
      arena.seedHi[r] as number,
      vocabSize,
      maskOf(arena, r, vocabSize),
    );
    arena.sampledIds[r] = token;
    arena.logprob[r] = fakeLogprob(seen, token);
    arena.rank[r] = 1;
    const target = arena.targetId[r] as number;
    arena.targetLogprob[r] = target < 0 ? NaN : fakeLogprob(seen, target);
    arena.targetRank[r] = target < 0 ? 0 : 2;
    const numTop = arena.numTop[r] as number;
    for (let k = 0; k < numTop; k++) {
      const id = (token + k) % vocabSize;
      arena.topIds[r * MAX_LOGPROBS + k] = id;
      arena.topLogprobs[r * MAX_LOGPROBS + k] = fakeLogprob(seen, id);
    }
  }
}

/** The token that follows tokens[0, length) in the fake model, where `mask` allows it, and the hash of what its position sees. */
export function fakeToken(
  tokens: ArrayLike<number>,
  length: number,
  seedLo: number,
  seedHi: number,
  vocabSize: number,
  slidingWindow: number | null = null,
  mask: Uint32Array | null = null,
): { token: number; seen: number } {
  let state = 0;
  let seen = 0;
  const from = slidingWindow === null ? 0 : Math.max(0, length - slidingWindow);
  for (let p = 0; p < length; p++) {
    const token = tokens[p] as number;
    state = mix(state, token);
    if (p >= from) seen = mix(mix(seen, token), state);
  }
  const token = chooseToken(seen, seedLo | 0, seedHi | 0, vocabSize, mask);
  return { token, seen };
}

/** The log-probability of `token` where the fake model sees `seen`: a float32 below 0 without a meaning. */
export function fakeLogprob(seen: number, token: number): number {
  return Math.fround(-((mix(seen, token) >>> 8) % 10_000) / 1000);
}

function chooseToken(
  seen: number,
  seedLo: number,
  seedHi: number,
  vocabSize: number,
  mask: Uint32Array | null,
): number {
  const drawn = mix(mix(seen, seedLo), seedHi) >>> 7;
  if (!mask) return drawn % vocabSize;
  const allowed: number[] = [];
  for (let id = 0; id < vocabSize; id++)
    if (((mask[id >>> 5] as number) >>> (id & 31)) & 1) allowed.push(id);
  return allowed.length > 0 ? (allowed[drawn % allowed.length] as number) : 0;
}

function maskOf(
  { maskRow, masks }: StepArena,
  r: number,
  vocabSize: number,
): Uint32Array | null {
  const row = maskRow[r] as number;
  const words = Math.ceil(vocabSize / 32);
  return row < 0 ? null : masks.subarray(row * words, (row + 1) * words);
}
