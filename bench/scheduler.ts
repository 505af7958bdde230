import { cpus } from "node:os";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { BLOCK_SIZE, ENGINE_DEFAULTS } from "../src/core/config.js";
import type { Request } from "../src/core/request.js";
import { NEUTRAL_SAMPLING } from "../src/core/sampling-params.js";
import { Sequence } from "../src/core/sequence.js";
import { Engine } from "../src/engine/engine.js";
import { BlockTable } from "../src/kv/block-table.js";
import { KVCacheManager } from "../src/kv/kv-cache-manager.js";
import { Random } from "./random.js";
import { NullRunner } from "../src/runner/null-runner.js";

export interface SchedulerBenchOptions {
  /** Running sequences, one row of the table each. */
  numSeqs?: number[];
  /** Prompt tokens of each sequence. */
  promptLen?: number;
  /** Output tokens before a sequence of the mixed load is replaced by a new one. */
  outputLen?: number;
  /** Sequence-steps measured in each row: steps = this / running sequences, 100 to 2,000. */
  sequenceSteps?: number;
  /** Steps of the heap measurement. */
  heapSteps?: number;
  /** Prompt lengths of the prefix-cache measurement. */
  promptLens?: number[];
  asyncScheduling?: boolean;
  seed?: number;
}

export interface StepFigures {
  load: "decode" | "mixed";
  numSeqs: number;
  /** Asked for, and found. */
  prefixHitShare: number;
  measuredHitShare: number;
  steps: number;
  tokensPerStep: number;
  /** Microseconds per step, and in all per running sequence and step. */
  schedule: number;
  pack: number;
  update: number;
  perSequence: number;
}

export interface PromptFigures {
  promptLen: number;
  /** Milliseconds: look-up in vain, entering all full blocks, finding them again, and all three. */
  miss: number;
  commit: number;
  hit: number;
  total: number;
}

export interface SchedulerBenchResult {
  bench: "scheduler";
  model: "none (NullRunner: packs, computes nothing)";
  device: string;
  seed: number;
  versions: { node: string; v8: string };
  asyncScheduling: boolean;
  promptLen: number;
  outputLen: number;
  steps: StepFigures[];
  heap: { numSeqs: number; steps: number; growthBytes: number };
  prompts: PromptFigures[];
}

const VOCAB = 32_000;
/** Steps before each measurement, for the compiler. */
const WARM_UP = 300;

/**
 * The cost of deciding: schedule + pack + update per step, with a runner that computes nothing. Deterministic but for
 * the clock; prints a table line by line and returns all figures.
 */
export function runSchedulerBench(
  options: SchedulerBenchOptions,
  print: (line: string) => void,
): SchedulerBenchResult {
  const settings = {
    numSeqs: [1, 64, 256, 1024],
    promptLen: 256,
    outputLen: 128,
    sequenceSteps: 400_000,
    heapSteps: 10_000,
    promptLens: [1000, 10_000, 100_000],
    asyncScheduling: true,
    seed: 0,
    ...options,
  };
  const device = cpus()[0]?.model ?? "unknown processor";
  print(
    `scheduler bench: ${device}, node ${process.version}, seed ${settings.seed}, ` +
      `prompts of ${settings.promptLen}, ${settings.asyncScheduling ? "one step ahead" : "plain loop"}`,
  );
  const steps = measureSteps(settings, print);
  const heap = measureHeap(settings);
  print(
    `heap growth over ${heap.steps} steps of ${heap.numSeqs} sequences: ${(heap.growthBytes / 1024).toFixed(0)} KiB`,
  );
  const prompts = settings.promptLens.map((length) =>
    measurePrompt(length, settings.seed, print),
  );
  return {
    bench: "scheduler",
    model: "none (NullRunner: packs, computes nothing)",
    device,
    seed: settings.seed,
    versions: { node: process.version, v8: process.versions.v8 },
    asyncScheduling: settings.asyncScheduling,
    promptLen: settings.promptLen,
    outputLen: settings.outputLen,
    steps,
    heap,
    prompts,
  };
}

type Settings = Required<SchedulerBenchOptions>;

