import { Worker } from "node:worker_threads";
import { OctavoError } from "../core/errors.js";
import type {
  Batch,
  EncoderWorkerData,
  FromEncoderWorker,
  ModelInfo,
  ToEncoderWorker,
} from "./messages.js";

/** What a running batch gets before its thread is ended all the same. */
const CLOSE_MS = 5000;

interface Pending<T> {
  resolve(value: T): void;
  reject(error: OctavoError): void;
}

/** The worker's thread, from its start to its end. */
export class EncoderThread {
  /** Rejects with what kept the model from loading. */
  readonly ready: Promise<ModelInfo>;
  private readonly worker: Worker;
  private readonly exited: Promise<void>;
  private starting: Pending<ModelInfo> | null = null;
  private running: Pending<Float32Array> | null = null;
  private reason = "it ended by itself";

  /** @param onEnd the thread is there no more */
  constructor(data: EncoderWorkerData, entry: URL, onEnd: () => void) {
    this.worker = new Worker(entry, {
      workerData: data,
      name: "octavo-encoder",
    });
    this.ready = new Promise((resolve, reject) => {
      this.starting = { resolve, reject };
    });
    this.exited = new Promise((resolve) => {
      this.worker.once("exit", () => {
        const error = new OctavoError(
          "device_error",
          `The embedding model's worker was lost: ${this.reason}.`,
        );
        this.starting?.reject(error);
        this.running?.reject(error);
        onEnd();
        resolve();
      });
    });
    this.worker.on("message", (message: FromEncoderWorker) =>
      this.receive(message),
    );
    this.worker.on("error", (error) => (this.reason = error.message));
  }

  /**
   * One batch at a time.
   * @returns Float32 [inputs, width]
   * Rejects with `internal_error` where the runtime fails, `device_error` where the thread ends.
   */
  run(batch: Batch): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      this.running = { resolve, reject };
      this.post({ type: "run", batch });
    });
  }

  /** Resolves when the thread has ended. */
  async close(): Promise<void> {
    this.post({ type: "close" });
    const timer = setTimeout(() => void this.worker.terminate(), CLOSE_MS);
    await this.exited;
    clearTimeout(timer);
  }

  private post(message: ToEncoderWorker): void {
    this.worker.postMessage(message);
  }

  private receive(message: FromEncoderWorker): void {
    const { starting, running } = this;
    switch (message.type) {
      case "ready":
        this.starting = null;
        starting?.resolve(message.info);
        break;
      case "refused": {
        this.starting = null;
        const { code, message: text, param } = message.error;
        starting?.reject(new OctavoError(code, text, param));
        break;
      }
      case "done":
        this.running = null;
        running?.resolve(message.vectors);
        break;
      case "failed":
        this.running = null;
        running?.reject(
          new OctavoError(
            "internal_error",
            `The embedding model failed: ${message.reason}`,
          ),
        );
        break;
    }
  }
}
