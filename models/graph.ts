/**
 * The builder that a model file describes its architecture with. It only records ops and shapes: nothing is fused,
 * planned or read here (that is src/program/lower.ts).
 *
 * A module name is the checkpoint's: `linear(x, "model.layers.0.mlp.up_proj", n)` stands for the tensor
 * "model.layers.0.mlp.up_proj.weight" or, quantized, for its packed form.
 */
import { OctavoError } from "../src/core/errors.js";
import type { RopeTable } from "./model-config.js";

/** [rows, width] activations: a row per token of the step, or one per sampled row (after `sampleRows`). */
export interface Value {
  readonly id: number;
  readonly rows: "tokens" | "samples";
  readonly width: number;
}

export interface EmbedNode {
  op: "embed";
  out: Value;
  module: string;
  vocabSize: number;
  scale: number;
}
export interface RmsNormNode {
  op: "rmsNorm";
  out: Value;
  in: Value;
  module: string;
  eps: number;
}
export interface LinearNode {
  op: "linear";
  out: Value;
  in: Value;
  module: string;
  bias: boolean;
  /** The embedding whose tensor is this linear's weight. */
  tiedTo: string | null;
}
export interface AttentionNode {
  op: "attention";
  out: Value;
  q: Value;
  k: Value;
  v: Value;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  rope: RopeTable | null;
  /** Modules of per-head norms, applied before the rotation. */
  qNorm: string | null;
  kNorm: string | null;
  normEps: number;
  scale: number;
  slidingWindow: number;
  softcap: number;
}
export interface SiluMulNode {
  op: "siluMul";
  out: Value;
  gate: Value;
  up: Value;
}
export interface AddNode {
  op: "add";
  out: Value;
  a: Value;
  b: Value;
}
export interface SampleRowsNode {
  op: "sampleRows";
  out: Value;
  in: Value;
}
export interface SoftcapNode {
  op: "softcap";
  out: Value;
  in: Value;
  cap: number;
}
export type Node =
  | EmbedNode
  | RmsNormNode
  | LinearNode
  | AttentionNode
  | SiluMulNode
  | AddNode
  | SampleRowsNode
  | SoftcapNode;

export interface Graph {
  nodes: readonly Node[];
  /** [samples, vocabSize] */
  logits: Value;
}

export interface AttentionOptions {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  /** null: positions are not encoded. */
  rope: RopeTable | null;
  qNorm?: string;
  kNorm?: string;
  normEps?: number;
  /** Of the scores; 1 / sqrt(headDim) unless told. */
  scale?: number;
  /** 0: all positions. */
  slidingWindow?: number;
  /** 0: none; else scores = softcap * tanh(scores / softcap). */
  softcap?: number;
}

/** Errors: every method throws `invalid_config` when shapes do not fit, naming the op. */
export class GraphBuilder {
  private readonly nodes: Node[] = [];
  private numValues = 0;
  private result: Value | null = null;

  /** Rows of the table `module` for the step's token ids, times `scale`. */
  embed(module: string, vocabSize: number, width: number, scale = 1): Value {
    const out = this.value("tokens", width, module);
    this.nodes.push({ op: "embed", out, module, vocabSize, scale });
    return out;
  }

  /** x / sqrt(mean(x^2) + eps) * weight. [Zhang and Sennrich 2019] */
  rmsNorm(x: Value, module: string, eps: number): Value {
    const out = this.value(x.rows, x.width, module);
    this.nodes.push({ op: "rmsNorm", out, in: x, module, eps });
    return out;
  }

  /** x W^T (+ bias), with W [outputs, x.width]. */
  linear(
    x: Value,
    module: string,
    outputs: number,
    options: { bias?: boolean; tiedTo?: string | null } = {},
  ): Value {
    const out = this.value(x.rows, outputs, module);
    const { bias = false, tiedTo = null } = options;
    this.nodes.push({ op: "linear", out, in: x, module, bias, tiedTo });
    return out;
  }

