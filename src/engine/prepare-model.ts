import { statSync } from "node:fs";
import path from "node:path";
import type { Checkpoint, Quantization } from "../../models/checkpoint.js";
import { GraphBuilder } from "../../models/graph.js";
import type { Graph } from "../../models/graph.js";
import type { ModelConfig } from "../../models/model-config.js";
import { findFamily } from "../../models/registry.js";
import type { ModelFamily } from "../../models/registry.js";
import { OctavoError } from "../core/errors.js";
import { readCheckpoint } from "../loader/checkpoint.js";
import { readJsonFile } from "../loader/fields.js";
import { parseGenerationConfig } from "../loader/generation-config.js";
import type { GenerationDefaults } from "../loader/generation-config.js";
import { parseModelConfig } from "../loader/model-config.js";
import { loadModelFile, modelFileError } from "../loader/model-file.js";
import { parseQuantization } from "../loader/quantization.js";
import { lower } from "../program/lower.js";
import type { Program } from "../program/program.js";

export interface PrepareOptions {
  /** Directory in the Hugging Face layout. */
  model: string;
  /** A model family from outside, or null for the built-in ones. */
  modelFile: string | null;
  loadFormat: "auto" | "dummy";
}

/** A model that is understood and checked, but not loaded: no tensor's bytes have been read. */
export interface PreparedModel {
  program: Program;
  /** What TensorSource.file indexes. */
  files: string[];
  /** Sum of their sizes. */
  fileBytes: number;
  architecture: string;
  /** The type that config.json declares. */
  dtype: ModelConfig["dtype"];
  maxPositionEmbeddings: number;
  vocabSize: number;
  eosTokenIds: number[];
  bosTokenId: number | null;
  generationDefaults: GenerationDefaults;
  /** For people: "awq-int4 g128", "none (f16)". */
  quantization: string;
}

/** A model directory as its own files describe it, before lowering. */
export interface DescribedModel {
  directory: string;
  /** config.json as it was read. */
  values: Readonly<Record<string, unknown>>;
  config: ModelConfig;
  quantization: Quantization;
  graph: Graph;
  checkpoint: Checkpoint;
}

/**
 * Reads a model directory's config.json and safetensors headers and builds its graph.
 * Errors: `invalid_model`, `unsupported_model`; `invalid_config` for the directory's path and for --model-file.
 */
export async function describeModel({
  model,
  modelFile,
  loadFormat,
}: PrepareOptions): Promise<DescribedModel> {
  const directory = path.resolve(model);
  requireDirectory(directory);
  const values = readJsonFile(
    path.join(directory, "config.json"),
    "config.json",
  );
  if (!values)
    throw new OctavoError(
      "invalid_model",
      `${directory}: expected a config.json (a model in the Hugging Face layout), got none`,
      "config.json",
    );
  const family = await outsideFamily(modelFile);
  const config = parseModelConfig(values);
  const quantization = parseQuantization(values);
  const graph = buildGraph(config, modelFile, family);
  const checkpoint =
    loadFormat === "dummy" ? NO_CHECKPOINT : readCheckpoint(directory);
  return { directory, values, config, quantization, graph, checkpoint };
}

/** Describes a model and lowers its program. Errors: those of `describeModel`. */
export async function prepareModel(
  options: PrepareOptions,
): Promise<PreparedModel> {
  const described = await describeModel(options);
  const { directory, config, checkpoint } = described;
  const generation = parseGenerationConfig(
    readJsonFile(
      path.join(directory, "generation_config.json"),
      "generation_config.json",
    ),
  );
  const program = lowerModel(options, described);
  const eosTokenIds = generation.eosTokenIds.length
    ? generation.eosTokenIds
    : config.eosTokenIds;
  return {
    program,
    files: checkpoint.files,
    fileBytes: checkpoint.fileBytes,
    architecture: config.architecture,
    dtype: config.dtype,
    maxPositionEmbeddings: config.maxPositionEmbeddings,
    vocabSize: program.vocabSize,
    // Ids outside of the vocabulary are never sampled; the runner would refuse to ban them.
    eosTokenIds: eosTokenIds.filter((id) => id < program.vocabSize),
    bosTokenId: config.bosTokenId,
    generationDefaults: generation.defaults,
    quantization: describeQuantization(program),
  };
}

const NO_CHECKPOINT: Checkpoint = {
  files: [],
  fileBytes: 0,
  tensors: new Map(),
};

function lowerModel(
  { modelFile, loadFormat }: PrepareOptions,
  { config, graph, quantization, checkpoint }: DescribedModel,
): Program {
  return naming(modelFile, () =>
    lower({
      architecture: config.architecture,
      graph,
      weights:
        loadFormat === "dummy"
          ? { kind: "dummy", dtype: config.dtype }
          : { kind: "checkpoint", tensors: checkpoint.tensors },
      quantization,
    }),
  );
}

function requireDirectory(directory: string): void {
  const status = statSync(directory, { throwIfNoEntry: false });
  if (status?.isDirectory()) return;
  const hint = directory.endsWith(".gguf")
    ? " GGUF files are not read; the same model in safetensors is."
    : "";
  throw new OctavoError(
    "invalid_config",
    `model: expected a directory with config.json and safetensors, got ${directory}, which ${status ? "is a file" : "does not exist"}.${hint}`,
    "model",
  );
}

async function outsideFamily(file: string | null): Promise<ModelFamily | null> {
  return file === null ? null : loadModelFile(path.resolve(file));
}

function buildGraph(
  config: ModelConfig,
  modelFile: string | null,
  outside: ModelFamily | null,
): Graph {
  const family = outside ?? findFamily(config.architecture);
  if (modelFile !== null && !family.architectures.includes(config.architecture))
    throw modelFileError(
      modelFile,
      `expected it to describe ${config.architecture} (config.json), it describes ${family.architectures.join(", ")}`,
    );
  return naming(modelFile, () => {
    const builder = new GraphBuilder();
    family.build(builder, config);
    return builder.finish();
  });
}

/** Whatever goes wrong in a graph that came from outside is that file's error. */
function naming<T>(modelFile: string | null, make: () => T): T {
  try {
    return make();
  } catch (error) {
    const ours = error instanceof OctavoError;
    if (modelFile === null || (ours && error.code !== "invalid_config"))
      throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw modelFileError(modelFile, reason, error);
  }
}

/** The packed schemes of the linears, or where there are none, the types of the dense ones. */
function describeQuantization({ linears }: Program): string {
  const schemes = new Set<string>();
  const dtypes = new Set<string>();
  for (const { scheme, groupSize, parts } of linears)
    if (scheme !== "dense") schemes.add(`${scheme} g${groupSize}`);
    else for (const { weight } of parts) dtypes.add(weight.dtype);
  return schemes.size > 0
    ? [...schemes].join(", ")
    : `none (${[...dtypes].join(", ")})`;
}
