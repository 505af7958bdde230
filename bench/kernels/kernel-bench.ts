import {
  loadAddon,
  type KvCacheDType,
  type OpBenchResult,
  type OpBenchSpec,
} from "../../src/runner/addon.js";
import { measureMachine, machineLines, type Machine } from "../machine.js";
import { linearShapes, type LinearShape, type ModelShape } from "./shapes.js";

export const OPS = [
  "linear",
  "attention",
  "embed",
  "rms_norm",
  "silu_mul",
  "add",
  "rope_store_kv",
  "gather_rows",
  "softcap",
  "sample",
] as const;
export type OpName = (typeof OPS)[number];
type ElementwiseOp = Exclude<
  OpName,
  "linear" | "attention" | "rope_store_kv" | "sample"
>;
/** Weights of linears; int4-a8: int4 with inputs rounded to 8 bits. */
export const SCHEMES = ["int4-a8", "int4", "f16", "bf16", "f32"] as const;
export type Scheme = (typeof SCHEMES)[number];

export interface KernelBenchOptions {
  shape: ModelShape;
  device: "cpu" | "reference";
  threads: number;
  ops: readonly OpName[];
  schemes: readonly Scheme[];
  groupSize: number;
  /** Token rows of linears and elementwise ops; sequences of decode attention and rows that are sampled, up to 64. */
  rows: readonly number[];
  contextLens: readonly number[];
  kvCacheDtype: KvCacheDType;
  /** Per figure. */
  seconds: number;
  /** Bytes of weights or pages that calls take turns with. */
  workingSet: number;
}

export interface KernelFigures {
  op: OpName;
  /** e.g. "qkv int4 g128", "decode, context 512". */
  variant: string;
  rows: number;
  calls: number;
  medianSeconds: number;
  bestSeconds: number;
  bytes: number;
  flop: number;
  bytesPerSecond: number;
  flopPerSecond: number;
  /** Of the ceilings; more than 1 of the read bandwidth means that the data lay in a cache. */
  readShare: number;
  /** Of the multiply-add rate of f32, or of bytes where `int8`. */
  flopShare: number;
  int8: boolean;
  /** max(bytes / read bandwidth, flop / multiply-add rate) / time. */
  floorShare: number;
  /** Against the reference backend, relative RMS (sample: share of other tokens). */
  error: number;
}

/** All linears of one forward pass. */
export interface PassFigures {
  scheme: string;
  rows: number;
  seconds: number;
  floorShare: number;
  /** rows / seconds: what the model would reach were nothing but linears in it. */
  tokensPerSecond: number;
}

export interface KernelBenchResult {
  bench: "kernels";
  model: ModelShape;
  machine: Machine;
  seed: number;
  seconds: number;
  workingSet: number;
  kernels: KernelFigures[];
  passes: PassFigures[];
  /** What was left out, and why. */
  notes: string[];
}

/** Sequences or rows beyond this are no decode batch. */
const MAX_DECODE_ROWS = 64;
const PREFILL = 512;

/**
 * Times each op of a backend alone at a model's shapes. Made-up data is the same in every run (seed 0); weights and KV
 * pages are walked through in copies that no cache holds, as a forward pass does; activations stay in the cache, as in a
 * pass.
 */
export function runKernelBench(
  options: KernelBenchOptions,
  print: (line: string) => void,
): KernelBenchResult {
  const machine = measureMachine(options.device, options.threads);
  const result: KernelBenchResult = {
    bench: "kernels",
    model: options.shape,
    machine,
    seed: 0,
    seconds: options.seconds,
    workingSet: options.workingSet,
    kernels: [],
    passes: [],
    notes: [],
  };
  print(`Model: ${describeShape(options.shape)}`);
  machineLines(machine, 0).forEach(print);
  print(HEADER);
  const bench = new Bench(options, machine, result, print);
  for (const op of options.ops) bench.run(op);
  bench.printPasses();
  for (const note of result.notes) print(`Note: ${note}`);
  return result;
}

class Bench {
  constructor(
    private readonly options: KernelBenchOptions,
    private readonly machine: Machine,
    private readonly result: KernelBenchResult,
    private readonly print: (line: string) => void,
  ) {}

