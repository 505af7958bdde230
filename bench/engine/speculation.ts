import { OctavoError } from "../../src/core/errors.js";
import type { SpeculativeConfig } from "../../src/core/speculative-config.js";
import type { Machine } from "../machine.js";
import { percentile } from "../serve/statistics.js";
import { benchEngineConfig, type EngineBenchFlags } from "./flags.js";
import {
  openEngine,
  type BenchRequest,
  type InProcessEngine,
  type Run,
  type Step,
} from "./in-process.js";
import type { PromptKind } from "./prompt-kinds.js";
import {
  kindsOf,
  promptMaker,
  type MakePrompt,
} from "./speculation-prompts.js";

export interface SpeculationFlags extends EngineBenchFlags {
  prompts?: PromptKind[];
  batchSizes: number[];
  numPrompts: number;
  inputLen: number;
  outputLen: number;
  temperature: number;
  numIters: number;
  numItersWarmup: number;
}

/** Tokens per second of all streams together: output tokens after the first of each, over the time of decoding. */
export interface SpeculationCase {
  prompts: PromptKind;
  batch_size: number;
  output_tokens: number;
  /** Medians over iterations. */
  plain_tokens_per_second: number;
  speculative_tokens_per_second: number;
  /** Of the two medians; of each pair of runs; and the quartiles of these. */
  speed_up: number;
  pairs: number[];
  pair_quartiles: [number, number, number];
  /** Tokens that a speculated step of a sequence brings; 1 where there was none. */
  acceptance_length: number;
  num_drafts: number;
  num_draft_tokens: number;
  num_accepted_tokens: number;
  /** Share of the speculative runs' time that making drafts took. */
  draft_share: number;
  /** Median time of the steps that verified so many rows in all, without making the drafts. */
  step_seconds_by_rows: { rows: number; steps: number; seconds: number }[];
}

export interface SpeculationResult {
  bench: "speculation";
  model: string;
  quantization: string;
  seed: number;
  machine: Machine;
  speculative_config: SpeculativeConfig;
  temperature: number;
  num_prompts: number;
  num_iters: number;
  cases: SpeculationCase[];
}

/** Fewer steps of so many rows say nothing. */
const MIN_STEPS = 5;

/**
 * `octavo bench speculation`: each batch of requests with drafts and without, in turns on one engine, of which a request
 * may ask for no drafts. Neither finds what the other left: each has a cache salt of its own.
 */
export async function runSpeculationBench(
  flags: SpeculationFlags,
  print: (line: string) => void,
): Promise<SpeculationResult> {
  const config = benchEngineConfig(flags);
  const { speculativeConfig } = config;
  if (!speculativeConfig)
    throw new OctavoError(
      "invalid_config",
      '--speculative-config: expected what is to be compared with plain decoding, such as {"method":"ngram","num_speculative_tokens":5}, got none',
      "speculative-config",
    );
  const largest = Math.max(...flags.batchSizes);
  if (largest > config.maxNumSeqs)
    throw new OctavoError(
      "invalid_config",
      `--batch-sizes: expected at most --max-num-seqs (${config.maxNumSeqs}), got ${largest}`,
      "batch-sizes",
    );
  const kinds = flags.prompts ?? (await kindsOf(config.model));
  const { machine, engine } = await openEngine(config, flags.seed, print);
  try {
    const { info } = engine;
    print(`Speculation: ${JSON.stringify(speculativeConfig)}`);
    const makePrompt = await promptMaker(kinds, {
      directory: config.model,
      vocabSize: info.vocabSize,
      seed: flags.seed,
      inputLen: flags.inputLen,
    });
    const cases: SpeculationCase[] = [];
    for (const prompts of kinds)
      for (const batchSize of flags.batchSizes) {
        const measured = await new Comparison(
          engine,
          flags,
          prompts,
          batchSize,
        ).measure(makePrompt);
        caseLines(measured).forEach(print);
        cases.push(measured);
      }
    return {
      bench: "speculation",
      model: config.model,
      quantization: info.quantization,
      seed: flags.seed,
      machine,
      speculative_config: speculativeConfig,
      temperature: flags.temperature,
      num_prompts: flags.numPrompts,
      num_iters: flags.numIters,
      cases,
    };
  } finally {
    engine.close();
  }
}

