import type { GoldenReport } from "./golden.js";
import type { IdleFigures } from "./idle.js";
import type { VariantPrefill } from "./prefill.js";
import { readResult } from "./results.js";
import type { BenchRun } from "./server-runs.js";
import type { BatchFigures, ShapeLatency } from "./shape-latency.js";

/** passed null: nothing to judge by. */
export interface Target {
  name: string;
  wanted: string;
  got: string;
  passed: boolean | null;
  /** Of results rather than of time. */
  correctness: boolean;
}

/** What a transformers or llama.cpp peer wrote (device_peer.py). */
interface PeerResult {
  peer: string;
  absent?: string;
  batches?: {
    batchSize: number;
    prefillTokensPerSecond?: number;
    decodeTokensPerSecond?: number;
    absent?: string;
  }[];
}

const DECODE_SHARES = [
  { batchSize: 1, least: 0.7 },
  { batchSize: 64, least: 0.65 },
];
const PREFILL_SHARE = 0.4;
/** Where results may depend on the batch. */
const VARIANT_PREFILL_SHARE = 0.6;
const MOST_IDLE = 0.02;
/** Its times say nothing. */
const SIMULATED = "cuda-sim";

/** Tables and targets of what the parts left in the folder; a part that did not run is named as missing. */
export function summarizeResults(outputDir: string): {
  lines: string[];
  targets: Target[];
} {
  const read = <T>(name: string): T[] | null =>
    readResult(outputDir, name) as T[] | null;
  const latency = read<ShapeLatency>("latency");
  const idle = read<IdleFigures>("idle");
  const peers = read<PeerResult>("peers");
  const targets = [
    kernelTarget(readResult(outputDir, "kernels")),
    goldenTarget("golden models", read<GoldenReport>("models")),
    goldenTarget("logits against the reference", read<GoldenReport>("logits")),
    ...latencyTargets(latency ?? []),
    ...variantPrefillTargets(read<VariantPrefill>("prefill") ?? []),
    ...idleTargets(idle ?? []),
  ];
  return {
    targets,
    lines: [
      "",
      ...latencyTable(latency ?? []),
      ...servingLines(read<BenchRun>("serve"), read<BenchRun>("startup")),
      ...peerLines(peers),
      "",
      ...targetTable(targets),
    ],
  };
}

function kernelTarget(result: unknown): Target {
  const steps = (result as { steps?: Record<string, string> } | null)?.steps;
  const entries = Object.entries(steps ?? {});
  return {
    name: "kernels against simulator and reference",
    wanted: "all passed",
    got: entries.map(([step, state]) => `${step} ${state}`).join(", ") || "-",
    passed:
      entries.length === 0
        ? null
        : entries.every(([, state]) => !state.startsWith("failed")),
    correctness: true,
  };
}

function goldenTarget(name: string, reports: GoldenReport[] | null): Target {
  const worst = Math.max(
    0,
    ...(reports ?? []).map((report) =>
      Math.max(report.worstLogprob, report.worstPromptLogprob),
    ),
  );
  return {
    name,
    wanted: "clear tokens equal, log-probabilities within 0.03",
    got: reports
      ? `${reports.filter(({ passed }) => passed).length} of ${reports.length} models, within ${worst.toExponential(1)}`
      : "-",
    passed: reports && reports.every(({ passed }) => passed),
    correctness: true,
  };
}

function latencyTargets(latency: ShapeLatency[]): Target[] {
  return latency.flatMap(({ shape, batches, machine }) => {
    if (machine.device === SIMULATED) return [];
    const decode = DECODE_SHARES.map(({ batchSize, least }) => {
      const found = batches.find((one) => one.batchSize === batchSize);
      const name = `${shape}, decode at batch ${batchSize}`;
      return atLeast(name, least, "the floor", found?.decodeFloorShare);
    });
    const prefill = batches.map((one) => one.prefillMatrixShare ?? NaN);
    const best = prefill.length > 0 ? Math.max(...prefill) : NaN;
    const name = `${shape}, prefill at its best batch`;
    return [...decode, atLeast(name, PREFILL_SHARE, "the matrix rate", best)];
  });
}

function variantPrefillTargets(prefill: VariantPrefill[]): Target[] {
  return prefill
    .filter(({ device }) => device !== SIMULATED)
    .map(({ shape, batchSize, prefillMatrixShare, linearKernels }) =>
      atLeast(
        `${shape}, prefill at batch ${batchSize}, not batch-invariant (${linearKernels ?? "one way of computing"})`,
        VARIANT_PREFILL_SHARE,
        "the matrix rate",
        prefillMatrixShare,
      ),
    );
}