  run(op: OpName): void {
    switch (op) {
      case "linear":
        return this.linears();
      case "attention":
        return this.attention();
      case "sample":
        return this.sample();
      case "rope_store_kv":
        return this.ropeStoreKv();
      default:
        return this.elementwise(op);
    }
  }

  private linears(): void {
    for (const scheme of this.options.schemes) {
      const layers = linearShapes(this.options.shape);
      const done = layers.filter((layer) => this.linear(layer, scheme));
      if (done.length === layers.length) this.pass(scheme, layers);
    }
  }

  /** False: the scheme can't hold this layer. */
  private linear(layer: LinearShape, scheme: Scheme): boolean {
    const { groupSize, rows } = this.options;
    const { k, n, epilogue } = layer;
    const columns = epilogue === "silu_mul" ? 16 : 8;
    const isInt4 = scheme === "int4" || scheme === "int4-a8";
    if (isInt4 && (k % groupSize !== 0 || n % columns !== 0)) {
      this.result.notes.push(
        `${layer.layer} (${k} x ${n}) is left out in int4: groups of ${groupSize} must divide ${k}, and ${columns} must divide ${n}`,
      );
      return false;
    }
    this.measure(`${layer.layer} ${this.schemeName(scheme)}`, rows, {
      op: "linear",
      scheme: isInt4 ? "int4" : scheme,
      cpuActivations: scheme === "int4-a8" ? "int8" : "f32",
      k,
      n,
      epilogue,
      ...(isInt4 && { groupSize }),
    });
    return true;
  }

  private schemeName(scheme: Scheme): string {
    const group = `g${this.options.groupSize}`;
    if (scheme === "int4-a8") return `int4 ${group} a8`;
    return scheme === "int4" ? `int4 ${group}` : scheme;
  }

  private pass(scheme: Scheme, layers: readonly LinearShape[]): void {
    const name = this.schemeName(scheme);
    for (const rows of this.options.rows) {
      let seconds = 0;
      let floor = 0;
      for (const { layer, count } of layers) {
        const figures = this.result.kernels.find(
          (one) => one.variant === `${layer} ${name}` && one.rows === rows,
        );
        if (!figures) continue;
        seconds += count * figures.medianSeconds;
        floor += count * figures.medianSeconds * figures.floorShare;
      }
      this.result.passes.push({
        scheme: name,
        rows,
        seconds,
        floorShare: floor / seconds,
        tokensPerSecond: rows / seconds,
      });
    }
  }

  private attention(): void {
    const { shape, contextLens, kvCacheDtype, rows } = this.options;
    const { numHeads, numKvHeads, headDim } = shape;
    const op = { op: "attention", numHeads, numKvHeads, headDim, kvCacheDtype };
    for (const contextLen of contextLens) {
      // One call for each number: copies of the pages are made for the most rows of a call.
      for (const numSeqs of rows.filter((one) => one <= MAX_DECODE_ROWS))
        this.measure(
          `decode ${kvCacheDtype}, context ${contextLen}`,
          [numSeqs],
          {
            ...op,
            op: "attention",
            contextLen,
          },
        );
      const queryLen = Math.min(PREFILL, contextLen);
      this.measure(
        `prefill ${kvCacheDtype}, last ${queryLen} of ${contextLen}`,
        [queryLen],
        { ...op, op: "attention", contextLen, queryLen },
      );
    }
  }

  private sample(): void {
    const { vocabSize } = this.options.shape;
    for (const topKTopP of [false, true])
      this.measure(
        topKTopP ? "top-k 50, top-p 0.9" : "greedy",
        this.sampledRows,
        { op: "sample", vocabSize, topKTopP },
      );
  }

  private ropeStoreKv(): void {
    const { shape, rows, kvCacheDtype } = this.options;
    const { numHeads, numKvHeads, headDim } = shape;
    this.measure(kvCacheDtype, rows, {
      op: "rope_store_kv",
      numHeads,
      numKvHeads,
      headDim,
      kvCacheDtype,
    });
  }

