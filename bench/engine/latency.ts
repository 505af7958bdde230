import { OctavoError } from "../../src/core/errors.js";
import { ProgressBar } from "../../src/cli/format.js";
import type { Machine } from "../machine.js";
import { Random } from "../random.js";
import { percentile, summarize } from "../serve/statistics.js";
import { benchEngineConfig, type EngineBenchFlags } from "./flags.js";
import { openEngine, type InProcessEngine, type Run } from "./in-process.js";

export interface LatencyFlags extends EngineBenchFlags {
  inputLen: number;
  outputLen: number;
  batchSize: number;
  numIters: number;
  numItersWarmup: number;
}

/** vLLM's keys first; the rest says what the time went to. Seconds. */
export interface LatencyResult {
  avg_latency: number;
  latencies: number[];
  percentiles: Record<string, number>;
  bench: "latency";
  model: string;
  quantization: string;
  seed: number;
  machine: Machine;
  input_len: number;
  output_len: number;
  batch_size: number;
  start_seconds: number;
  /** Medians over iterations: until every sequence has its first token; per further token. */
  median_prefill_seconds: number;
  median_tpot_seconds: number | null;
  prefill_tokens_per_second: number;
  decode_tokens_per_second_per_stream: number | null;
  decode_tokens_per_second: number | null;
}

/** vLLM's percentiles of `vllm bench latency`. */
const PERCENTILES = [10, 25, 50, 75, 90, 99];

/** `octavo bench latency`: one batch from prompt to last token, again and again. */
export async function runLatencyBench(
  flags: LatencyFlags,
  print: (line: string) => void,
): Promise<LatencyResult> {
  const { batchSize, inputLen, outputLen, seed } = flags;
  const config = benchEngineConfig(flags);
  if (batchSize > config.maxNumSeqs)
    throw new OctavoError(
      "invalid_config",
      `--batch-size: expected at most --max-num-seqs (${config.maxNumSeqs}), got ${batchSize}`,
      "batch-size",
    );
  const { machine, engine } = await openEngine(config, seed, print);
  try {
    const { info } = engine;
    print(
      `${batchSize} sequences of ${inputLen} + ${outputLen} tokens, ${flags.numItersWarmup} warm-up and ${flags.numIters} measured iterations`,
    );
    const random = new Random(seed);
    const requests = Array.from({ length: batchSize }, () => ({
      promptTokenIds: Int32Array.from({ length: inputLen }, () =>
        random.integer(0, info.vocabSize - 1),
      ),
      outputLen,
    }));
    const options = { temperature: 1, ignoreEos: true, seed };
    const bar = new ProgressBar("Iterations");
    const total = flags.numItersWarmup + flags.numIters;
    const runs: Run[] = [];
    for (let i = 0; i < total; i++) {
      const run = engine.run(requests, options);
      if (i >= flags.numItersWarmup) runs.push(run);
      bar.update(i + 1, total);
    }
    const result = latencyResult(flags, runs, machine, engine);
    latencyLines(result).forEach(print);
    return result;
  } finally {
    engine.close();
  }
}

function latencyResult(
  flags: LatencyFlags,
  runs: readonly Run[],
  machine: Machine,
  { info, startSeconds }: InProcessEngine,
): LatencyResult {
  const { inputLen, outputLen, batchSize } = flags;
  const latencies = runs.map(({ seconds }) => seconds);
  const all = summarize(latencies, PERCENTILES);
  const last = (run: Run): number =>
    Math.max(...run.timings.map(({ firstToken }) => firstToken));
  const prefill = medianOf(runs.map(last));
  const tpot =
    outputLen > 1
      ? medianOf(runs.map((run) => (run.seconds - last(run)) / (outputLen - 1)))
      : null;
  return {
    avg_latency: all.mean,
    latencies,
    percentiles: Object.fromEntries(
      Array.from(all.percentiles, ([p, value]) => [String(p), value]),
    ),
    bench: "latency",
    model: flags.model ?? "",
    quantization: info.quantization,
    seed: flags.seed,
    machine,
    input_len: inputLen,
    output_len: outputLen,
    batch_size: batchSize,
    start_seconds: startSeconds,
    median_prefill_seconds: prefill,
    median_tpot_seconds: tpot,
    prefill_tokens_per_second: (batchSize * inputLen) / prefill,
    decode_tokens_per_second_per_stream: tpot === null ? null : 1 / tpot,
    decode_tokens_per_second: tpot === null ? null : batchSize / tpot,
  };
}

function medianOf(values: readonly number[]): number {
  return percentile(Float64Array.from(values).sort(), 50);
}

function latencyLines(result: LatencyResult): string[] {
  const lines = [
    `Avg latency: ${result.avg_latency.toFixed(4)} seconds`,
    ...PERCENTILES.map(
      (p) =>
        `${p}% percentile latency: ${(result.percentiles[String(p)] ?? 0).toFixed(4)} seconds`,
    ),
    `Prefill (to every first token): ${(result.median_prefill_seconds * 1e3).toFixed(2)} ms, ${result.prefill_tokens_per_second.toFixed(1)} tok/s`,
  ];
  const { median_tpot_seconds: tpot } = result;
  if (tpot !== null)
    lines.push(
      `Decode: ${(tpot * 1e3).toFixed(3)} ms per token, ${(1 / tpot).toFixed(1)} tok/s per stream, ${(result.batch_size / tpot).toFixed(1)} tok/s in all`,
    );
  return lines;
}
