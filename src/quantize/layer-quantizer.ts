import type { LinearNode, Value } from "../../models/graph.js";
import { assert, OctavoError } from "../core/errors.js";
import type { TensorSource } from "../program/program.js";
import type { WeightResolver } from "../program/weights.js";
import type { NativeQuantizer } from "../runner/addon.js";
import type { Group, QuantizationPlan } from "./plan.js";
import type { SafetensorsWriter } from "./safetensors-writer.js";
import { meanMagnitudes, searchScale } from "./scale-search.js";
import type { ScaleChoice, SearchedWeights } from "./scale-search.js";
import { breathe, gatherRows } from "./walk.js";

/** Rows of activations that errors are measured on; scales come from all of them. */
const SAMPLE_ROWS = 512;

/** What became of one linear; errors are ||X (W' - W)^T|| / ||X W^T|| on the calibration sample. */
export interface LinearReport {
  name: string;
  k: number;
  n: number;
  /** 0: not scaled. */
  alpha: number;
  roundedError: number;
  scaledError: number;
  finalError: number;
}

export interface LayerQuantizerOptions {
  groupSize: number;
  /** False: s = 1 everywhere, to compare with. */
  scale: boolean;
  clip: boolean;
  /** Rows of calibration; what follows is only measured. */
  numRows: number;
}

/** A group whose scales are known. */
interface Searched {
  /** [SAMPLE_ROWS or fewer, k] */
  sample: Float32Array;
  choice: ScaleChoice | null;
  /** Linears that are not written yet. */
  left: number;
}

/**
 * Quantizes linears as their inputs come by. A linear is written once both of its scales are known: of its columns
 * (its own input's group) and of its rows (the group that it is folded into, which comes later):
 *
 *   input of q, k, v: search s1;  write q, k      v waits for s2
 *   input of o:       search s2;  write o, v
 */
export class LayerQuantizer {
  readonly reports: LinearReport[] = [];
  private readonly searched = new Map<number, Searched>();

  constructor(
    private readonly plan: QuantizationPlan,
    private readonly weights: WeightResolver,
    private readonly native: NativeQuantizer,
    private readonly writer: Pick<SafetensorsWriter, "write">,
    private readonly options: LayerQuantizerOptions,
    private readonly signal: AbortSignal,
  ) {}

  /** Takes the activations of a value, [rows, width]. */
  async take(value: Value, rows: Float32Array): Promise<void> {
    const group = this.plan.groups.get(value.id);
    if (!group) return;
    const sample = sampleOf(rows, value.width, this.options.numRows);
    const choice = await this.search(group, sample, rows);
    const left = group.linears.filter(this.plan.isQuantized).length;
    this.searched.set(value.id, { sample, choice, left });
    for (const node of group.linears)
      if (!this.plan.foldOf.has(node.module)) await this.finish(node);
    if (group.fold?.kind === "linear") await this.finish(group.fold.node);
  }

  /** What divides a dense tensor of `module`: a folded norm's weight, or the bias and rows of a folded linear. */
  producerScale(module: string): Float32Array | null {
    for (const group of this.plan.groups.values()) {
      const fold = group.fold;
      const folded = fold?.kind === "norm" ? fold.module : fold?.node.module;
      if (folded === module)
        return this.searched.get(group.input.id)?.choice?.producer ?? null;
    }
    return null;
  }

  private async search(
    group: Group,
    sample: Float32Array,
    rows: Float32Array,
  ): Promise<ScaleChoice | null> {
    if (!group.fold || !this.options.scale) return null;
    const { width } = group.input;
    const searched = group.linears
      .filter(this.plan.isQuantized)
      .map((node): SearchedWeights => {
        const w = readFloats(
          this.native,
          this.weights.linear(node).part.weight,
        );
        return { w, energy: this.energyOf(sample, w, width) };
      });
    return searchScale(
      this.native,
      sample,
      meanMagnitudes(rows, width, this.options.numRows),
      group.fold.kind === "linear" ? group.fold.attention : null,
      searched,
      this.options.groupSize,
      this.signal,
    );
  }

  private energyOf(x: Float32Array, w: Float32Array, k: number): number {
    // A linear of zeros has no error to share.
    return Math.max(this.native.outputEnergy(x, w, k), Number.MIN_VALUE);
  }

  /** Quantizes a linear and writes it; a dense one of a scaled group is written by its owner. */
  private async finish(node: LinearNode): Promise<void> {
    if (!this.plan.isQuantized(node)) return;
    await breathe(this.signal);
    const state = this.searched.get(node.in.id);
    assert(state !== undefined, "a linear's input comes before its output");
    const w = readFloats(this.native, this.weights.linear(node).part.weight);
    const columns = state.choice?.columns ?? null;
    const clip = this.clipOf(node, state, w);
    this.report(node, state, w, clip);
    scaleMatrix(w, node.in.width, columns, this.producerScale(node.module));
    this.pack(node, w, clip);
    state.left--;
    if (state.left === 0) state.sample = new Float32Array(0);
  }