  private elementwise(op: ElementwiseOp): void {
    const { rows, shape } = this.options;
    const { hiddenSize, intermediateSize, vocabSize } = shape;
    switch (op) {
      case "embed":
        return this.measure(`f16, width ${hiddenSize}`, rows, {
          op,
          vocabSize,
          width: hiddenSize,
        });
      case "gather_rows":
        return this.measure(`width ${hiddenSize}`, this.sampledRows, {
          op,
          width: hiddenSize,
        });
      case "softcap":
        return this.measure(`vocabulary ${vocabSize}`, this.sampledRows, {
          op,
          vocabSize,
        });
      default: {
        const width = op === "silu_mul" ? intermediateSize : hiddenSize;
        return this.measure(`width ${width}`, rows, { op, width });
      }
    }
  }

  private get sampledRows(): number[] {
    return this.options.rows.filter((one) => one <= MAX_DECODE_ROWS);
  }

  private measure(
    variant: string,
    rows: readonly number[],
    spec: Omit<
      OpBenchSpec,
      "device" | "threads" | "rows" | "seconds" | "workingSet"
    >,
  ): void {
    if (rows.length === 0) return;
    const { device, threads, seconds, workingSet } = this.options;
    const measured = loadAddon().benchOp({
      device,
      threads,
      seconds,
      workingSet,
      rows: Int32Array.from(rows),
      ...spec,
    });
    for (const figures of kernelFigures(
      spec.op,
      variant,
      measured,
      this.machine,
      spec.cpuActivations === "int8",
    )) {
      this.result.kernels.push(figures);
      this.print(formatKernel(figures));
    }
  }

  printPasses(): void {
    const { passes } = this.result;
    if (passes.length === 0) return;
    this.print("All linears of one forward pass:");
    for (const { scheme, rows, seconds, floorShare, tokensPerSecond } of passes)
      this.print(
        `  ${scheme.padEnd(12)} rows ${String(rows).padStart(4)}  ${(seconds * 1e3).toFixed(2).padStart(9)} ms  ${(floorShare * 100).toFixed(0).padStart(4)} % of the floor  ${tokensPerSecond.toFixed(1).padStart(8)} tok/s`,
      );
  }
}

/** Shares of the ceilings, of the median call. */
export function kernelFigures(
  op: OpName,
  variant: string,
  measured: OpBenchResult,
  { ceilings }: Pick<Machine, "ceilings">,
  int8 = false,
): KernelFigures[] {
  const { readBytesPerSecond } = ceilings;
  const flopPerSecond = int8
    ? ceilings.int8OpPerSecond
    : ceilings.flopPerSecond;
  return measured.rows.map((row) => {
    const time = row.medianSeconds;
    const floor = Math.max(
      row.bytes / readBytesPerSecond,
      row.flop / flopPerSecond,
    );
    return {
      op,
      variant,
      ...row,
      bytesPerSecond: row.bytes / time,
      flopPerSecond: row.flop / time,
      readShare: row.bytes / time / readBytesPerSecond,
      flopShare: row.flop / time / flopPerSecond,
      int8,
      floorShare: floor / time,
      error: measured.error,
    };
  });
}

const HEADER = `${"op".padEnd(14)}${"variant".padEnd(31)}${"rows".padStart(5)}${"us".padStart(11)}${"GB/s".padStart(8)}${"% read".padStart(8)}${"GFLOP/s".padStart(9)}${"% MAC".padStart(7)}${"% floor".padStart(9)}${"error".padStart(9)}`;

function formatKernel(figures: KernelFigures): string {
  const percent = (share: number): string => (share * 100).toFixed(0);
  return [
    figures.op.padEnd(14),
    figures.variant.padEnd(31),
    String(figures.rows).padStart(5),
    (figures.medianSeconds * 1e6).toFixed(1).padStart(11),
    (figures.bytesPerSecond / 1e9).toFixed(2).padStart(8),
    percent(figures.readShare).padStart(8),
    (figures.flopPerSecond / 1e9).toFixed(1).padStart(9),
    percent(figures.flopShare).padStart(7),
    percent(figures.floorShare).padStart(9),
    figures.error.toExponential(1).padStart(9),
  ].join("");
}

function describeShape(shape: ModelShape): string {
  return `${shape.name} (hidden ${shape.hiddenSize}, ${shape.numLayers} layers, ${shape.numHeads}/${shape.numKvHeads} heads of ${shape.headDim}, ffn ${shape.intermediateSize}, vocabulary ${shape.vocabSize})`;
}
