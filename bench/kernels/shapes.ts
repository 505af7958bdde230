import path from "node:path";
import { OctavoError } from "../../src/core/errors.js";
import { readJsonFile } from "../../src/loader/fields.js";
import { parseModelConfig } from "../../src/loader/model-config.js";

/** The widths of a model that its kernels see. */
export interface ModelShape {
  name: string;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  vocabSize: number;
}

/** Shapes that need no file. llama-1b is the one that docs/performance.md measures the CPU backend with. */
export const NAMED_SHAPES: readonly ModelShape[] = [
  shape("llama-1b", 2048, 8192, 16, 32, 8, 64, 32_000),
  shape("llama-3.2-1b", 2048, 8192, 16, 32, 8, 64, 128_256),
  shape("llama-3.1-8b", 4096, 14_336, 32, 32, 8, 128, 128_256),
  shape("qwen2.5-0.5b", 896, 4864, 24, 14, 2, 64, 151_936),
  shape("stories260k", 64, 172, 5, 8, 4, 8, 512),
];

function shape(
  name: string,
  hiddenSize: number,
  intermediateSize: number,
  numLayers: number,
  numHeads: number,
  numKvHeads: number,
  headDim: number,
  vocabSize: number,
): ModelShape {
  return {
    name,
    hiddenSize,
    intermediateSize,
    numLayers,
    numHeads,
    numKvHeads,
    headDim,
    vocabSize,
  };
}

/** A named shape, or that of a model directory. Errors: `invalid_config`, or what its config.json is refused with. */
export function findShape(model: string): ModelShape {
  const named = NAMED_SHAPES.find(({ name }) => name === model);
  if (named) return named;
  const values = readJsonFile(path.join(model, "config.json"), "config.json");
  if (!values)
    throw new OctavoError(
      "invalid_config",
      `--model: expected a model directory (with config.json) or one of ${NAMED_SHAPES.map(({ name }) => name).join(", ")}, got "${model}"`,
      "model",
    );
  const config = parseModelConfig(values);
  return { ...config, name: path.basename(path.resolve(model)) };
}

/** One linear layer of a transformer's block, or its head. */
export interface LinearShape {
  layer: "qkv" | "o" | "gate_up" | "down" | "lm_head";
  k: number;
  n: number;
  epilogue: "none" | "silu_mul" | "add";
  /** How often a forward pass calls it. */
  count: number;
}

export function linearShapes(model: ModelShape): LinearShape[] {
  const { hiddenSize, intermediateSize, numLayers, headDim } = model;
  const heads = model.numHeads * headDim;
  const kvHeads = model.numKvHeads * headDim;
  const linear = (
    layer: LinearShape["layer"],
    k: number,
    n: number,
    epilogue: LinearShape["epilogue"],
    count = numLayers,
  ): LinearShape => ({ layer, k, n, epilogue, count });
  return [
    linear("qkv", hiddenSize, heads + 2 * kvHeads, "none"),
    linear("o", heads, hiddenSize, "add"),
    linear("gate_up", hiddenSize, 2 * intermediateSize, "silu_mul"),
    linear("down", intermediateSize, hiddenSize, "add"),
    linear("lm_head", hiddenSize, model.vocabSize, "none", 1),
  ];
}
