import { describe, expect, it } from "vitest";
import { compareResults, parseResult } from "../../bench/serve/compare.js";
import type { Metrics } from "../../bench/serve/metrics.js";
import { failureLines, latenessLine } from "../../bench/serve/notes.js";
import type { Outcome } from "../../bench/serve/outcome.js";
import {
  jsonReport,
  resultFilename,
  type RunFacts,
} from "../../bench/serve/report.js";
import {
  parseSpecDecode,
  specDecodeStats,
} from "../../bench/serve/spec-decode.js";
import { renderTable } from "../../bench/serve/table.js";

const summary = (mean: number) => ({
  mean,
  median: mean + 1,
  std: mean + 2,
  percentiles: new Map([
    [50, mean + 1],
    [99.9, mean + 3],
  ]),
});
const metrics: Metrics = {
  completed: 98,
  failed: 2,
  totalInputTokens: 12345,
  totalOutputTokens: 6789,
  requestThroughput: 9.8,
  requestGoodput: 9.75,
  outputThroughput: 678.9,
  totalTokenThroughput: 1913.4,
  maxOutputTokensPerSecond: 800,
  maxConcurrentRequests: 16,
  latencies: {
    ttft: summary(10),
    tpot: summary(20),
    itl: summary(30),
    e2el: summary(40),
  },
};
const stats = {
  numDrafts: 6393,
  draftTokens: 19179,
  acceptedTokens: 14090,
  acceptanceRate: 73.466,
  acceptanceLength: 3.204,
  perPosition: [0.85, 0.5],
};
const facts: RunFacts = {
  backend: "openai",
  label: null,
  model: "org/model",
  tokenizer: "org/model",
  numPrompts: 100,
  requestRate: Infinity,
  burstiness: 1,
  maxConcurrency: null,
  seed: 0,
};
const date = new Date(2026, 0, 2, 3, 4, 5);

describe("the table", () => {
  it("has every row in its place, with everything on", () => {
    const table = renderTable(metrics, 10, stats, {
      maxConcurrency: 16,
      requestRate: 10,
      percentileMetrics: ["ttft", "tpot", "itl", "e2el"],
    });
    // Values stand in a column of ten, from column 42 on.
    expect(table.split("\n").map((line) => line.trimEnd())).toEqual([
      "============ Serving Benchmark Result ============",
      "Successful requests:                     98",
      "Failed requests:                         2",
      "Maximum request concurrency:             16",
      "Request rate configured (RPS):           10.00",
      "Benchmark duration (s):                  10.00",
      "Total input tokens:                      12345",
      "Total generated tokens:                  6789",
      "Request throughput (req/s):              9.80",
      "Request goodput (req/s):                 9.75",
      "Output token throughput (tok/s):         678.90",
      "Peak output token throughput (tok/s):    800.00",
      "Peak concurrent requests:                16.00",
      "Total token throughput (tok/s):          1913.40",
      "---------------Time to First Token----------------",
      "Mean TTFT (ms):                          10.00",
      "Median TTFT (ms):                        11.00",
      "P50 TTFT (ms):                           11.00",
      "P99.9 TTFT (ms):                         13.00",
      "-----Time per Output Token (excl. 1st token)------",
      "Mean TPOT (ms):                          20.00",
      "Median TPOT (ms):                        21.00",
      "P50 TPOT (ms):                           21.00",
      "P99.9 TPOT (ms):                         23.00",
      "---------------Inter-token Latency----------------",
      "Mean ITL (ms):                           30.00",
      "Median ITL (ms):                         31.00",
      "P50 ITL (ms):                            31.00",
      "P99.9 ITL (ms):                          33.00",
      "----------------End-to-end Latency----------------",
      "Mean E2EL (ms):                          40.00",
      "Median E2EL (ms):                        41.00",
      "P50 E2EL (ms):                           41.00",
      "P99.9 E2EL (ms):                         43.00",
      "---------------Speculative Decoding---------------",
      "Acceptance rate (%):                     73.47",
      "Acceptance length:                       3.20",
      "Drafts:                                  6393",
      "Draft tokens:                            19179",
      "Accepted tokens:                         14090",
      "Per-position acceptance (%):",
      "  Position 0:                            85.00",
      "  Position 1:                            50.00",
      "==================================================",
      "",
    ]);
    expect(table).toContain(
      "Failed requests:                         2         \n",
    );
  });

  it("leaves out what was not asked for", () => {
    const table = renderTable({ ...metrics, requestGoodput: null }, 1, null, {
      maxConcurrency: null,
      requestRate: Infinity,
      percentileMetrics: ["itl"],
    });
    expect(table).not.toMatch(
      /concurrency|configured|goodput|First Token|per Output|End-to-end|Speculative/,
    );
    expect(table).toContain("Inter-token Latency");
  });
});

