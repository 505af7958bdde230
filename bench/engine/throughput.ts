import { existsSync } from "node:fs";
import path from "node:path";
import { ProgressBar } from "../../src/cli/format.js";
import type { Machine } from "../machine.js";
import { loadDataset } from "../serve/dataset.js";
import { datasetSettings, type DatasetFlags } from "../serve/dataset-flags.js";
import { idVocabulary, localVocabulary } from "../serve/vocabulary.js";
import {
  benchEngineConfig,
  requireModel,
  type EngineBenchFlags,
} from "./flags.js";
import type { InProcessEngine } from "./in-process.js";
import { openEngine, type BenchRequest, type Run } from "./in-process.js";

export type ThroughputFlags = EngineBenchFlags &
  DatasetFlags & { temperature: number; ignoreEos: boolean };

/** vLLM's keys first. Tokens are prompt + output. */
export interface ThroughputResult {
  elapsed_time: number;
  num_requests: number;
  total_num_tokens: number;
  requests_per_second: number;
  tokens_per_second: number;
  bench: "throughput";
  model: string;
  quantization: string;
  dataset: string;
  seed: number;
  machine: Machine;
  total_prompt_tokens: number;
  total_output_tokens: number;
  output_tokens_per_second: number;
  steps: number;
  start_seconds: number;
}

/** `octavo bench throughput`: all requests at once, how long until the last has ended. */
export async function runThroughputBench(
  flags: ThroughputFlags,
  print: (line: string) => void,
): Promise<ThroughputResult> {
  const config = benchEngineConfig(flags);
  const { machine, engine } = await openEngine(config, flags.seed, print);
  try {
    const { info } = engine;
    const requests = await makeRequests(flags, info.vocabSize);
    print(`${requests.length} requests of ${flags.datasetName}, all at once`);
    const bar = new ProgressBar("Requests");
    const run = engine.run(requests, {
      temperature: flags.temperature,
      ignoreEos: flags.ignoreEos,
      seed: flags.seed,
      onFinished: (done, total) => bar.update(done, total),
    });
    const result = throughputResult(flags, run, machine, engine);
    throughputLines(result).forEach(print);
    return result;
  } finally {
    engine.close();
  }
}

/** Random prompts need no tokenizer: a model of made-up weights may have none. */
async function makeRequests(
  flags: ThroughputFlags,
  vocabSize: number,
): Promise<BenchRequest[]> {
  const directory = requireModel(flags);
  const vocabulary = existsSync(path.join(directory, "tokenizer.json"))
    ? await localVocabulary(directory)
    : idVocabulary(vocabSize);
  const samples = await loadDataset(datasetSettings(flags), {
    backend: "openai",
    vocabulary,
    asText: false,
  });
  return Promise.all(
    samples.map(async ({ prompt, outputLen }) => ({
      promptTokenIds:
        typeof prompt === "string"
          ? await vocabulary.encode(prompt, true)
          : prompt,
      outputLen,
    })),
  );
}

function throughputResult(
  flags: ThroughputFlags,
  { seconds, steps, timings }: Run,
  machine: Machine,
  { info, startSeconds }: InProcessEngine,
): ThroughputResult {
  const prompt = timings.reduce((sum, { promptLen }) => sum + promptLen, 0);
  const output = timings.reduce((sum, { outputLen }) => sum + outputLen, 0);
  return {
    elapsed_time: seconds,
    num_requests: timings.length,
    total_num_tokens: prompt + output,
    requests_per_second: timings.length / seconds,
    tokens_per_second: (prompt + output) / seconds,
    bench: "throughput",
    model: flags.model ?? "",
    quantization: info.quantization,
    dataset: flags.datasetName,
    seed: flags.seed,
    machine,
    total_prompt_tokens: prompt,
    total_output_tokens: output,
    output_tokens_per_second: output / seconds,
    steps,
    start_seconds: startSeconds,
  };
}

function throughputLines(result: ThroughputResult): string[] {
  return [
    `Throughput: ${result.requests_per_second.toFixed(2)} requests/s, ${result.tokens_per_second.toFixed(2)} total tokens/s, ${result.output_tokens_per_second.toFixed(2)} output tokens/s`,
    `Total num prompt tokens:  ${result.total_prompt_tokens}`,
    `Total num output tokens:  ${result.total_output_tokens}`,
    `Elapsed: ${result.elapsed_time.toFixed(3)} s in ${result.steps} steps`,
  ];
}
