import { Command, InvalidArgumentError } from "commander";
import { existsSync } from "node:fs";
import path from "node:path";
import { OctavoError } from "../core/errors.js";
import type { LinearReport } from "../quantize/layer-quantizer.js";
import type { QuantizeReport } from "../quantize/quantize.js";
import { findModel } from "./find-model.js";
import { integer } from "./flags.js";
import { formatBytes, formatCount, ProgressBar } from "./format.js";

interface Flags {
  revision?: string;
  out: string;
  groupSize: number;
  calib?: string;
  calibTokens: number;
  modulesToNotConvert?: string[];
  modelFile?: string;
  overwrite?: boolean;
  scale: boolean;
  clip: boolean;
  threads: number;
}

/** Text that a model directory may bring along, to calibrate on. */
const OWN_CALIBRATION = "calibration.txt";
const GROUP_SIZES = [32, 64, 128];

/** `octavo quantize MODEL --out DIR`: a dense checkpoint as INT4. */
export function quantizeCommand(): Command {
  return new Command("quantize")
    .description(
      "Quantize a dense model to INT4 (activation-aware, AutoAWQ's gemm layout).",
    )
    .argument(
      "<model>",
      "dense model: a directory in the Hugging Face layout, or a hub name (OWNER/NAME)",
    )
    .option("--revision <name>", "branch, tag or commit of a hub name")
    .requiredOption(
      "--out <dir>",
      "directory to write; must not exist or be empty",
    )
    .option(
      "--group-size <n>",
      "inputs that share a scale: 32, 64 or 128",
      parseGroupSize,
      128,
    )
    .option(
      "--calib <file>",
      `text that the model is used on, UTF-8 (default: ${OWN_CALIBRATION} in the model's directory)`,
    )
    .option(
      "--calib-tokens <n>",
      "tokens of it to calibrate on; a quarter as many more measure perplexity",
      integer(512, 1 << 20),
      4096,
    )
    .option(
      "--modules-to-not-convert <name...>",
      "linears to leave in f16, by a part of their name",
    )
    .option(
      "--model-file <file>",
      "a .ts or .js file that describes the architecture",
    )
    .option("--overwrite", "replace the model in --out")
    .option("--no-scale", "no scale search: plain rounding, to compare with")
    .option("--no-clip", "no search for where to clip")
    .option(
      "--threads <n>",
      "threads; 0: one per physical core",
      integer(0, 512),
      0,
    )
    .action(async (model: string, flags: Flags) => {
      await run(model, flags);
    });
}

function parseGroupSize(text: string): number {
  const size = Number(text);
  if (!GROUP_SIZES.includes(size))
    throw new InvalidArgumentError(
      `Expected ${GROUP_SIZES.join(", ")}, got "${text}".`,
    );
  return size;
}

async function run(name: string, flags: Flags): Promise<void> {
  const { directory: model } = await findModel(name, {
    revision: flags.revision,
  });
  const { quantize } = await import("../quantize/quantize.js");
  const bars = {
    quantize: new ProgressBar("Quantizing"),
    measure: new ProgressBar("Measuring"),
  };
  const report = await quantize({
    ...flags,
    model,
    modelFile: flags.modelFile ?? null,
    overwrite: flags.overwrite ?? false,
    calib: flags.calib ?? ownCalibration(model),
    modulesToNotConvert: flags.modulesToNotConvert ?? [],
    signal: stopOnSignals(),
    onProgress: (phase, done, total) => bars[phase].update(done, total),
  });
  process.stdout.write(`${reportTable(report, path.resolve(flags.out))}\n`);
}

/** A model directory's own text; without one it has to be named, as it decides what the result is good at. */
function ownCalibration(model: string): string {
  const file = path.join(model, OWN_CALIBRATION);
  if (existsSync(file)) return file;
  throw new OctavoError(
    "invalid_config",
    `--calib: expected a text file: ${model} has no ${OWN_CALIBRATION}. Some thousand tokens of what the model will read and write, chat markers included, are enough.`,
    "calib",
  );
}

/** Aborted by SIGINT or SIGTERM, so that what was half written is deleted. */
function stopOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.once(name, () =>
      controller.abort(
        new OctavoError(
          "request_aborted",
          `${name}: stopped; nothing is left in --out.`,
        ),
      ),
    );
  return controller.signal;
}

/** What was done and what it cost, for people. */
export function reportTable(report: QuantizeReport, out: string): string {
  const { perplexity, bytes, calibration } = report;
  const change = (perplexity.after / perplexity.before - 1) * 100;
  const rows = [
    ["Layer", "Error: rounded", "scaled", "clipped"],
    ...layersOf(report.linears).map(([layer, linears]) => [
      layer,
      percent(rms(linears, (linear) => linear.roundedError)),
      percent(rms(linears, (linear) => linear.scaledError)),
      percent(rms(linears, (linear) => linear.finalError)),
    ]),
  ];
  const widths = [0, 1, 2, 3].map((i) =>
    Math.max(...rows.map((row) => row[i]?.length ?? 0)),
  );
  const lines = rows.map((row) =>
    row
      .map((cell, i) =>
        i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
      )
      .join("  "),
  );
  return [
    ...lines,
    "",
    `Calibration  ${formatCount(calibration.tokens)} tokens of ${calibration.file}`,
    `Perplexity   ${perplexity.before.toFixed(4)} -> ${perplexity.after.toFixed(4)} (${change >= 0 ? "+" : ""}${change.toFixed(2)} %) over ${formatCount(perplexity.tokens)} held-out tokens`,
    `Weights      ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)} (group size ${report.group_size})`,
    `Time         ${report.seconds.toFixed(1)} s`,
    `Written to   ${out}`,
  ].join("\n");
}

/** Linears by layer: the name up to its number ("model.layers.3"), or the whole name. */
function layersOf(
  linears: readonly LinearReport[],
): [string, LinearReport[]][] {
  const layers = new Map<string, LinearReport[]>();
  for (const linear of linears) {
    const layer = /^.*?\.\d+(?=\.)/.exec(linear.name)?.[0] ?? linear.name;
    layers.set(layer, [...(layers.get(layer) ?? []), linear]);
  }
  return [...layers];
}

function rms(
  linears: readonly LinearReport[],
  error: (linear: LinearReport) => number,
): number {
  const sum = linears.reduce((total, linear) => total + error(linear) ** 2, 0);
  return Math.sqrt(sum / linears.length);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}
