import { ProgressBar } from "../../src/cli/format.js";
import type { EngineConfig } from "../../src/core/config.js";
import { OctavoError } from "../../src/core/errors.js";
import { benchEngineConfig, type EngineBenchFlags } from "../engine/flags.js";
import { machineLines, measureMachine, type Machine } from "../machine.js";
import { Random } from "../random.js";
import { summarize } from "../serve/statistics.js";
import {
  measureDelay,
  type DelayCase,
  type DelayResult,
  type DelayRound,
} from "./compile-delay.js";
import { GrammarEngine } from "./grammar-engine.js";
import { RECORDS, slowGrammar } from "./grammars.js";
import {
  measureThroughputCost,
  type Ratio,
  type Speed,
  type ThroughputCost,
} from "./throughput-cost.js";
import { MIN_VOCABULARY, tokensOf } from "./tokens.js";

export interface ConstrainedFlags extends EngineBenchFlags {
  tokenizer?: string;
  batchSize: number;
  inputLen: number;
  outputLen: number;
  temperature: number;
  compileMs: number;
  delayStreams: number[];
  numIters: number;
  numItersWarmup: number;
}

export interface ConstrainedResult {
  bench: "constrained";
  model: string;
  quantization: string;
  seed: number;
  machine: Machine;
  tokenizer: string;
  vocab_size: number;
  batch_size: number;
  input_len: number;
  output_len: number;
  temperature: number;
  throughput: ThroughputCost;
  /** Properties of the object whose grammar took `--compile-ms` or longer while nothing else ran. */
  slow_properties: number;
  delays: DelayResult[];
}

/**
 * `octavo bench constrained`: what constrained decoding costs. The engine runs in its thread and the grammars in their
 * workers, as in the server; prompts are random and outputs have their full length.
 */
export async function runConstrainedBench(
  flags: ConstrainedFlags,
  print: (line: string) => void,
): Promise<ConstrainedResult> {
  const { seed, batchSize, inputLen, outputLen, temperature } = flags;
  const config = benchEngineConfig(flags);
  checkFlags(flags, config);
  const machine = measureMachine(config.device, config.threads);
  const loading = new ProgressBar("Loading weights");
  let tokenizer = "";
  const engine = await GrammarEngine.start(
    config,
    async (vocabSize) => {
      const found = await tokensOf(config.model, flags.tokenizer, vocabSize);
      tokenizer = found.name;
      return found.tokens;
    },
    temperature,
    (done, total) => loading.update(done, total),
  );
  try {
    const { info } = engine;
    checkModel(flags, info);
    print(
      `Model: ${config.model} (${info.architecture}, ${info.quantization})`,
    );
    machineLines(machine, seed).forEach(print);
    print(`Tokens: ${info.vocabSize}, ${tokenizer}`);
    const random = new Random(seed);
    const makePrompt = (): Int32Array =>
      Int32Array.from({ length: inputLen }, () =>
        random.integer(0, info.vocabSize - 1),
      );
    const throughput = await throughputPart(engine, flags, makePrompt);
    throughputLines(flags, throughput).forEach(print);
    const numProperties = await slowProperties(engine, flags.compileMs);
    const delays = await delayPart(
      engine,
      flags,
      numProperties,
      makePrompt,
      print,
    );
    return {
      bench: "constrained",
      model: config.model,
      quantization: info.quantization,
      seed,
      machine,
      tokenizer,
      vocab_size: info.vocabSize,
      batch_size: batchSize,
      input_len: inputLen,
      output_len: outputLen,
      temperature,
      throughput,
      slow_properties: numProperties,
      delays,
    };
  } finally {
    await engine.close();
  }
}

/** Throws invalid_config for more sequences than run at once. */
function checkFlags(flags: ConstrainedFlags, config: EngineConfig): void {
  const most = Math.max(...flags.delayStreams);
  const wanted: [string, number, number][] = [
    ["batch-size", flags.batchSize, config.maxNumSeqs],
    // One more arrives.
    ["delay-streams", most, config.maxNumSeqs - 1],
  ];
  for (const [flag, got, limit] of wanted)
    if (got > limit)
      throw new OctavoError(
        "invalid_config",
        `--${flag}: expected at most ${limit} (--max-num-seqs is ${config.maxNumSeqs}), got ${got}`,
        flag,
      );
}

/** Throws invalid_config for a model that is too small for what is asked. */
function checkModel(
  { inputLen, outputLen }: ConstrainedFlags,
  { maxModelLen, vocabSize }: GrammarEngine["info"],
): void {
  if (inputLen + outputLen > maxModelLen)
    throw new OctavoError(
      "invalid_config",
      `--output-len: expected at most ${maxModelLen} tokens together with --input-len (--max-model-len), got ${inputLen} + ${outputLen}`,
      "output-len",
    );
  if (vocabSize < MIN_VOCABULARY)
    throw new OctavoError(
      "invalid_config",
      `--model: expected a vocabulary of at least ${MIN_VOCABULARY} tokens, got ${vocabSize}`,
      "model",
    );
}

