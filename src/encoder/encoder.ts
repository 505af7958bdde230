/**
 * A model that reads texts and gives numbers for them: an embedding model or a cross-encoder, in a thread of its own.
 *
 *   inputs -> EncoderQueue -batch-> EncoderThread | worker: EncoderSession (ONNX Runtime) -> pool -> vectors
 */
import { now } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import { RestartBudget } from "../core/restart-budget.js";
import type { BatchLimits } from "./batching.js";
import { readEncoderFiles, type EncoderFiles } from "./encoder-files.js";
import { EncoderQueue, type QueueBounds, type Taken } from "./encoder-queue.js";
import { EncoderThread } from "./encoder-thread.js";
import { EncoderTokenizer } from "./encoder-tokenizer.js";
import type { EncoderInput, ModelInfo } from "./messages.js";

export interface EncoderOptions extends Partial<QueueBounds> {
  /** Of the runtime, at least 1. Default 1. */
  threads?: number;
  /** The graph among several of the directory, as model_fp16.onnx. Default model.onnx. */
  modelFile?: string;
  /** Most tokens of a batch, padding included. Default 4096. */
  maxBatchTokens?: number;
  /** The compiled encoder-worker.js; by default the one beside this file. */
  workerUrl?: URL;
}

/** What was found in the model and its files. */
export interface EncoderInfo
  extends
    Pick<ModelInfo, "kind" | "width" | "pooling">,
    Pick<
      EncoderFiles,
      | "directory"
      | "modelFile"
      | "normalize"
      | "described"
      | "matryoshka"
      | "activation"
    > {
  /** Most tokens of an input, special ones included. */
  readonly maxLength: number;
  /** Token ids are below this. */
  readonly vocabSize: number;
  /** Of the runtime. */
  readonly threads: number;
}

/** Where no file says how much a model reads. */
const DEFAULT_MAX_LENGTH = 512;
const MAX_BATCH_TOKENS = 4096;
const MAX_BATCH_INPUTS = 64;

export class Encoder {
  /** When the last batch ended, or the first request after an idle time came; milliseconds as of `now()`. */
  lastBatchTime = now();
  numBatches = 0;
  numTokens = 0;
  private readonly queue: EncoderQueue;
  private readonly budget = new RestartBudget();
  private thread: EncoderThread | null = null;
  private working = false;
  private draining = false;
  private closing: Promise<void> | null = null;

  private constructor(
    readonly info: EncoderInfo,
    readonly tokenizer: EncoderTokenizer,
    private readonly limits: BatchLimits,
    private readonly startThread: () => EncoderThread,
    bounds: QueueBounds,
  ) {
    this.queue = new EncoderQueue(bounds);
  }

  /**
   * @param directory in the hub's ONNX layout (encoder-files.ts)
   * Errors: `invalid_model`, `unsupported_model`; `invalid_config` for modelFile, and where onnxruntime-node is missing.
   */
  static async load(
    directory: string,
    options: EncoderOptions = {},
  ): Promise<Encoder> {
    const files = await readEncoderFiles(directory, options.modelFile);
    const tokenizer = await EncoderTokenizer.load(directory, files);
    const entry =
      options.workerUrl ?? new URL("./encoder-worker.js", import.meta.url);
    const data = { files, threads: options.threads ?? 1 };
    let encoder: Encoder | null = null;
    const start = (): EncoderThread => {
      const thread = new EncoderThread(data, entry, () =>
        encoder?.lost(thread),
      );
      return thread;
    };
    const first = start();
    const model = await first.ready;
    encoder = new Encoder(
      infoOf(files, model, tokenizer, data.threads),
      tokenizer,
      limitsOf(model, options),
      start,
      {
        maxNumQueuedReqs: options.maxNumQueuedReqs ?? 0,
        maxNumQueuedTokens: options.maxNumQueuedTokens ?? 0,
      },
    );
    encoder.thread = first;
    return encoder;
  }

  /** Requests that have not ended. */
  get numPending(): number {
    return this.queue.numPending;
  }
  /** Inputs that are in no batch yet. */
  get numWaiting(): number {
    return this.queue.numWaiting;
  }