function atLeast(
  name: string,
  least: number,
  of: string,
  share: number | null | undefined,
): Target {
  const known = share !== null && share !== undefined && !Number.isNaN(share);
  return {
    name,
    wanted: `at least ${percent(least)} of ${of}`,
    got: known ? percent(share) : "-",
    passed: known ? share >= least : null,
    correctness: false,
  };
}

/** One step ahead is what is served; the other figure stands beside it. */
function idleTargets(idle: IdleFigures[]): Target[] {
  return idle
    .filter(({ oneStepAhead, device }) => oneStepAhead && device !== SIMULATED)
    .map((one) => {
      const other = idle.find(
        ({ shape, batchSize, oneStepAhead }) =>
          shape === one.shape && batchSize === one.batchSize && !oneStepAhead,
      );
      return {
        name: `${one.shape}, idle between steps at batch ${one.batchSize}`,
        wanted: `at most ${percent(MOST_IDLE)}`,
        got: `${percent(one.idleShare)} (not ahead: ${other ? percent(other.idleShare) : "-"})`,
        passed: one.idleShare <= MOST_IDLE,
        correctness: false,
      };
    });
}

function latencyTable(latency: ShapeLatency[]): string[] {
  if (latency.length === 0) return ["latency: not measured"];
  const rows = latency.flatMap(({ shape, startSeconds, batches }) =>
    batches.map((one) => latencyRow(shape, startSeconds, one)),
  );
  return [
    "| shape, INT4 | batch | ms a decode step | floor ms | of the floor | decoded tok/s | prefill tok/s | of the matrix rate | start s |",
    "|---|---|---|---|---|---|---|---|---|",
    ...rows,
  ];
}

function latencyRow(shape: string, start: number, one: BatchFigures): string {
  const share = (value: number | null): string =>
    value === null ? "-" : percent(value);
  const floor = one.decodeFloorSeconds;
  return `| ${[
    shape,
    one.batchSize,
    (one.decodeSeconds * 1e3).toFixed(2),
    floor === null ? "-" : (floor * 1e3).toFixed(2),
    share(one.decodeFloorShare),
    one.decodeTokensPerSecond.toFixed(0),
    one.prefillTokensPerSecond.toFixed(0),
    share(one.prefillMatrixShare),
    start.toFixed(1),
  ].join(" | ")} |`;
}

function servingLines(
  serve: BenchRun[] | null,
  startup: BenchRun[] | null,
): string[] {
  const started = (startup ?? []).map(({ shape, result }) => {
    const { median_first_token_time: seconds } = result as {
      median_first_token_time: number;
    };
    return `${shape}: ${seconds.toFixed(1)} s from octavo serve to the first answer`;
  });
  const served = (serve ?? []).map(({ shape, batchSize, result }) => {
    const figures = result as Record<string, number>;
    const one = (key: string): string => (figures[key] ?? NaN).toFixed(1);
    return `${shape}, ${batchSize} streams over HTTP: ${one("output_throughput")} tok/s, TTFT ${one("mean_ttft_ms")} ms, TPOT ${one("mean_tpot_ms")} ms`;
  });
  return [...started, ...served];
}

function peerLines(peers: PeerResult[] | null): string[] {
  if (!peers) return ["peers: not measured"];
  return peers.flatMap(({ peer, absent, batches = [] }) =>
    absent !== undefined
      ? [`${peer}: absent: ${absent}`]
      : batches.map((one) =>
          one.absent !== undefined
            ? `${peer}, batch ${one.batchSize}: ${one.absent}`
            : `${peer}, batch ${one.batchSize}: decode ${(one.decodeTokensPerSecond ?? NaN).toFixed(0)} tok/s, prefill ${(one.prefillTokensPerSecond ?? NaN).toFixed(0)} tok/s`,
        ),
  );
}

function targetTable(targets: Target[]): string[] {
  const word = (passed: boolean | null): string =>
    passed === null ? "not judged" : passed ? "pass" : "FAIL";
  return [
    "| target | wanted | got | |",
    "|---|---|---|---|",
    ...targets.map(
      ({ name, wanted, got, passed }) =>
        `| ${name} | ${wanted} | ${got} | ${word(passed)} |`,
    ),
  ];
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