/** What runs of one kind came to. */
interface Tally {
  tokens: number;
  seconds: number;
  /** [request] */
  outputs: number[][];
}

/** Of all steps of one kind. */
interface Notes {
  seconds: number;
  draftSeconds: number;
  /** By tokens computed: seconds without drafting. */
  steps: Map<number, number[]>;
}

function emptyNotes(): Notes {
  return { seconds: 0, draftSeconds: 0, steps: new Map() };
}

/** One kind of prompt at one batch size. */
class Comparison {
  private readonly speeds = {
    plain: [] as number[],
    speculative: [] as number[],
  };
  private noted = emptyNotes();
  private notedPlain = emptyNotes();
  private outputTokens = 0;

  constructor(
    private readonly engine: InProcessEngine,
    private readonly flags: SpeculationFlags,
    private readonly prompts: PromptKind,
    private readonly batchSize: number,
  ) {}

  async measure(makePrompt: MakePrompt): Promise<SpeculationCase> {
    const { numIters, numItersWarmup } = this.flags;
    for (let i = 0; i < numItersWarmup; i++)
      this.compare(await this.requests(makePrompt, i), i);
    this.forget();
    const before = this.engine.speculation;
    for (let i = 0; i < numIters; i++) {
      const iteration = numItersWarmup + i;
      this.compare(await this.requests(makePrompt, iteration), iteration);
    }
    return this.result(before);
  }

  private forget(): void {
    this.speeds.plain.length = this.speeds.speculative.length = 0;
    this.noted = emptyNotes();
    this.notedPlain = emptyNotes();
    this.outputTokens = 0;
  }

  private requests(
    makePrompt: MakePrompt,
    iteration: number,
  ): Promise<BenchRequest[]> {
    // Whole batches: a last one with fewer sequences would be another batch size.
    const batches = Math.ceil(this.flags.numPrompts / this.batchSize);
    const count = batches * this.batchSize;
    return Promise.all(
      Array.from({ length: count }, async (_, i) => ({
        promptTokenIds: Int32Array.from(
          await makePrompt(this.prompts, iteration * count + i),
        ),
        outputLen: this.flags.outputLen,
        params: { seedHi: iteration * count + i },
      })),
    );
  }

  /** The same batches with drafts and without, in turns; which of the two is first alternates. */
  private compare(requests: readonly BenchRequest[], iteration: number): void {
    const plain: Tally = { tokens: 0, seconds: 0, outputs: [] };
    const speculative: Tally = { tokens: 0, seconds: 0, outputs: [] };
    const { batchSize } = this;
    for (let first = 0; first < requests.length; first += batchSize) {
      const batch = requests.slice(first, first + batchSize);
      const order = [plain, speculative];
      if ((iteration + first / batchSize) % 2 === 1) order.reverse();
      for (const tally of order)
        this.run(batch, iteration, tally === speculative, tally);
    }
    if (JSON.stringify(plain.outputs) !== JSON.stringify(speculative.outputs))
      throw new OctavoError(
        "internal_error",
        `speculation changed an output (${this.prompts}, batch size ${batchSize}, iteration ${iteration})`,
      );
    this.speeds.plain.push(plain.tokens / plain.seconds);
    this.speeds.speculative.push(speculative.tokens / speculative.seconds);
    this.outputTokens += speculative.tokens;
  }

  private run(
    batch: readonly BenchRequest[],
    iteration: number,
    speculative: boolean,
    tally: Tally,
  ): void {
    const cacheSalt = `${this.prompts} ${this.batchSize} ${iteration} ${speculative}`;
    const numSpeculativeTokens = speculative ? null : 0;
    const requests = batch.map(({ params, ...request }) => ({
      ...request,
      cacheSalt,
      params: { ...params, numSpeculativeTokens },
    }));
    const outputs: number[][] = requests.map(() => []);
    const run = this.engine.run(requests, {
      temperature: this.flags.temperature,
      ignoreEos: this.prompts === "random",
      seed: this.flags.seed,
      onToken: (index, token) => outputs[index]?.push(token),
      onStep: (step) => this.noteStep(step, speculative),
    });
    const { tokens, seconds } = decodingOf(run);
    tally.tokens += tokens;
    tally.seconds += seconds;
    tally.outputs.push(...outputs);
  }