function throughputPart(
  engine: GrammarEngine,
  flags: ConstrainedFlags,
  makePrompt: () => Int32Array,
): Promise<ThroughputCost> {
  const { batchSize, outputLen, numIters, numItersWarmup, seed } = flags;
  const bar = new ProgressBar("Runs");
  const total = 2 * (numIters + numItersWarmup);
  let done = 0;
  return measureThroughputCost(engine, {
    batchSize,
    outputLen,
    numIters,
    numItersWarmup,
    seed,
    makePrompt,
    onRun: () => bar.update(++done, total),
  });
}

/**
 * How many properties an object must have for its grammar to take `milliseconds` to compile.
 * Errors: as GrammarPool.acquire's for a grammar that takes too long.
 */
async function slowProperties(
  engine: GrammarEngine,
  milliseconds: number,
): Promise<number> {
  // Starts the worker that compiles the others.
  (await engine.acquire(RECORDS)).release();
  for (let count = 1; ; count = Math.ceil(1.25 * count)) {
    const start = performance.now();
    const lease = await engine.acquire(slowGrammar(count));
    lease.release();
    if (performance.now() - start >= milliseconds) return count;
  }
}

async function delayPart(
  engine: GrammarEngine,
  flags: ConstrainedFlags,
  numProperties: number,
  makePrompt: () => Int32Array,
  print: (line: string) => void,
): Promise<DelayResult[]> {
  const { delayStreams, numIters, seed } = flags;
  const cases: DelayCase[] = [
    ...delayStreams.map((streams) => ({ streams, constrained: false })),
    { streams: Math.max(...delayStreams), constrained: true },
  ];
  print(
    `While a grammar is compiled (an object of ${numProperties} strings of bounded length), by the longest time between two tokens of a stream:`,
  );
  const results: DelayResult[] = [];
  for (const one of cases) {
    const options = { numIters, numProperties, seed, makePrompt };
    const measured = await measureDelay(engine, one, options);
    delayLines(measured).forEach(print);
    results.push(measured);
  }
  return results;
}

function throughputLines(
  { batchSize, inputLen, outputLen, numIters }: ConstrainedFlags,
  { free, constrained, output_ratio, decode_ratio }: ThroughputCost,
): string[] {
  const median = (speeds: readonly Speed[], of: keyof Speed): string =>
    summarize(
      speeds.map((speed) => speed[of]),
      [],
    ).median.toFixed(1);
  const line = (title: string, of: keyof Speed, ratio: Ratio): string =>
    `  ${title}: ${median(constrained, of)} tok/s, free ${median(free, of)}: ${ratio.median.toFixed(3)} x (quartiles ${ratio.quartiles.map((q) => q.toFixed(3)).join(" and ")}), it costs ${(100 * (1 - ratio.median)).toFixed(1)} %`;
  return [
    `Constrained by a grammar, ${batchSize} streams of ${inputLen} + ${outputLen} tokens, medians of ${numIters} pairs:`,
    line("output over all", "output_tokens_per_second", output_ratio),
    line("decoding alone", "decode_tokens_per_second", decode_ratio),
  ];
}

function delayLines({ streams, constrained, rounds }: DelayResult): string[] {
  const longest = (some: readonly number[]): string => ms(Math.max(...some));
  const quiet = rounds.map((round) => round.longest_quiet_gap_seconds);
  const steps = rounds.map((round) => round.step_seconds);
  const told = (some: readonly DelayRound[]): string => {
    const late = some.map((round) => round.delay_steps);
    const compiled = some
      .map((round) => round.compile_seconds)
      .sort((a, b) => a - b);
    return `${longest(some.map((round) => round.longest_gap_seconds))}: later than a step by ${summarize(late, []).median.toFixed(2)} steps (median), at most ${Math.max(...late).toFixed(2)}; compiled in ${compiled.map(ms).join(", ")}`;
  };
  return [
    `  ${streams} ${constrained ? "constrained" : "free"}: a step takes ${ms(summarize(steps, []).median)}; nothing compiled ${longest(quiet)}`,
    `    compiling ${told(rounds.filter((round) => !round.starts_worker))}`,
    `    starting the worker too ${told(rounds.filter((round) => round.starts_worker))}`,
  ];
}

function ms(seconds: number): string {
  return `${(1e3 * seconds).toFixed(1)} ms`;
}
