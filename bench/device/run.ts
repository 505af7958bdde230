import { OctavoError } from "../../src/core/errors.js";
import { runLatencyBench } from "../engine/latency.js";
import type { LatencyFlags, LatencyResult } from "../engine/latency.js";
import type { EngineConfig } from "../../src/core/config.js";
import { compareGolden, goldenModels } from "./golden.js";
import type { GoldenReport } from "./golden.js";
import { withShape } from "./shapes.js";
import type { ShapeName } from "./shapes.js";

export interface DeviceBenchFlags {
  device: EngineConfig["device"];
  /** Folder of models with goldens; absent: none are compared. */
  models?: string;
  shapes: ShapeName[];
  batchSizes: number[];
  inputLen: number;
  outputLen: number;
  numIters: number;
  outputJson?: string;
}

export interface DeviceBenchResult {
  bench: "device";
  golden: GoldenReport[];
  latency: (LatencyResult & { shape: ShapeName })[];
}

/**
 * What a device has to show before its figures count, then its figures: golden models, then decoding and prefill at the
 * published shapes. Throws device_error when a golden model comes out wrong, before anything is measured.
 */
export async function runDeviceBench(
  flags: DeviceBenchFlags,
  print: (line: string) => void,
): Promise<DeviceBenchResult> {
  const golden = await compareAll(flags, print);
  const latency: DeviceBenchResult["latency"] = [];
  for (const shape of flags.shapes)
    for (const batchSize of flags.batchSizes) {
      print(`\n${shape}, batch ${batchSize}`);
      const result = await withShape(shape, (directory) =>
        runLatencyBench(latencyFlags(flags, directory, batchSize), print),
      );
      latency.push({ ...result, shape });
    }
  print("");
  summary(latency).forEach(print);
  return { bench: "device", golden, latency };
}

async function compareAll(
  { models, device }: DeviceBenchFlags,
  print: (line: string) => void,
): Promise<GoldenReport[]> {
  if (models === undefined) return [];
  const reports: GoldenReport[] = [];
  for (const model of goldenModels(models)) {
    const report = await compareGolden(models, model, device);
    reports.push(report);
    print(
      `${report.passed ? "equal" : "WRONG"}  ${model}: ${report.comparedTokens} tokens of ${report.prompts} prompts, ` +
        `${report.wrongTokens} wrong, log-probabilities within ${report.worstLogprob.toExponential(1)}`,
    );
  }
  const wrong = reports.filter(({ passed }) => !passed);
  if (reports.length > 0 && wrong.length === 0) return reports;
  throw new OctavoError(
    "device_error",
    reports.length === 0
      ? `--models ${models}: expected folders with a golden.json, got none`
      : `${wrong.length} of ${reports.length} golden models are wrong on ${device}: ${wrong.map(({ model }) => model).join(", ")}`,
    "models",
  );
}

function latencyFlags(
  { device, inputLen, outputLen, numIters }: DeviceBenchFlags,
  directory: string,
  batchSize: number,
): LatencyFlags {
  return {
    model: directory,
    seed: 0,
    device,
    loadFormat: "dummy",
    enablePrefixCaching: false,
    maxNumSeqs: Math.max(64, batchSize),
    maxModelLen: Math.max(2048, inputLen + outputLen),
    inputLen,
    outputLen,
    batchSize,
    numIters,
    numItersWarmup: 1,
  };
}

/** Markdown, to be pasted beside the floors. */
function summary(latency: DeviceBenchResult["latency"]): string[] {
  const rate = (value: number | null): string =>
    value === null ? "-" : value.toFixed(0);
  return [
    "| shape, INT4 | batch | ms a decode step | decoded tok/s | prefill tok/s | start s |",
    "|---|---|---|---|---|---|",
    ...latency.map(
      (r) =>
        `| ${r.shape} | ${r.batch_size} | ${((r.median_tpot_seconds ?? NaN) * 1e3).toFixed(2)} | ${rate(r.decode_tokens_per_second)} | ` +
        `${rate(r.prefill_tokens_per_second)} | ${r.start_seconds.toFixed(1)} |`,
    ),
  ];
}