const BASE_KEYS =
  "date endpoint_type backend label model_id tokenizer_id num_prompts request_rate burstiness max_concurrency duration completed failed total_input_tokens total_output_tokens request_throughput request_goodput output_throughput total_token_throughput max_output_tokens_per_s max_concurrent_requests".split(
    " ",
  );
const DETAIL_KEYS =
  "input_lens output_lens ttfts itls start_times generated_texts errors".split(
    " ",
  );

describe("the JSON", () => {
  const latencyKeys = ["ttft", "tpot", "itl", "e2el"].flatMap((name) =>
    ["mean", "median", "std", "p50", "p99.9"].map((of) => `${of}_${name}_ms`),
  );

  it("has exactly the keys of the specification", () => {
    const report = jsonReport(facts, date, 10, metrics, null, null);
    expect(Object.keys(report)).toEqual([...BASE_KEYS, ...latencyKeys]);
    expect(report).toMatchObject({
      date: "20260102-030405",
      endpoint_type: "openai",
      label: null,
      request_rate: "inf",
      max_concurrency: null,
      request_goodput: 9.75,
      mean_ttft_ms: 10,
      "p99.9_e2el_ms": 43,
    });
  });

  it("adds speculation and every request where wanted", () => {
    const outcome: Outcome = {
      error: "HTTP 503",
      promptLen: 3,
      outputLen: 0,
      startTime: 1.5,
      ttft: 0,
      itls: [],
      latency: 0.1,
      text: "",
      usageReported: false,
    };
    const report = jsonReport(facts, date, 10, metrics, stats, [
      outcome,
      { ...outcome, error: null, text: "a" },
    ]);
    expect(Object.keys(report)).toEqual([
      ...BASE_KEYS,
      ...latencyKeys,
      ...[
        "acceptance_rate",
        "acceptance_length",
        "num_drafts",
        "draft_tokens",
        "accepted_tokens",
        "per_position_acceptance_rates",
      ].map((key) => `spec_decode_${key}`),
      ...DETAIL_KEYS,
    ]);
    expect(report).toMatchObject({
      input_lens: [3, 3],
      start_times: [1.5, 1.5],
      generated_texts: ["", "a"],
      errors: ["HTTP 503", ""],
    });
  });

  it("has a name that says what was run", () => {
    expect(resultFilename(facts, date)).toBe(
      "openai-infqps-model-20260102-030405.json",
    );
    const other = {
      ...facts,
      label: "a/b",
      requestRate: 2.5,
      maxConcurrency: 8,
    };
    expect(resultFilename(other, date)).toBe(
      "a_b-2.5qps-concurrency8-model-20260102-030405.json",
    );
  });
});

