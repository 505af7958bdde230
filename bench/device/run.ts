import path from "node:path";
import { OctavoError } from "../../src/core/errors.js";
import { writeJson } from "../write-json.js";
import { compareGolden, goldenModels } from "./golden.js";
import type { GoldenReport } from "./golden.js";
import { measureIdle, type IdleFigures } from "./idle.js";
import type { Part } from "./parts.js";
import { measureVariantPrefill, type VariantPrefill } from "./prefill.js";
import { readCeilings } from "./results.js";
import {
  measureServing,
  measureStartup,
  measureThroughput,
  type BenchRun,
} from "./server-runs.js";
import {
  measureShape,
  type LoadFlags,
  type ShapeLatency,
} from "./shape-latency.js";
import { shapeConfig, type ShapeName } from "./shapes.js";
import { summarizeResults } from "./summary.js";

export interface DeviceBenchFlags extends LoadFlags {
  parts: readonly Part[];
  /** Folder of models with goldens; absent: none are compared. */
  models?: string;
  /** What the results of `models` are called. */
  modelsName: string;
  shapes: readonly ShapeName[];
  /** Folder with a JSON file for each part, and with ceilings.json where they were measured; absent: nothing is written. */
  outputDir?: string;
}

export interface DeviceBenchResult {
  models: GoldenReport[];
  latency: ShapeLatency[];
  prefill: VariantPrefill[];
  idle: IdleFigures[];
  startup: BenchRun[];
  serve: BenchRun[];
  throughput: BenchRun[];
}

/**
 * What a device has to show before its figures count, then its figures, part by part. Throws device_error when a golden model
 * comes out wrong, before anything is measured.
 */
export async function runDeviceBench(
  flags: DeviceBenchFlags,
  print: (line: string) => void,
): Promise<DeviceBenchResult> {
  const { shapes, outputDir } = flags;
  const ceilings = readCeilings(outputDir);
  const part = async <T>(
    name: Part,
    items: readonly ShapeName[],
    measure: (shape: ShapeName) => Promise<T | T[]>,
  ): Promise<T[]> => {
    if (!flags.parts.includes(name)) return [];
    print(`\n${name}`);
    const results: T[] = [];
    for (const item of items)
      results.push(...([await measure(item)].flat() as T[]));
    await writePart(outputDir, name, results);
    return results;
  };
  const [first] = shapes;
  if (flags.parts.includes("shapes"))
    await writePart(
      outputDir,
      "shapes",
      Object.fromEntries(shapes.map((name) => [name, shapeConfig(name)])),
    );
  return {
    models: await compareAll(flags, print),
    latency: await part("latency", shapes, (shape) =>
      measureShape(shape, flags, ceilings, print),
    ),
    prefill: await part("prefill", shapes, (shape) =>
      measureVariantPrefill(shape, flags, ceilings, print),
    ),
    idle: await part("idle", first ? [first] : [], (shape) =>
      measureIdle(shape, flags, print),
    ),
    startup: await part("startup", shapes, (shape) =>
      measureStartup(shape, flags),
    ),
    serve: await part("serve", shapes, (shape) => measureServing(shape, flags)),
    throughput: await part("throughput", shapes, (shape) =>
      measureThroughput(shape, flags),
    ),
  };
}

/** The summary of what lies in the output folder. Throws device_error where something in it is wrong. */
export async function summarizeFolder(
  outputDir: string,
  print: (line: string) => void,
): Promise<void> {
  const summary = summarizeResults(outputDir);
  summary.lines.forEach(print);
  await writePart(outputDir, "summary", summary.targets);
  const wrong = summary.targets.filter(
    ({ passed, correctness }) => correctness && passed === false,
  );
  if (wrong.length > 0)
    throw new OctavoError(
      "device_error",
      `wrong results: ${wrong.map(({ name }) => name).join(", ")}`,
    );
}

async function writePart(
  outputDir: string | undefined,
  name: string,
  results: unknown,
): Promise<void> {
  if (outputDir === undefined) return;
  await writeJson(path.join(outputDir, `${name}.json`), results);
}

async function compareAll(
  { parts, models, modelsName, device, outputDir }: DeviceBenchFlags,
  print: (line: string) => void,
): Promise<GoldenReport[]> {
  if (models === undefined || !parts.includes("models")) return [];
  const reports: GoldenReport[] = [];
  for (const model of goldenModels(models)) {
    const report = await compareGolden(models, model, device);
    reports.push(report);
    print(reportLine(report));
  }
  await writePart(outputDir, modelsName, reports);
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

function reportLine(report: GoldenReport): string {
  const prompt =
    report.promptPositions > 0
      ? `; ${report.promptPositions} prompt positions, ${report.wrongPromptTops} with another best token, within ${report.worstPromptLogprob.toExponential(1)}`
      : "";
  return (
    `${report.passed ? "equal" : "WRONG"}  ${report.model}: ${report.comparedTokens} tokens of ${report.prompts} prompts, ` +
    `${report.wrongTokens} wrong, log-probabilities within ${report.worstLogprob.toExponential(1)}${prompt}`
  );
}
