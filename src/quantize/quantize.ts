import { writeFileSync } from "node:fs";
import path from "node:path";
import type { Graph } from "../../models/graph.js";
import { OctavoError } from "../core/errors.js";
import { describeModel, prepareModel } from "../engine/prepare-model.js";
import type { DescribedModel } from "../engine/prepare-model.js";
import { parseQuantization } from "../loader/quantization.js";
import { WeightResolver } from "../program/weights.js";
import { loadAddon } from "../runner/addon.js";
import type { NativeQuantizer } from "../runner/addon.js";
import { fromNativeError, translated } from "../runner/native-runner.js";
import { loadTokenizer } from "../text/tokenizer.js";
import { makeCalibration, readCalibrationText } from "./calibration.js";
import type { Calibration } from "./calibration.js";
import { writeDenseTensors } from "./dense-writer.js";
import { LayerQuantizer } from "./layer-quantizer.js";
import type { LinearReport } from "./layer-quantizer.js";
import { copySideFiles, openOutput, requireRoom } from "./output-directory.js";
import { denseTensors, packedTensors } from "./output-tensors.js";
import type { DenseTensor } from "./output-tensors.js";
import { headModules, planQuantization } from "./plan.js";
import type { QuantizationPlan } from "./plan.js";
import { safetensorsBytes, SafetensorsWriter } from "./safetensors-writer.js";
import type { OutputTensor } from "./safetensors-writer.js";
import { walk, weightsOf } from "./walk.js";
import type { Sequences } from "./walk.js";

export interface QuantizeOptions {
  /** Directory of a dense model. */
  model: string;
  modelFile: string | null;
  out: string;
  overwrite: boolean;
  groupSize: number;
  /** A text file. */
  calib: string;
  /** Tokens to calibrate on, at most; a quarter as many more to measure perplexity. */
  calibTokens: number;
  /** Parts of names of linears that stay as they are. */
  modulesToNotConvert: readonly string[];
  /** False leaves a step of the method out, to see what it is worth. */
  scale: boolean;
  clip: boolean;
  /** 0: one per physical core. */
  threads: number;
  signal: AbortSignal;
  /** `done` of `total` weights, in one of two passes. */
  onProgress: (
    phase: "quantize" | "measure",
    done: number,
    total: number,
  ) => void;
}

/** quantize-report.json */
export interface QuantizeReport {
  model: string;
  group_size: number;
  scale_search: boolean;
  clip_search: boolean;
  calibration: { file: string; tokens: number; held_out_tokens: number };
  /** Over `tokens` predicted tokens of the held-out part. */
  perplexity: { before: number; after: number; tokens: number };
  /** Of all safetensors files. */
  bytes: { before: number; after: number };
  seconds: number;
  linears: LinearReport[];
}

/** What both passes know of the model. */
interface Work {
  model: DescribedModel;
  weights: WeightResolver;
  native: NativeQuantizer;
  plan: QuantizationPlan;
  calibration: Calibration;
  dense: DenseTensor[];
  /** quantization_config of the result. */
  config: Record<string, unknown>;
}

/**
 * Quantizes a dense model to INT4 in AutoAWQ's gemm layout, and measures what that changes. In memory: the activations
 * of the calibration text, and the linears that share one input.
 * Errors: `invalid_config` naming the flag at fault, `invalid_model`, `unsupported_model`; the signal's reason when it
 * is aborted. Nothing is left under --out then.
 */
export async function quantize(
  options: QuantizeOptions,
): Promise<QuantizeReport> {
  const started = performance.now();
  const text = readCalibrationText(options.calib);
  const work = await prepare(options, text);
  const output = openOutput(
    options.out,
    work.model.directory,
    options.overwrite,
  );
  try {
    const { partial } = output;
    const { reports, loss, count, bytes } = await quantizeInto(
      work,
      options,
      partial,
    );
    const after = await measureResult(work, options, partial);
    const report: QuantizeReport = {
      model: work.model.directory,
      group_size: options.groupSize,
      scale_search: options.scale,
      clip_search: options.clip,
      calibration: {
        file: path.resolve(options.calib),
        tokens: work.calibration.numTokens,
        held_out_tokens: work.calibration.numHeldOutTokens,
      },
      perplexity: {
        before: Math.exp(loss),
        after: Math.exp(after),
        tokens: count,
      },
      bytes: { before: work.model.checkpoint.fileBytes, after: bytes },
      seconds: (performance.now() - started) / 1000,
      linears: reports,
    };
    writeJson(path.join(partial, "quantize-report.json"), report);
    output.commit();
    return report;
  } catch (error) {
    output.abandon();
    throw fromNativeError(error);
  }
}

