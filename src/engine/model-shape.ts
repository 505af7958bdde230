import { Opcode } from "../program/program.js";
import type { LinearPlan, Program, TensorSource } from "../program/program.js";
import { prepareModel } from "./prepare-model.js";

/** Numbers of weights, by what becomes of them. */
export interface WeightCounts {
  /** Of the linear layers that a quantizer packs: n. */
  packed: number;
  /** Read by every step at 16 bits: the head, norms, biases: m. */
  dense: number;
  /** Of an embedding table of its own, at 16 bits: held, but a step reads only the rows of its tokens: e. */
  embedding: number;
}

/** What its memory is estimated by. */
export interface ModelShape {
  weights: WeightCounts;
  /** Values of K and V that a token takes over all layers. */
  kvValuesPerToken: number;
  /** Of the linear layers as the model has them; several schemes: of the first that is packed. */
  bits: number;
  groupSize: number;
}

/** Reads a model directory's config.json alone. Errors: those of `describeModel`. */
export async function readShape(
  model: string,
  modelFile: string | null,
): Promise<ModelShape> {
  const { program } = await prepareModel({
    model,
    modelFile,
    loadFormat: "dummy",
  });
  return shapeOf(program);
}

export function shapeOf(program: Program): ModelShape {
  const head = headLinears(program);
  const packed = program.linears.find(({ scheme }) => scheme !== "dense");
  const weights: WeightCounts = { packed: 0, dense: 0, embedding: 0 };
  // A head that shares the embedding's table reads it whole.
  const counted = new Set<string>();
  for (const [i, linear] of program.linears.entries()) {
    const kept = head.has(i) || packed !== undefined;
    if (kept && linear.scheme === "dense") weights.dense += linear.k * linear.n;
    else weights.packed += linear.k * linear.n;
    for (const { weight, bias } of linear.parts) {
      counted.add(weight.name);
      if (bias) weights.dense += size(bias);
    }
  }
  for (const { source, keep } of program.dense) {
    if (counted.has(source.name)) continue;
    if (keep) weights.embedding += size(source);
    else weights.dense += size(source);
  }
  return {
    weights,
    kvValuesPerToken: program.kvLayers.reduce(
      (sum, { numKvHeads, headDim }) => sum + 2 * numKvHeads * headDim,
      0,
    ),
    bits: packed ? 4 : bitsOf(program.linears),
    groupSize: packed?.groupSize ?? 0,
  };
}

/** Indices of the linear layers behind the last block. */
function headLinears({ code, headStart }: Program): Set<number> {
  const found = new Set<number>();
  for (let at = headStart; at < code.length; at += 2 + (code[at + 1] as number))
    // Arguments of a linear: out, outColumn, in, linear.
    if (code[at] === Opcode.linear) found.add(code[at + 5] as number);
  return found;
}

function bitsOf(linears: readonly LinearPlan[]): number {
  const dtype = linears[0]?.parts[0]?.weight.dtype;
  return dtype === "f32" ? 32 : 16;
}

function size({ shape }: TensorSource): number {
  return shape.reduce((product, extent) => product * extent, 1);
}