describe("speculation in /metrics", () => {
  const exposition = (drafts: number, tokens: number, accepted: number[]) =>
    [
      "# TYPE vllm:spec_decode_num_drafts_total counter",
      `vllm:spec_decode_num_drafts_total{model_name="m",engine="0"} ${drafts}`,
      `vllm:spec_decode_num_drafts_total{model_name="m",engine="1"} 0`,
      `vllm:spec_decode_num_draft_tokens_total{model_name="m",engine="0"} ${tokens}`,
      `vllm:spec_decode_num_accepted_tokens_total{model_name="m"} ${accepted.reduce((a, b) => a + b, 0)}`,
      ...accepted.map(
        (count, i) =>
          `vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name="m",position="${i}"} ${count}`,
      ),
      "vllm:generation_tokens_total 5",
    ].join("\n");

  it("is the difference of two readings", () => {
    const before = parseSpecDecode(exposition(10, 30, [9, 5, 1]));
    const after = parseSpecDecode(exposition(30, 90, [25, 15, 5]));
    expect(specDecodeStats(before, after)).toEqual({
      numDrafts: 20,
      draftTokens: 60,
      acceptedTokens: 30,
      acceptanceRate: 50,
      acceptanceLength: 2.5,
      perPosition: [0.8, 0.5, 0.2],
    });
  });

  it("is nothing where the server does not speculate, or did not", () => {
    expect(parseSpecDecode("vllm:generation_tokens_total 5\n")).toBeNull();
    const same = parseSpecDecode(exposition(10, 30, [9]));
    expect(specDecodeStats(same, same)).toBeNull();
    expect(specDecodeStats(null, null)).toBeNull();
  });
});

describe("--compare", () => {
  const a = {
    ...jsonReport(facts, date, 10, metrics, null, null),
    failed: 0,
  };

  it("finds nothing wrong with the same figures, or better ones", () => {
    expect(compareResults(a, a, 5).regressions).toEqual([]);
    const better = { ...a, request_throughput: 20, mean_ttft_ms: 1 };
    const { table, regressions } = compareResults(a, better, 5);
    expect(regressions).toEqual([]);
    expect(table).toMatch(/^request_throughput +9\.80 +20\.00 +2\.041$/m);
  });

  it("names what got worse by more than the threshold", () => {
    const worse = {
      ...a,
      output_throughput: 678.9 * 0.94,
      request_throughput: 9.8 * 0.96,
      mean_itl_ms: 31.6,
      median_itl_ms: 32.5,
      std_itl_ms: 1000,
      failed: 1,
    };
    const { table, regressions } = compareResults(a, worse, 5);
    expect(regressions).toEqual(["output_throughput", "mean_itl_ms", "failed"]);
    expect(table).toMatch(/^mean_itl_ms +30\.00 +31\.60 +1\.053 {2}worse$/m);
    expect(compareResults(a, worse, 7).regressions).toEqual(["failed"]);
  });

  it("says where the runs were not the same, and what is missing", () => {
    const { mean_e2el_ms: _, ...rest } = a as Record<string, unknown>;
    const { table } = compareResults(a, { ...rest, request_rate: 4 }, 5);
    expect(table).toContain('Note: request_rate is "inf" in a and 4 in b.');
    expect(table).toMatch(/^mean_e2el_ms +40\.00 +missing/m);
  });

  it("refuses what is no result", () => {
    expect(() => parseResult("a.json", "[1")).toThrow(/a\.json is no result/);
    expect(() => parseResult("a.json", "{}")).toThrow(/request_throughput/);
    expect(parseResult("a.json", JSON.stringify(a))["failed"]).toBe(0);
  });
});

describe("notes", () => {
  it("group failures by reason, the commonest first", () => {
    const failed = (error: string | null, usageReported = true): Outcome => ({
      error,
      promptLen: 0,
      outputLen: 0,
      startTime: 0,
      ttft: 0,
      itls: [],
      latency: 0,
      text: "",
      usageReported,
    });
    const many = Array.from({ length: 12 }, (_, i) => failed(`reason ${i}`));
    const lines = failureLines([
      failed(null),
      failed(null, false),
      ...many,
      failed("reason 11"),
    ]);
    expect(lines[0]).toBe("2 failed: reason 11");
    expect(lines[10]).toBe(
      "2 failed for other reasons (all in --save-detailed)",
    );
    expect(lines[11]).toMatch(/^1 answers came without usage/);
  });

  it("say how late the client was", () => {
    expect(latenessLine([0, 0.001, 0.002])).toBe(
      "Requests were sent late by 1.00 ms (median), 1.98 ms (P99), 2.00 ms (most).",
    );
  });
});