async function prepare(options: QuantizeOptions, text: string): Promise<Work> {
  const { model: directory, modelFile, groupSize } = options;
  const source = { model: directory, modelFile, loadFormat: "auto" as const };
  // Lowering is what checks every tensor against the architecture.
  const { quantization: came } = await prepareModel(source);
  const model = await describeModel(source);
  if (model.quantization.method !== "none")
    throw new OctavoError(
      "invalid_config",
      `${directory} is quantized already (${came}). Expected a dense model: f32, f16 or bf16.`,
      "model",
    );
  const dense = [...options.modulesToNotConvert, ...otherHeads(model.graph)];
  const config = {
    quant_method: "awq",
    bits: 4,
    group_size: groupSize,
    zero_point: true,
    version: "gemm",
    modules_to_not_convert: dense.length > 0 ? dense : null,
  };
  // The plan asks the reader, so that what is written is what will be read.
  const target = parseQuantization({ quantization_config: config });
  const plan = planQuantization(model.graph, target);
  const weights = new WeightResolver(
    { kind: "checkpoint", tensors: model.checkpoint.tensors },
    model.quantization,
  );
  const calibration = await makeCalibration(
    text,
    await loadTokenizer(model.directory),
    options.calibTokens,
    model.config.maxPositionEmbeddings,
    model.config.bosTokenId,
  );
  checkTokenIds(calibration.sequences, model.graph);
  const native = translated(
    () => new (loadAddon().Quantizer)(model.checkpoint.files, options.threads),
  );
  const kept = denseTensors(model.graph, weights, plan);
  return { model, weights, native, plan, calibration, dense: kept, config };
}

/** The reader leaves lm_head dense by itself. */
function otherHeads(graph: Graph): string[] {
  return headModules(graph).filter((module) => !module.includes("lm_head"));
}

/** A tokenizer may know more tokens than the model has rows for. */
function checkTokenIds({ tokenIds }: Sequences, graph: Graph): void {
  const { width } = graph.logits;
  const bad = tokenIds.find((id) => id >= width);
  if (bad !== undefined)
    throw new OctavoError(
      "invalid_model",
      `tokenizer.json: expected ids below the model's vocabulary of ${width}, got ${bad} for the calibration text`,
      "tokenizer.json",
    );
}

async function quantizeInto(
  work: Work,
  options: QuantizeOptions,
  partial: string,
): Promise<{
  reports: LinearReport[];
  loss: number;
  count: number;
  bytes: number;
}> {
  const { model, weights, native, plan, calibration } = work;
  const { graph } = model;
  const tensors = outputTensors(work, options.groupSize);
  requireRoom(partial, safetensorsBytes(tensors));
  const writer = new SafetensorsWriter(
    path.join(partial, "model.safetensors"),
    tensors,
  );
  try {
    const layers = new LayerQuantizer(
      plan,
      weights,
      native,
      writer,
      { ...options, numRows: calibration.numTokens },
      options.signal,
    );
    const { meanLoss, count } = await walk(
      {
        ...{ graph, weights, native, signal: options.signal },
        sequences: calibration.sequences,
        onValue: (value, rows) => layers.take(value, rows),
        onProgress: progressOf(graph, "quantize", options),
      },
      calibration.numSequences,
    );
    await writeDenseTensors(work.dense, layers, native, writer, options.signal);
    writer.finish();
    copySideFiles(model.directory, partial);
    writeJson(path.join(partial, "config.json"), resultConfig(work));
    const { reports } = layers;
    return { reports, loss: meanLoss, count, bytes: writer.fileBytes };
  } catch (error) {
    writer.close();
    throw error;
  }
}

function outputTensors(work: Work, groupSize: number): OutputTensor[] {
  const dense = work.dense.map(({ name, source }): OutputTensor => {
    return { name, dtype: "F16", shape: source.shape };
  });
  return [...dense, ...packedTensors(work.model.graph, work.plan, groupSize)];
}

function resultConfig({ model, config }: Work): Record<string, unknown> {
  const values: Record<string, unknown> = { ...model.values };
  // transformers' two spellings; a config has the older one unless it says otherwise.
  if ("dtype" in values) values["dtype"] = "float16";
  if ("torch_dtype" in values || !("dtype" in values))
    values["torch_dtype"] = "float16";
  return { ...values, quantization_config: config };
}

/** Reads the result as the server would, and computes the held-out text with it. */
async function measureResult(
  { calibration }: Work,
  options: QuantizeOptions,
  partial: string,
): Promise<number> {
  const { graph, checkpoint, quantization } = await describeModel({
    model: partial,
    modelFile: options.modelFile,
    loadFormat: "auto",
  });
  const weights = new WeightResolver(
    { kind: "checkpoint", tensors: checkpoint.tensors },
    quantization,
  );
  const native = translated(
    () => new (loadAddon().Quantizer)(checkpoint.files, options.threads),
  );
  const { tokenIds, lengths } = calibration.sequences;
  const { meanLoss } = await walk(
    {
      ...{ graph, weights, native, signal: options.signal },
      sequences: {
        tokenIds: tokenIds.slice(calibration.numTokens),
        lengths: lengths.slice(calibration.numSequences),
      },
      onProgress: progressOf(graph, "measure", options),
    },
    0,
  );
  return meanLoss;
}

function progressOf(
  graph: Graph,
  phase: "quantize" | "measure",
  { onProgress }: QuantizeOptions,
): (numWeights: number) => void {
  const total = graph.nodes
    .filter((node) => node.out.rows === "tokens")
    .reduce((sum, node) => sum + weightsOf(node), 0);
  let done = 0;
  return (numWeights) => onProgress(phase, (done += numWeights), total);
}

function writeJson(file: string, content: unknown): void {
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`);
}
