/** The model in ONNX Runtime: batches of token ids in, vectors out. Lives in the worker; a run blocks its thread. */
import { createRequire } from "node:module";
import type * as onnx from "onnxruntime-node";
import type { InferenceSession } from "onnxruntime-node";
import { assert, OctavoError } from "../core/errors.js";
import { hasDynamicRanges } from "./dynamic-ranges.js";
import type { EncoderFiles } from "./encoder-files.js";
import { widen } from "./half.js";
import type { Batch, EncoderWorkerData, ModelInfo } from "./messages.js";
import { planModel, type ModelPlan, type Tensor } from "./model-plan.js";
import { pool } from "./pooling.js";

type Runtime = typeof onnx;

/** Errors only: warnings of its graph optimizer say nothing to who runs a server. */
const LOG_ERRORS = 3;

export class EncoderSession {
  readonly info: ModelInfo;

  private constructor(
    private readonly runtime: Runtime,
    private readonly session: InferenceSession,
    private readonly files: EncoderFiles,
    private readonly plan: ModelPlan,
    width: number,
    rangesOverBatch: boolean,
  ) {
    const { kind, pooled, fixedBatch, fixedLength, canPad } = plan;
    this.info = {
      kind,
      width,
      pooling: pooled ? "model" : files.pooling,
      fixedBatch,
      fixedLength,
      canPad,
      rangesOverBatch,
    };
  }

  /**
   * Loads the graph and runs it once.
   * Errors: `unsupported_model`, `invalid_model`; `invalid_config` where onnxruntime-node is missing.
   */
  static async open({
    files,
    threads,
  }: EncoderWorkerData): Promise<EncoderSession> {
    const runtime = loadRuntime();
    const session = await runtime.InferenceSession.create(files.modelFile, {
      intraOpNumThreads: threads,
      logSeverityLevel: LOG_ERRORS,
      // Its threads would burn the cores that the text model computes on.
      extra: { session: { intra_op: { allow_spinning: "0" } } },
    }).catch((error: unknown) => {
      throw broken(files, "cannot be loaded", error);
    });
    const plan = planModel(
      files,
      tensors(session.inputMetadata),
      tensors(session.outputMetadata),
    );
    const probe = {
      ids: new Int32Array(2),
      typeIds: new Uint8Array(2),
      lengths: Int32Array.of(2),
    };
    const ranges = hasDynamicRanges(files.modelFile);
    const open = new EncoderSession(runtime, session, files, plan, 0, ranges);
    const { vectors, width } = await open
      .compute(probe)
      .catch((error: unknown) => {
        throw broken(files, "fails on two tokens", error);
      });
    if (vectors.length === 0 || (plan.kind === "cross-encoder" && width !== 1))
      throw broken(
        files,
        "gives something else than it says",
        new Error(`${width} numbers for an input`),
      );
    return new EncoderSession(runtime, session, files, plan, width, ranges);
  }

  /** @returns Float32 [inputs, info.width] */
  async run(batch: Batch): Promise<Float32Array<ArrayBuffer>> {
    const { vectors, width } = await this.compute(batch);
    assert(width === this.info.width, `${width} numbers for an input`);
    return vectors;
  }

  private async compute(
    batch: Batch,
  ): Promise<{ vectors: Float32Array<ArrayBuffer>; width: number }> {
    const { plan } = this;
    const rows = plan.fixedBatch ?? batch.lengths.length;
    const padded = plan.fixedLength ?? Math.max(...batch.lengths);
    const feeds = Object.fromEntries(
      plan.inputs.map(({ name, type }) => {
        const Data = type === "int64" ? BigInt64Array : Int32Array;
        const data = new Data(rows * padded);
        this.fill(name, lowWords(data), batch, padded);
        return [name, new this.runtime.Tensor(type, data, [rows, padded])];
      }),
    );
    for (const { name, type, heads, headDim } of plan.past) {
      const none = type === "float32" ? new Float32Array() : new Uint16Array();
      const dims = [rows, heads, 0, headDim];
      feeds[name] = new this.runtime.Tensor(type, none, dims);
    }
    const outputs = await this.session.run(feeds, [plan.output]);
    const output = outputs[plan.output];
    if (output === undefined) throw new Error(`no output ${plan.output}`);
    const { dims } = output;
    const data = floats(output);
    const width = dims.at(-1) ?? 0;
    const inputs = batch.lengths.length;
    const expected = plan.pooled ? rows * width : rows * padded * width;
    if (data.length !== expected)
      throw new Error(`output ${plan.output} is [${dims.join(", ")}]`);
    const vectors = plan.pooled
      ? data.slice(0, inputs * width)
      : pool(this.files.pooling, data, batch.lengths, padded, width);
    return { vectors, width };
  }

  /** @param set writes a number of the tensor, Int [rows, padded], which is 0 everywhere */
  private fill(
    name: string,
    set: (at: number, value: number) => void,
    { ids, typeIds, lengths }: Batch,
    padded: number,
  ): void {
    const { padTokenId } = this.files;
    let from = 0;
    lengths.forEach((length, row) => {
      const start = row * padded;
      for (let i = 0; i < length; i++) {
        if (name === "input_ids") set(start + i, ids[from + i] as number);
        else if (name === "attention_mask") set(start + i, 1);
        else if (name === "token_type_ids")
          set(start + i, typeIds[from + i] as number);
        else set(start + i, i);
      }
      if (name === "input_ids")
        for (let i = length; i < padded; i++) set(start + i, padTokenId);
      from += length;
    });
    // A graph of a fixed batch computes on its empty rows too; without any token they would be NaN, which is dropped.
  }
}

/** A tensor's numbers; the runtime hands float16 over as bits where the language has no such array. */
function floats({ type, data }: onnx.Tensor): Float32Array<ArrayBuffer> {
  if (data instanceof Float32Array) return data as Float32Array<ArrayBuffer>;
  if (type === "float16" && ArrayBuffer.isView(data))
    return widen(
      new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2),
    );
  throw new Error(`an output of ${type}`);
}

/** Sets small non-negative integers: the low words of 64-bit ones, without a BigInt for each. */
function lowWords(
  data: BigInt64Array | Int32Array,
): (at: number, value: number) => void {
  if (data instanceof Int32Array) return (at, value) => (data[at] = value);
  const words = new Int32Array(data.buffer);
  return (at, value) => (words[2 * at] = value);
}

/** The package is optional. Errors: `invalid_config`, saying how to get it. */
function loadRuntime(): Runtime {
  try {
    return createRequire(import.meta.url)("onnxruntime-node") as Runtime;
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `Embedding models need the package onnxruntime-node, which cannot be loaded here (npm install onnxruntime-node): ${firstLine(error)}`,
      "embedding-model",
    );
  }
}

function tensors(
  metadata: readonly InferenceSession.ValueMetadata[],
): Tensor[] {
  return metadata.map((value) =>
    value.isTensor
      ? { name: value.name, type: value.type, shape: value.shape }
      : { name: value.name, type: "no tensor", shape: [] },
  );
}

function broken(
  { modelFile }: EncoderFiles,
  problem: string,
  error: unknown,
): OctavoError {
  if (error instanceof OctavoError) return error;
  return new OctavoError(
    "invalid_model",
    `${modelFile}: ${problem}: ${firstLine(error)}`,
    modelFile,
  );
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n", 1)[0] ?? "";
}
