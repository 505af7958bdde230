import { LATENCIES, type Metrics } from "./metrics.js";
import type { Outcome } from "./outcome.js";
import type { SpecDecodeStats } from "./spec-decode.js";
import type { Sweep } from "./sweep.js";

/** What a run was asked to do, as the JSON says it. */
export interface RunFacts {
  backend: string;
  label: string | null;
  model: string;
  tokenizer: string;
  numPrompts: number;
  /** Infinity: all at once. */
  requestRate: number;
  /** Null where a trace says when. */
  burstiness: number | null;
  maxConcurrency: number | null;
  /** Of this run: each run of a sweep has its own. */
  seed: number;
}

/**
 * The result under the keys of `vllm bench serve --save-result`; with `detailed` also one entry per request, in the
 * order of arrival, times in seconds after the start of the run.
 */
export function jsonReport(
  facts: RunFacts,
  date: Date,
  duration: number,
  metrics: Metrics,
  specDecode: SpecDecodeStats | null,
  detailed: readonly Outcome[] | null,
): Record<string, unknown> {
  return {
    date: timestamp(date),
    endpoint_type: facts.backend,
    backend: facts.backend,
    label: facts.label,
    model_id: facts.model,
    tokenizer_id: facts.tokenizer,
    num_prompts: facts.numPrompts,
    // JSON has no infinity; vLLM writes the word.
    request_rate: facts.requestRate === Infinity ? "inf" : facts.requestRate,
    burstiness: facts.burstiness,
    max_concurrency: facts.maxConcurrency,
    duration,
    completed: metrics.completed,
    failed: metrics.failed,
    total_input_tokens: metrics.totalInputTokens,
    total_output_tokens: metrics.totalOutputTokens,
    request_throughput: metrics.requestThroughput,
    request_goodput: metrics.requestGoodput,
    output_throughput: metrics.outputThroughput,
    total_token_throughput: metrics.totalTokenThroughput,
    max_output_tokens_per_s: metrics.maxOutputTokensPerSecond,
    max_concurrent_requests: metrics.maxConcurrentRequests,
    ...latencyKeys(metrics),
    ...(specDecode && specDecodeKeys(specDecode)),
    ...(detailed && detailKeys(detailed)),
  };
}

/** All runs of a sweep in one object, in the order in which they ran. */
export function sweepReport(
  facts: RunFacts,
  date: Date,
  sweeps: readonly Sweep[],
  runs: readonly Record<string, unknown>[],
): Record<string, unknown> {
  return {
    date: timestamp(date),
    backend: facts.backend,
    label: facts.label,
    model_id: facts.model,
    num_prompts: facts.numPrompts,
    sweep: Object.fromEntries(
      sweeps.map(({ name, values }) => [
        name,
        values.map((value) => (value === Infinity ? "inf" : value)),
      ]),
    ),
    runs,
  };
}

function latencyKeys({ latencies }: Metrics): Record<string, number> {
  const keys: Record<string, number> = {};
  for (const name of LATENCIES) {
    const { mean, median, std, percentiles } = latencies[name];
    keys[`mean_${name}_ms`] = mean;
    keys[`median_${name}_ms`] = median;
    keys[`std_${name}_ms`] = std;
    for (const [p, value] of percentiles) keys[`p${p}_${name}_ms`] = value;
  }
  return keys;
}

function specDecodeKeys(stats: SpecDecodeStats): Record<string, unknown> {
  return {
    spec_decode_acceptance_rate: stats.acceptanceRate,
    spec_decode_acceptance_length: stats.acceptanceLength,
    spec_decode_num_drafts: stats.numDrafts,
    spec_decode_draft_tokens: stats.draftTokens,
    spec_decode_accepted_tokens: stats.acceptedTokens,
    spec_decode_per_position_acceptance_rates: stats.perPosition,
  };
}

function detailKeys(outcomes: readonly Outcome[]): Record<string, unknown> {
  return {
    input_lens: outcomes.map(({ promptLen }) => promptLen),
    output_lens: outcomes.map(({ outputLen }) => outputLen),
    ttfts: outcomes.map(({ ttft }) => ttft),
    itls: outcomes.map(({ itls }) => itls),
    start_times: outcomes.map(({ startTime }) => startTime),
    generated_texts: outcomes.map(({ text }) => text),
    errors: outcomes.map(({ error }) => error ?? ""),
  };
}

/** vLLM's name of a result: kind, rate, limit, model and date. */
export function resultFilename(facts: RunFacts, date: Date): string {
  const rate =
    facts.requestRate === Infinity
      ? "inf"
      : String(Number(facts.requestRate.toFixed(3)));
  const limit =
    facts.maxConcurrency === null ? "" : `-concurrency${facts.maxConcurrency}`;
  const model = facts.model.split(/[/\\]/).at(-1) ?? "";
  const name = `${facts.label ?? facts.backend}-${rate}qps${limit}-${model}-${timestamp(date)}`;
  return `${name.replace(/[/\\]/g, "_")}.json`;
}

/** YYYYMMDD-HHMMSS, local time. */
function timestamp(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}