  /** Causal attention over the sequence's own keys and values, this step's included. */
  attention(q: Value, k: Value, v: Value, options: AttentionOptions): Value {
    const { numHeads, numKvHeads, headDim, rope } = options;
    for (const [name, x, heads] of [
      ["q", q, numHeads],
      ["k", k, numKvHeads],
      ["v", v, numKvHeads],
    ] as const) {
      expect(x.rows === "tokens", `attention: ${name} of token rows`);
      expectWidth(x, heads * headDim, `attention: ${name}`);
    }
    expect(
      numHeads % numKvHeads === 0,
      `attention: numHeads (${numHeads}) that is a multiple of numKvHeads (${numKvHeads})`,
    );
    if (rope)
      expect(
        rope.inverseFrequencies.length * 2 <= headDim,
        `attention: at most ${headDim / 2} rope frequencies, got ${rope.inverseFrequencies.length}`,
      );
    const out = this.value("tokens", numHeads * headDim, "attention");
    this.nodes.push({
      op: "attention",
      ...{ out, q, k, v, numHeads, numKvHeads, headDim, rope },
      qNorm: options.qNorm ?? null,
      kNorm: options.kNorm ?? null,
      normEps: options.normEps ?? 0,
      scale: options.scale ?? 1 / Math.sqrt(headDim),
      slidingWindow: options.slidingWindow ?? 0,
      softcap: options.softcap ?? 0,
    });
    return out;
  }

  /** silu(gate) * up, with silu(x) = x / (1 + exp(-x)). [Shazeer 2020] */
  siluMul(gate: Value, up: Value): Value {
    expectSame(gate, up, "siluMul");
    const out = this.value(gate.rows, gate.width, "siluMul");
    this.nodes.push({ op: "siluMul", out, gate, up });
    return out;
  }

  add(a: Value, b: Value): Value {
    expectSame(a, b, "add");
    const out = this.value(a.rows, a.width, "add");
    this.nodes.push({ op: "add", out, a, b });
    return out;
  }

  /** The rows whose logits are wanted: what follows is the head. */
  sampleRows(x: Value): Value {
    expect(x.rows === "tokens", "sampleRows: token rows");
    const out = this.value("samples", x.width, "sampleRows");
    this.nodes.push({ op: "sampleRows", out, in: x });
    return out;
  }

  /** cap * tanh(x / cap). */
  softcap(x: Value, cap: number): Value {
    expect(
      Number.isFinite(cap) && cap > 0,
      `softcap: a cap above 0, got ${cap}`,
    );
    const out = this.value(x.rows, x.width, "softcap");
    this.nodes.push({ op: "softcap", out, in: x, cap });
    return out;
  }

  /** Says which value the logits are: [samples, vocabSize]. */
  logits(x: Value): void {
    expect(this.result === null, "one call of logits");
    expect(x.rows === "samples", "logits: sample rows (see sampleRows)");
    this.result = x;
  }

  /** What was recorded. */
  finish(): Graph {
    if (!this.result)
      throw new OctavoError("invalid_config", "model graph: expected logits");
    return { nodes: this.nodes, logits: this.result };
  }

  private value(rows: Value["rows"], width: number, where: string): Value {
    expect(
      Number.isSafeInteger(width) && width > 0,
      `${where}: a width above 0, got ${width}`,
    );
    return { id: this.numValues++, rows, width };
  }
}

function expect(condition: boolean, expected: string): void {
  if (!condition)
    throw new OctavoError(
      "invalid_config",
      `model graph: expected ${expected}`,
    );
}

function expectWidth(x: Value, width: number, where: string): void {
  expect(x.width === width, `${where} of width ${width}, got ${x.width}`);
}

function expectSame(a: Value, b: Value, where: string): void {
  expect(a.rows === b.rows, `${where}: two values of the same rows`);
  expectWidth(b, a.width, where);
}