  /**
   * Computes the inputs, together with those of other requests; what comes of one does not depend on the others.
   * @param inputs of at most info.maxLength tokens, ids below info.vocabSize
   * @returns for each, in order, Float32 [info.width], before normalization or activation
   * Errors: `queue_full`, `shutting_down`, `request_aborted`, `device_error` (the worker was lost), `internal_error`.
   */
  async run(
    inputs: readonly EncoderInput[],
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    if (this.draining) throw shuttingDown();
    if (this.queue.numPending === 0) this.lastBatchTime = now();
    const results = this.queue.add(inputs, signal);
    void this.work();
    return results;
  }

  /** Refuses new requests from now on. */
  drain(): void {
    this.draining = true;
  }

  /** Ends the thread; requests that have not ended get shutting_down. Idempotent. */
  close(): Promise<void> {
    this.draining = true;
    this.queue.failAll(shuttingDown());
    this.closing ??= this.thread?.close() ?? Promise.resolve();
    return this.closing;
  }

  /** Computes batch after batch while something waits. */
  private async work(): Promise<void> {
    if (this.working) return;
    this.working = true;
    for (;;) {
      const thread = await this.ready();
      const taken = thread === null ? null : this.queue.take(this.limits);
      if (thread === null || taken === null) break;
      await this.compute(thread, taken);
    }
    this.working = false;
  }

  private async compute(thread: EncoderThread, taken: Taken): Promise<void> {
    const { ids } = taken.batch;
    try {
      const vectors = await thread.run(taken.batch);
      this.queue.deliver(taken, vectors, this.info.width);
    } catch (error) {
      this.queue.fail(taken, asOctavoError(error));
    }
    this.numBatches++;
    this.numTokens += ids.length;
    this.lastBatchTime = now();
  }

  /** A thread with the model, a new one where it was lost; null, and everything fails, where there is none to be had. */
  private async ready(): Promise<EncoderThread | null> {
    try {
      if (this.closing !== null) throw shuttingDown();
      if (this.thread === null) {
        if (!this.budget.take())
          throw new OctavoError(
            "device_error",
            "The embedding model's worker was lost too often within a minute; it is started again later.",
          );
        this.thread = this.startThread();
      }
      const { thread } = this;
      await thread.ready;
      return thread;
    } catch (error) {
      this.queue.failAll(asOctavoError(error));
      return null;
    }
  }

  private lost(thread: EncoderThread): void {
    if (this.thread === thread) this.thread = null;
  }
}

function infoOf(
  files: EncoderFiles,
  { kind, width, pooling, fixedLength }: ModelInfo,
  tokenizer: EncoderTokenizer,
  threads: number,
): EncoderInfo {
  const { directory, modelFile, normalize, described } = files;
  const { matryoshka, activation } = files;
  return {
    kind,
    width,
    pooling,
    directory,
    modelFile,
    normalize,
    described,
    matryoshka,
    activation,
    maxLength: Math.min(
      files.maxLength ?? fixedLength ?? DEFAULT_MAX_LENGTH,
      fixedLength ?? Number.POSITIVE_INFINITY,
    ),
    vocabSize: files.vocabSize ?? tokenizer.numTokens,
    threads,
  };
}

function limitsOf(
  { fixedBatch, fixedLength, canPad, rangesOverBatch }: ModelInfo,
  { maxBatchTokens = MAX_BATCH_TOKENS }: EncoderOptions,
): BatchLimits {
  return {
    maxTokens: maxBatchTokens,
    maxInputs: rangesOverBatch ? 1 : (fixedBatch ?? MAX_BATCH_INPUTS),
    equalLengths: !canPad,
    fixedLength,
  };
}

function asOctavoError(error: unknown): OctavoError {
  if (error instanceof OctavoError) return error;
  return new OctavoError("internal_error", String(error));
}

function shuttingDown(): OctavoError {
  return new OctavoError("shutting_down", "The server is shutting down.");
}