  /** Plain steps too, though nobody asks for them: noting takes time. */
  private noteStep(
    { tokens, seconds, draftSeconds }: Step,
    speculative: boolean,
  ): void {
    const noted = speculative ? this.noted : this.notedPlain;
    noted.seconds += seconds;
    noted.draftSeconds += draftSeconds;
    const steps = noted.steps.get(tokens) ?? [];
    steps.push(seconds - draftSeconds);
    noted.steps.set(tokens, steps);
  }

  private result(before: InProcessEngine["speculation"]): SpeculationCase {
    const { plain, speculative } = this.speeds;
    const after = this.engine.speculation;
    const since = (
      key: "numDrafts" | "numDraftTokens" | "numAcceptedTokens",
    ): number => (after?.[key] ?? 0) - (before?.[key] ?? 0);
    const numDrafts = since("numDrafts");
    const accepted = since("numAcceptedTokens");
    const plainSpeed = medianOf(plain);
    const speed = medianOf(speculative);
    const pairs = speculative.map((value, i) => value / (plain[i] ?? NaN));
    const sorted = Float64Array.from(pairs).sort();
    return {
      prompts: this.prompts,
      batch_size: this.batchSize,
      output_tokens: this.outputTokens,
      plain_tokens_per_second: plainSpeed,
      speculative_tokens_per_second: speed,
      speed_up: speed / plainSpeed,
      pairs,
      pair_quartiles: [
        percentile(sorted, 25),
        percentile(sorted, 50),
        percentile(sorted, 75),
      ],
      acceptance_length: numDrafts === 0 ? 1 : 1 + accepted / numDrafts,
      num_drafts: numDrafts,
      num_draft_tokens: since("numDraftTokens"),
      num_accepted_tokens: accepted,
      draft_share:
        this.noted.seconds === 0
          ? 0
          : this.noted.draftSeconds / this.noted.seconds,
      step_seconds_by_rows: this.rowCosts(),
    };
  }

  /** Without steps that computed prompts: they have more rows than any that verifies. */
  private rowCosts(): SpeculationCase["step_seconds_by_rows"] {
    const drafts =
      benchEngineConfig(this.flags).speculativeConfig?.numSpeculativeTokens ??
      0;
    return [...this.noted.steps]
      .filter(
        ([rows, steps]) =>
          steps.length >= MIN_STEPS && rows <= this.batchSize * (1 + drafts),
      )
      .sort(([a], [b]) => a - b)
      .map(([rows, steps]) => ({
        rows,
        steps: steps.length,
        seconds: medianOf(steps),
      }));
  }
}

/** From the first token of all to the last: prompts take what they take, with drafts or without. */
function decodingOf({ timings }: Run): { tokens: number; seconds: number } {
  const first = Math.max(...timings.map(({ firstToken }) => firstToken));
  const last = Math.max(...timings.map(({ lastToken }) => lastToken));
  const tokens = timings.reduce((sum, { outputLen }) => sum + outputLen - 1, 0);
  return { tokens, seconds: last - first };
}

function medianOf(values: readonly number[]): number {
  return percentile(Float64Array.from(values).sort(), 50);
}

function caseLines(result: SpeculationCase): string[] {
  const [low, middle, high] = result.pair_quartiles.map((x) => x.toFixed(3));
  const rows = thinned(result.step_seconds_by_rows).map(
    ({ rows, seconds }) => `${rows}: ${(seconds * 1e3).toPrecision(3)} ms`,
  );
  return [
    `${result.prompts}, batch ${result.batch_size}: ${result.speculative_tokens_per_second.toFixed(1)} tok/s, plain ${result.plain_tokens_per_second.toFixed(1)}: ${result.speed_up.toFixed(3)} x; pairs ${middle} (quartiles ${low} to ${high})`,
    `  acceptance length ${result.acceptance_length.toFixed(2)}, ${result.num_accepted_tokens} of ${result.num_draft_tokens} drafted tokens accepted in ${result.num_drafts} drafts for ${result.output_tokens} tokens; drafting took ${(100 * result.draft_share).toFixed(1)} % of the time`,
    `  step by rows: ${rows.join(", ")}`,
  ];
}

const MAX_SHOWN = 8;

/** At most so many, evenly. */
function thinned<T>(items: readonly T[]): T[] {
  const every = Math.ceil(items.length / MAX_SHOWN);
  return items.filter((_, i) => i % every === 0);
}
