/**
 * What quantization does to each tensor of a model, read off its graph alone.
 *
 * Linears that read the same value form a group: their inputs are scaled by one vector s, one factor per channel, and
 * what makes the value is divided by it, so that the model computes the same [Lin et al. 2023, AWQ]:
 *
 *   norm -> q, k, v          norm.weight / s        q, k, v columns * s
 *   norm -> gate, up         norm.weight / s        gate, up columns * s
 *   v -> attention -> o      v rows / s             o columns * s      (attention is linear in v)
 *   up -> siluMul -> down    up rows / s            down columns * s   (silu(gate) * up is linear in up)
 *
 * A group whose value comes from anywhere else, or is read by more than linears, keeps s = 1.
 */
import type { Quantization } from "../../models/checkpoint.js";
import type {
  AttentionNode,
  Graph,
  LinearNode,
  Node,
  Value,
} from "../../models/graph.js";
import { OctavoError } from "../core/errors.js";

/** What takes up 1 / s. */
export type Fold =
  | { kind: "norm"; module: string }
  | { kind: "linear"; node: LinearNode; attention: AttentionNode | null };

/** Linears that share their input. */
export interface Group {
  input: Value;
  linears: LinearNode[];
  /** null: s = 1. */
  fold: Fold | null;
}

export interface QuantizationPlan {
  /** By the id of the value that they read; only groups with a linear to quantize. */
  groups: ReadonlyMap<number, Group>;
  /** Module of a linear -> the group that divides its rows. */
  foldOf: ReadonlyMap<string, Group>;
  isQuantized: (node: LinearNode) => boolean;
}

/**
 * Plans a graph whose linears `target` says to quantize.
 * Errors: `invalid_config` for a group size that does not fit a linear, and for a graph without linears to quantize.
 */
export function planQuantization(
  graph: Graph,
  target: Quantization,
): QuantizationPlan {
  const readers = readersOf(graph);
  const shared = sharedModules(graph);
  const isQuantized = (node: LinearNode): boolean =>
    node.tiedTo === null && target.schemeOf(node.module) !== null;
  const groups = new Map<number, Group>();
  for (const node of graph.nodes) {
    if (node.op !== "linear" || !isQuantized(node)) continue;
    checkLinear(node, target, shared);
    if (groups.has(node.in.id)) continue;
    const nodes = readers.get(node.in.id) ?? [];
    groups.set(node.in.id, {
      input: node.in,
      linears: nodes.filter((reader) => reader.op === "linear"),
      fold: foldOf(node.in, nodes, graph, readers, shared),
    });
  }
  if (groups.size === 0)
    throw new OctavoError(
      "invalid_config",
      "modules-to-not-convert: expected to leave at least one linear to quantize, got all of them.",
      "modules-to-not-convert",
    );
  const folded = new Map<string, Group>();
  for (const group of groups.values())
    if (group.fold?.kind === "linear")
      folded.set(group.fold.node.module, group);
  return { groups, foldOf: folded, isQuantized };
}

/** Linears of sample rows are the head: modules that calibration does not reach and that stay as they are. */
export function headModules(graph: Graph): string[] {
  return graph.nodes.flatMap((node) =>
    node.op === "linear" && node.out.rows === "samples" ? [node.module] : [],
  );
}

/** What divides by s, where every reader of the value is a linear whose columns can take s up. */
function foldOf(
  value: Value,
  nodes: readonly Node[],
  graph: Graph,
  readers: ReadonlyMap<number, Node[]>,
  shared: ReadonlySet<string>,
): Fold | null {
  const foldable = (node: Node): boolean =>
    node.op === "linear" && node.tiedTo === null && !shared.has(node.module);
  if (!nodes.every(foldable)) return null;
  const producer = graph.nodes.find((node) => node.out.id === value.id);
  if (producer?.op === "rmsNorm")
    return shared.has(producer.module)
      ? null
      : { kind: "norm", module: producer.module };
  const source =
    producer?.op === "attention"
      ? producer.v
      : producer?.op === "siluMul"
        ? producer.up
        : null;
  const made = graph.nodes.find((node) => node.out.id === source?.id);
  if (!source || made?.op !== "linear" || !foldable(made)) return null;
  // Read once: by v or up alone.
  if (readers.get(source.id)?.length !== 1) return null;
  const attention = producer?.op === "attention" ? producer : null;
  return { kind: "linear", node: made, attention };
}

function checkLinear(
  node: LinearNode,
  target: Quantization,
  shared: ReadonlySet<string>,
): void {
  const { module } = node;
  const groupSize = target.schemeOf(module)?.groupSize ?? 0;
  const keep = `Leave it as it is with --modules-to-not-convert ${module.split(".").at(-1) ?? module}`;
  if (node.in.width % groupSize !== 0)
    throw new OctavoError(
      "invalid_config",
      `--group-size ${groupSize}: expected to divide the inputs of every linear; ${module}.weight has ${node.in.width}. ${keep}, or take another group size.`,
      "group-size",
    );
  if (node.out.width % 8 !== 0)
    throw new OctavoError(
      "unsupported_model",
      `${module}.weight: expected a number of outputs that 8 divides (they are packed by eights), got ${node.out.width}. ${keep}.`,
      module,
    );
  if (shared.has(module))
    throw new OctavoError(
      "unsupported_model",
      `${module}: the graph uses it more than once; quantizing such a linear is not built. ${keep}.`,
      module,
    );
}

/** Value id -> the nodes that read it, once for each operand. */
export function readersOf(graph: Graph): Map<number, Node[]> {
  const readers = new Map<number, Node[]>();
  for (const node of graph.nodes)
    for (const { id } of operandsOf(node))
      readers.set(id, [...(readers.get(id) ?? []), node]);
  return readers;
}

/** The values that a node reads. */
export function operandsOf(node: Node): Value[] {
  switch (node.op) {
    case "embed":
      return [];
    case "attention":
      return [node.q, node.k, node.v];
    case "siluMul":
      return [node.gate, node.up];
    case "add":
      return [node.a, node.b];
    default:
      return [node.in];
  }
}

/** Modules whose tensors more than one node uses. */
function sharedModules(graph: Graph): Set<string> {
  const seen = new Set<string>();
  const shared = new Set<string>();
  for (const module of graph.nodes.flatMap(modulesOf)) {
    if (seen.has(module)) shared.add(module);
    seen.add(module);
  }
  return shared;
}

function modulesOf(node: Node): string[] {
  if (node.op === "embed" || node.op === "rmsNorm") return [node.module];
  if (node.op === "linear") return [node.tiedTo ?? node.module];
  if (node.op !== "attention") return [];
  return [node.qNorm, node.kNorm].filter((module) => module !== null);
}
