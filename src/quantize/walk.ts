/**
 * Computes a graph node by node over whole arrays, reading each weight from its file when its node's turn comes. At
 * most one linear is in memory, and each value only until its last reader is done.
 */
import type {
  AttentionNode,
  Graph,
  LinearNode,
  Node,
  Value,
} from "../../models/graph.js";
import { assert } from "../core/errors.js";
import type { LinearPlan } from "../program/program.js";
import type { WeightResolver } from "../program/weights.js";
import type { NativeQuantizer } from "../runner/addon.js";
import { translated } from "../runner/native-runner.js";
import { operandsOf, readersOf } from "./plan.js";

/** Token ids of sequences that each start at position 0, back to back. */
export interface Sequences {
  tokenIds: Int32Array;
  lengths: Int32Array;
}

export interface WalkInput {
  graph: Graph;
  weights: WeightResolver;
  native: NativeQuantizer;
  sequences: Sequences;
  /** Stops between two nodes. */
  signal: AbortSignal;
  /** Called with each value of token rows, [rows, width], as soon as it is there; the array may be kept. */
  onValue?: (value: Value, rows: Float32Array) => Promise<void>;
  /** Called after each node with the weights that it used. */
  onProgress?: (numWeights: number) => void;
}

/** Values of logits that are held at once: 128 MiB. */
const MAX_LOGITS = 2 ** 25;

type Values = Map<number, Float32Array>;

/**
 * The mean of -log p(token | the tokens of its sequence before it), in nats, over the tokens of sequences
 * [firstMeasured, end) that have one before them; `count` is how many.
 */
export async function walk(
  input: WalkInput,
  firstMeasured: number,
): Promise<{ meanLoss: number; count: number }> {
  const { graph } = input;
  const values: Values = new Map();
  const unread = new Map<number, number>();
  for (const [id, nodes] of readersOf(graph)) unread.set(id, nodes.length);
  for (const node of graph.nodes) {
    if (node.out.rows === "samples") continue;
    const out = evaluate(input, node, values, input.sequences.tokenIds.length);
    values.set(node.out.id, out);
    await input.onValue?.(node.out, out);
    input.onProgress?.(weightsOf(node));
    for (const { id } of operandsOf(node)) {
      const left = (unread.get(id) ?? 0) - 1;
      unread.set(id, left);
      if (left === 0) values.delete(id);
    }
    await breathe(input.signal);
  }
  return measure(input, values, firstMeasured);
}

/** Lets signals and the terminal have their turn; throws the signal's reason once it is aborted. */
export async function breathe(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  signal.throwIfAborted();
}

/** How many numbers of weights a node computes with. */
export function weightsOf(node: Node): number {
  return node.op === "linear" ? node.in.width * node.out.width : 0;
}

/** Plays the head over slices of rows whose next token is known. */
async function measure(
  input: WalkInput,
  tokens: Values,
  firstMeasured: number,
): Promise<{ meanLoss: number; count: number }> {
  const { graph, sequences } = input;
  const rows = measuredRows(sequences, firstMeasured);
  const slice = Math.max(1, Math.floor(MAX_LOGITS / graph.logits.width));
  let loss = 0;
  for (let start = 0; start < rows.length; start += slice) {
    const some = rows.slice(start, start + slice);
    const values: Values = new Map();
    for (const node of graph.nodes) {
      if (node.out.rows !== "samples") continue;
      const out =
        node.op === "sampleRows"
          ? gatherRows(valueOf(tokens, node.in), node.in.width, some)
          : evaluate(input, node, values, some.length);
      values.set(node.out.id, out);
      await breathe(input.signal);
    }
    const logits = valueOf(values, graph.logits);
    some.forEach((row, i) => {
      const target = sequences.tokenIds[row + 1] ?? 0;
      loss -= logProbability(logits, graph.logits.width, i, target);
    });
  }
  return { meanLoss: loss / rows.length, count: rows.length };
}

/** Every row but the last of each measured sequence. */
function measuredRows({ lengths }: Sequences, firstMeasured: number): number[] {
  const rows: number[] = [];
  let start = 0;
  lengths.forEach((length, i) => {
    if (i >= firstMeasured)
      for (let at = 0; at < length - 1; at++) rows.push(start + at);
    start += length;
  });
  return rows;
}

/** Rows `index` of [rows, width]. */
export function gatherRows(
  rows: Float32Array,
  width: number,
  index: readonly number[],
): Float32Array {
  const out = new Float32Array(index.length * width);
  index.forEach((row, i) =>
    out.set(rows.subarray(row * width, (row + 1) * width), i * width),
  );
  return out;
}

/** log softmax of row `row` at `target`. */
function logProbability(
  logits: Float32Array,
  width: number,
  row: number,
  target: number,
): number {
  const values = logits.subarray(row * width, (row + 1) * width);
  const highest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (const value of values) sum += Math.exp(value - highest);
  return (values[target] ?? NaN) - highest - Math.log(sum);
}

function valueOf(values: Values, { id }: Value): Float32Array {
  const found = values.get(id);
  assert(found !== undefined, "a node reads values of nodes before it");
  return found;
}

function evaluate(
  { weights, native, sequences }: WalkInput,
  node: Node,
  values: Values,
  numRows: number,
): Float32Array {
  const out = new Float32Array(numRows * node.out.width);
  const of = (value: Value): Float32Array => valueOf(values, value);
  translated(() => {
    switch (node.op) {
      case "embed": {
        const { module, vocabSize, out: to, scale } = node;
        const table = weights.embedding(module, vocabSize, to.width);
        return native.embed(table, scale, sequences.tokenIds, out);
      }
      case "rmsNorm": {
        const weight = weights.norm(node.module, node.out.width);
        return native.rmsNorm(weight, node.eps, of(node.in), out);
      }
      case "linear":
        return native.linear(linearPlan(weights, node), of(node.in), out);
      case "attention":
        return native.attention(
          attentionSpec(weights, node),
          sequences.lengths,
          ...([of(node.q), of(node.k), of(node.v), out] as const),
        );
      case "siluMul":
        return native.siluMul(node.out.width, of(node.gate), of(node.up), out);
      case "add":
        return addInto(out, of(node.a), of(node.b));
      case "softcap":
        return softcapInto(out, of(node.in), node.cap);
      case "sampleRows":
        throw new Error("sampleRows has sample rows");
    }
  });
  return out;
}

function linearPlan(weights: WeightResolver, node: LinearNode): LinearPlan {
  const { module, scheme, k, groupSize, zeroOffset, part } =
    weights.linear(node);
  const shape = { k, n: part.n, groupSize, zeroOffset };
  return { name: module, scheme, ...shape, siluMulPairs: false, parts: [part] };
}

function attentionSpec(
  weights: WeightResolver,
  node: AttentionNode,
): Parameters<NativeQuantizer["attention"]>[0] {
  const norm = (module: string | null) =>
    module === null ? null : weights.norm(module, node.headDim);
  return { ...node, qNorm: norm(node.qNorm), kNorm: norm(node.kNorm) };
}

function addInto(out: Float32Array, a: Float32Array, b: Float32Array): void {
  for (let i = 0; i < out.length; i++)
    out[i] = (a[i] as number) + (b[i] as number);
}

function softcapInto(out: Float32Array, x: Float32Array, cap: number): void {
  for (let i = 0; i < out.length; i++)
    out[i] = cap * Math.tanh((x[i] as number) / cap);
}