  private clipOf(
    node: LinearNode,
    { sample, choice }: Searched,
    w: Float32Array,
  ): Float32Array | null {
    if (!this.options.clip) return null;
    const { width: k } = node.in;
    const { groupSize } = this.options;
    const columns = choice?.columns ?? null;
    const clip = new Float32Array((2 * w.length) / groupSize);
    const scaledX = scaled(sample, k, columns, true);
    const scaledW = scaled(w, k, columns, false);
    this.native.searchClip(scaledX, scaledW, k, groupSize, clip);
    return clip;
  }

  private report(
    node: LinearNode,
    { sample, choice }: Searched,
    w: Float32Array,
    clip: Float32Array | null,
  ): void {
    const k = node.in.width;
    const energy = this.energyOf(sample, w, k);
    const error = (
      scale: Float32Array | null,
      clips: Float32Array | null,
    ): number => {
      const { groupSize } = this.options;
      return Math.sqrt(
        this.native.quantizationError(sample, w, k, scale, clips, groupSize) /
          energy,
      );
    };
    const columns = choice?.columns ?? null;
    const report = {
      ...{ name: node.module, k, n: node.out.width },
      alpha: choice?.alpha ?? 0,
      roundedError: error(null, null),
      scaledError: error(columns, null),
      finalError: error(columns, clip),
    };
    if (!Number.isFinite(report.finalError))
      throw new OctavoError(
        "invalid_model",
        `${node.module}: expected weights and activations of a size that 16-bit scales can hold, got an error of ${report.finalError}.`,
        node.module,
      );
    this.reports.push(report);
  }

  private pack(
    node: LinearNode,
    w: Float32Array,
    clip: Float32Array | null,
  ): void {
    const k = node.in.width;
    const n = node.out.width;
    const { groupSize } = this.options;
    const groups = k / groupSize;
    const qweight = new Int32Array((k * n) / 8);
    const qzeros = new Int32Array((groups * n) / 8);
    const scales = new Uint16Array(groups * n);
    this.native.packAwq(w, k, clip, groupSize, qweight, qzeros, scales);
    this.writer.write(`${node.module}.qweight`, qweight);
    this.writer.write(`${node.module}.qzeros`, qzeros);
    this.writer.write(`${node.module}.scales`, scales);
  }

  /** [k] what multiplies the columns of a dense linear that shares its input with quantized ones. */
  columnScale(node: LinearNode): Float32Array | null {
    return this.searched.get(node.in.id)?.choice?.columns ?? null;
  }
}

/** A tensor as f32. Errors: `invalid_model` naming it where a number is not finite. */
export function readFloats(
  native: NativeQuantizer,
  source: TensorSource,
): Float32Array {
  const values = new Float32Array(source.shape.reduce((a, b) => a * b, 1));
  const bad = native.readFloats(source, values);
  if (bad >= 0)
    throw new OctavoError(
      "invalid_model",
      `tensor ${source.name}: expected finite numbers, got ${values[bad]} at ${bad}`,
      source.name,
    );
  return values;
}

/** w [n, k]: columns times `columns`, rows divided by `rows`, in place. */
export function scaleMatrix(
  w: Float32Array,
  k: number,
  columns: Float32Array | null,
  rows: Float32Array | null,
): void {
  if (!columns && !rows) return;
  for (let row = 0, at = 0; at < w.length; row++) {
    const divisor = rows ? (rows[row] as number) : 1;
    for (let i = 0; i < k; i++, at++)
      w[at] =
        ((w[at] as number) * (columns ? (columns[i] as number) : 1)) / divisor;
  }
}

/** A copy of x [rows, k] with each column times its factor, or divided by it. */
function scaled(
  x: Float32Array,
  k: number,
  columns: Float32Array | null,
  divided: boolean,
): Float32Array {
  const copy = x.slice();
  const factors = divided ? columns?.map((factor) => 1 / factor) : columns;
  scaleMatrix(copy, k, factors ?? null, null);
  return copy;
}

/** Rows spread evenly over the first `numRows`. */
function sampleOf(
  rows: Float32Array,
  width: number,
  numRows: number,
): Float32Array {
  const count = Math.min(SAMPLE_ROWS, numRows);
  const index = Array.from({ length: count }, (_, i) =>
    Math.floor((i * numRows) / count),
  );
  return gatherRows(rows, width, index);
}
