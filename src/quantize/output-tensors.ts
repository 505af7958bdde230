import type { Graph, Node } from "../../models/graph.js";
import type { WeightResolver } from "../program/weights.js";
import type { TensorSource } from "../program/program.js";
import type { QuantizationPlan } from "./plan.js";
import type { OutputTensor } from "./safetensors-writer.js";

/** A dense tensor of the model, and what of it is written. */
export interface DenseTensor {
  name: string;
  source: TensorSource;
  /** The node that it belongs to. */
  node: Node;
}

/** Every dense tensor of a graph that stays dense, each once, in the graph's order. */
export function denseTensors(
  graph: Graph,
  weights: WeightResolver,
  plan: QuantizationPlan,
): DenseTensor[] {
  const found = new Map<string, DenseTensor>();
  for (const node of graph.nodes)
    for (const source of sourcesOf(node, weights, plan))
      if (!found.has(source.name))
        found.set(source.name, { name: source.name, source, node });
  return [...found.values()];
}

function sourcesOf(
  node: Node,
  weights: WeightResolver,
  plan: QuantizationPlan,
): TensorSource[] {
  switch (node.op) {
    case "embed":
      return [weights.embedding(node.module, node.vocabSize, node.out.width)];
    case "rmsNorm":
      return [weights.norm(node.module, node.out.width)];
    case "attention":
      return [node.qNorm, node.kNorm]
        .filter((module) => module !== null)
        .map((module) => weights.norm(module, node.headDim));
    case "linear": {
      const { weight, bias } = weights.linear(node).part;
      const tensors = plan.isQuantized(node) ? [] : [weight];
      return bias ? [...tensors, bias] : tensors;
    }
    default:
      return [];
  }
}

/** AWQ's three tensors of each linear that is quantized (layout: LinearPart in kernels/ops.h). */
export function packedTensors(
  graph: Graph,
  plan: QuantizationPlan,
  groupSize: number,
): OutputTensor[] {
  return graph.nodes.flatMap((node): OutputTensor[] => {
    if (node.op !== "linear" || !plan.isQuantized(node)) return [];
    const { module } = node;
    const k = node.in.width;
    const n = node.out.width;
    const groups = k / groupSize;
    return [
      { name: `${module}.qweight`, dtype: "I32", shape: [k, n / 8] },
      { name: `${module}.qzeros`, dtype: "I32", shape: [groups, n / 8] },
      { name: `${module}.scales`, dtype: "F16", shape: [groups, n] },
    ];
  });
}