function measureSteps(
  settings: Settings,
  print: (line: string) => void,
): StepFigures[] {
  print(
    "load     seqs  hits  tokens/step   schedule       pack     update  us/step   us/sequence/step",
  );
  const all: StepFigures[] = [];
  for (const numSeqs of settings.numSeqs)
    for (const load of ["decode", "mixed"] as const)
      for (const share of [0, 0.9]) {
        const figures = measureLoad(settings, load, numSeqs, share);
        all.push(figures);
        print(formatSteps(figures));
      }
  return all;
}

function formatSteps(figures: StepFigures): string {
  const { schedule, pack, update } = figures;
  const cell = (value: number): string => value.toFixed(1).padStart(11);
  return (
    figures.load.padEnd(7) +
    String(figures.numSeqs).padStart(6) +
    `${(figures.measuredHitShare * 100).toFixed(0)}%`.padStart(6) +
    figures.tokensPerStep.toFixed(0).padStart(13) +
    cell(schedule) +
    cell(pack) +
    cell(update) +
    (schedule + pack + update).toFixed(1).padStart(9) +
    figures.perSequence.toFixed(2).padStart(19)
  );
}

/** `decode`: sequences that never end. `mixed`: a new one takes the place of each that ends, prompts under way. */
function measureLoad(
  settings: Settings,
  load: "decode" | "mixed",
  numSeqs: number,
  share: number,
): StepFigures {
  const steps = Math.min(
    2000,
    Math.max(100, Math.ceil(settings.sequenceSteps / numSeqs)),
  );
  const outputLen =
    load === "mixed" ? settings.outputLen : WARM_UP + steps + numSeqs + 1000;
  const bench = new Load(settings, numSeqs, outputLen, share);
  bench.run(WARM_UP);
  const before = bench.totals();
  bench.run(steps);
  const after = bench.totals();
  const perStep = (key: "schedule" | "pack" | "update"): number =>
    ((after[key] - before[key]) / steps) * 1e6;
  const [schedule, pack, update] = [
    perStep("schedule"),
    perStep("pack"),
    perStep("update"),
  ];
  return {
    load,
    numSeqs,
    prefixHitShare: share,
    measuredHitShare: after.hits / Math.max(1, after.queries),
    steps,
    tokensPerStep: (after.tokens - before.tokens) / steps,
    schedule,
    pack,
    update,
    perSequence: (schedule + pack + update) / numSeqs,
  };
}

/** An engine kept full of requests. */
class Load {
  private readonly engine: Engine;
  private readonly shared: Int32Array;
  private readonly random: () => number;
  private numAdded = 0;
  private readonly spent = { schedule: 0, pack: 0, update: 0, tokens: 0 };

  constructor(
    private readonly settings: Settings,
    numSeqs: number,
    private readonly outputLen: number,
    share: number,
  ) {
    const { promptLen, seed, asyncScheduling } = settings;
    const maxModelLen = promptLen + outputLen + 1;
    const maxNumTokens = Math.max(2048, numSeqs + promptLen);
    this.random = uniformOf(seed);
    this.shared = this.tokens(Math.floor(promptLen * share));
    const limits = {
      maxNumTokens,
      maxNumSeqs: numSeqs,
      maxNumSamples: numSeqs,
      maxModelLen,
      numBlocks: (numSeqs + 1) * Math.ceil(maxModelLen / BLOCK_SIZE),
      vocabSize: VOCAB,
    };
    this.engine = new Engine(new NullRunner(limits), {
      ...ENGINE_DEFAULTS,
      asyncScheduling,
      maxNumSeqs: numSeqs,
      maxNumBatchedTokens: maxNumTokens,
    });
    // Ends are spread out, as they are under real load.
    for (let i = 0; i < numSeqs; i++)
      this.add(Math.ceil((outputLen * (i + 1)) / numSeqs));
  }

  run(steps: number): void {
    for (let i = 0; i < steps; i++) {
      const result = this.engine.step();
      if (!result) throw new Error("the load ran dry");
      const { stepSeconds, iterationTokens } = result.stats;
      this.spent.schedule += stepSeconds.schedule;
      this.spent.pack += stepSeconds.pack;
      this.spent.update += stepSeconds.update;
      this.spent.tokens += iterationTokens;
      for (let k = result.finished.length; k > 0; k--) this.add(this.outputLen);
    }
  }

