import type { ErrorCode } from "../core/errors.js";
import type { EncoderFiles } from "./encoder-files.js";

/** One text (or pair of texts) as the model reads it. */
export interface EncoderInput {
  /** Int32 [number of tokens], special ones included; at least one. */
  readonly ids: Int32Array;
  /** Which of two texts a token belongs to, Uint8 [number of tokens]; null: all to the first. */
  readonly typeIds: Uint8Array | null;
}

export interface EncoderWorkerData {
  readonly files: EncoderFiles;
  /** Threads of the runtime. Given 0 it would take a machine's cores, whatever a container may use of them. */
  readonly threads: number;
}

/** What the worker found in the model. */
export interface ModelInfo {
  /** A cross-encoder gives one number for an input: how well its two texts go together. */
  readonly kind: "embedding" | "cross-encoder";
  /** Numbers that come out for an input. */
  readonly width: number;
  /** What becomes of the tokens' vectors; "model": its graph makes one of them itself. */
  readonly pooling: string;
  /** The batch that the graph is fixed to; null: any. */
  readonly fixedBatch: number | null;
  /** The length that the graph is fixed to; null: any. */
  readonly fixedLength: number | null;
  /** False: the graph has no attention mask, so inputs of a batch must be equally long. */
  readonly canPad: boolean;
  /** The graph rounds its numbers by their range over a whole batch, so an input must be alone in one. */
  readonly rangesOverBatch: boolean;
}

/** Inputs back to back. */
export interface Batch {
  /** Int32 [sum of lengths] */
  readonly ids: Int32Array;
  /** Uint8 [sum of lengths] */
  readonly typeIds: Uint8Array;
  /** Int32 [inputs] */
  readonly lengths: Int32Array;
}

export type ToEncoderWorker =
  { readonly type: "run"; readonly batch: Batch } | { readonly type: "close" };

export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly param: string | null;
}

/** One batch at a time: an answer is that of the last "run". */
export type FromEncoderWorker =
  | { readonly type: "ready"; readonly info: ModelInfo }
  | { readonly type: "refused"; readonly error: PlainError }
  /** vectors: Float32 [inputs, width] */
  | { readonly type: "done"; readonly vectors: Float32Array<ArrayBuffer> }
  | { readonly type: "failed"; readonly reason: string };
