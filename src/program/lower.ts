import type { Quantization } from "../../models/checkpoint.js";
import type { Graph, LinearNode } from "../../models/graph.js";
import { planBuffers } from "./buffers.js";
import type { Lifetime, PlannedBuffers } from "./buffers.js";
import { fuse } from "./fuse.js";
import type { FusedGraph, Instruction } from "./fuse.js";
import { ProgramParts } from "./program-parts.js";
import { Opcode, PROGRAM_VERSION } from "./program.js";
import type { Program } from "./program.js";
import { WeightResolver } from "./weights.js";
import type { ResolvedLinear, WeightSource } from "./weights.js";

export interface LowerInput {
  architecture: string;
  graph: Graph;
  weights: WeightSource;
  quantization: Quantization;
}

/**
 * Turns a model's graph into the program that native plays back: fuses nodes, finds and checks weights, plans buffers.
 * Pure. Errors: `invalid_model` for tensors that are missing or do not fit, `invalid_config` for a graph that has no
 * program.
 */
export function lower(input: LowerInput): Program {
  const { architecture, graph, quantization } = input;
  const weights = new WeightResolver(input.weights, quantization);
  const parts = new ProgramParts(weights);
  const fused = fuse(graph, parts, memoize(weights));
  weights.refuseUnused(tiedModules(graph));
  const planned = planBuffers(lifetimesOf(fused));
  const indexOf = (id: number): number =>
    planned.indexOf.get(fused.storage.get(id)?.id ?? id) ?? -1;
  const body = encode(fused.body, indexOf);
  const { buffers, tokenColumns, sampleColumns } = renameLogits(
    planned,
    indexOf(graph.logits.id),
  );
  return {
    version: PROGRAM_VERSION,
    architecture,
    vocabSize: graph.logits.width,
    code: Int32Array.from([...body, ...encode(fused.head, indexOf)]),
    headStart: body.length,
    buffers,
    tokenColumns,
    sampleColumns,
    logits: indexOf(graph.logits.id),
    dense: parts.dense,
    linears: parts.linears,
    ropes: parts.ropes,
    kvLayers: parts.kvLayers,
  };
}

function memoize(weights: WeightResolver): (n: LinearNode) => ResolvedLinear {
  const known = new Map<LinearNode, ResolvedLinear>();
  return (node) => {
    const resolved = known.get(node) ?? weights.linear(node);
    known.set(node, resolved);
    return resolved;
  };
}

/** Modules whose own weight a checkpoint may carry as well, although another's is used. */
function tiedModules(graph: Graph): string[] {
  return graph.nodes.flatMap((node) =>
    node.op === "linear" && node.tiedTo !== null ? [node.module] : [],
  );
}

/** From the first to the last instruction that names a value or one that took over its memory. */
function lifetimesOf({ body, head, storage, names }: FusedGraph): Lifetime[] {
  const lifetimes = new Map<number, Lifetime>();
  [...body, ...head].forEach(({ args }, at) => {
    for (const argument of args) {
      if (typeof argument === "number") continue;
      const value = storage.get(argument.id) ?? argument;
      const life = lifetimes.get(value.id);
      if (life) life.last = at;
      else
        lifetimes.set(value.id, {
          value,
          name: names.get(value.id) ?? "value",
          first: at,
          last: at,
        });
    }
  });
  return [...lifetimes.values()];
}

function encode(
  instructions: readonly Instruction[],
  indexOf: (id: number) => number,
): number[] {
  return instructions.flatMap(({ opcode, args }) => [
    Opcode[opcode],
    args.length,
    ...args.map((a) => (typeof a === "number" ? a : indexOf(a.id))),
  ]);
}

/** Several values may share a buffer; the one that leaves the program gives it its name. */
function renameLogits(planned: PlannedBuffers, logits: number): PlannedBuffers {
  const buffers = planned.buffers.map((buffer, i) =>
    i === logits ? { ...buffer, name: "logits" } : buffer,
  );
  return { ...planned, buffers };
}