  totals(): typeof this.spent & { hits: number; queries: number } {
    const { prefixHits, prefixQueries } = this.engine.scheduler.admission;
    return { ...this.spent, hits: prefixHits, queries: prefixQueries };
  }

  private add(maxTokens: number): void {
    const { promptLen } = this.settings;
    const prompt = this.tokens(promptLen);
    prompt.set(this.shared);
    const length = this.outputLen > 1000 ? this.outputLen : maxTokens;
    this.engine.add(makeRequest(++this.numAdded, prompt, length));
  }

  private tokens(length: number): Int32Array {
    return Int32Array.from({ length }, () => Math.floor(this.random() * VOCAB));
  }
}

/** Bytes of JavaScript heap that 10,000 steps leave behind, garbage collected. */
function measureHeap(settings: Settings): SchedulerBenchResult["heap"] {
  const numSeqs = 256;
  const load = new Load(settings, numSeqs, settings.outputLen, 0.9);
  // Until buffers have grown and the prefix cache is full.
  load.run(Math.min(settings.heapSteps, 2000));
  const before = usedHeap();
  load.run(settings.heapSteps);
  return {
    numSeqs,
    steps: settings.heapSteps,
    growthBytes: usedHeap() - before,
  };
}

function usedHeap(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let i = 0; i < 3; i++) collect();
  return process.memoryUsage().heapUsed;
}

/** The prefix cache's share of a long prompt: the same prompt twice. */
function measurePrompt(
  promptLen: number,
  seed: number,
  print: (line: string) => void,
): PromptFigures {
  const random = uniformOf(seed + promptLen);
  const prompt = Int32Array.from({ length: promptLen }, () =>
    Math.floor(random() * VOCAB),
  );
  let best: PromptFigures | null = null;
  for (let trial = 0; trial < 3; trial++) {
    const figures = timePrompt(prompt);
    if (!best || figures.total < best.total) best = figures;
  }
  const { miss, commit, hit, total } = best as PromptFigures;
  print(
    `prompt of ${String(promptLen).padStart(6)} tokens: miss ${miss.toFixed(2)} ms, commit ${commit.toFixed(2)} ms, ` +
      `hit ${hit.toFixed(2)} ms, in all ${total.toFixed(2)} ms`,
  );
  return { promptLen, miss, commit, hit, total };
}

function timePrompt(prompt: Int32Array): PromptFigures {
  const kv = new KVCacheManager({
    numBlocks: Math.ceil(prompt.length / BLOCK_SIZE) + 1,
    blockSize: BLOCK_SIZE,
    enablePrefixCaching: true,
    slidingWindow: null,
    maxNumBatchedTokens: 2048,
  });
  const sequence = (order: number): Sequence =>
    new Sequence(makeRequest(order, prompt, 16), 0, new BlockTable(), order);
  const [first, second] = [sequence(1), sequence(2)];
  const start = performance.now();
  kv.match(first);
  const missed = performance.now();
  kv.allocate(first, prompt.length);
  kv.commit(first, prompt.length, prompt.length);
  const committed = performance.now();
  kv.match(second);
  const end = performance.now();
  return {
    promptLen: prompt.length,
    miss: missed - start,
    commit: committed - missed,
    hit: end - committed,
    total: end - start,
  };
}

function makeRequest(
  handle: number,
  promptTokenIds: Int32Array,
  maxTokens: number,
): Request {
  return {
    id: String(handle),
    handle,
    promptTokenIds,
    n: 1,
    priority: 0,
    cacheSalt: "",
    arrivalTime: 0,
    bypassPrefixCache: false,
    params: {
      ...NEUTRAL_SAMPLING,
      temperature: 1,
      topP: 0.9,
      seedLo: handle,
      maxTokens,
      stopTokenIds: [2],
      eosTokenIds: [2],
    },
  };
}

/** Uniform in [0, 1). */
function uniformOf(seed: number): () => number {
  const random = new Random(seed);
  return () => random.uniform();
}
