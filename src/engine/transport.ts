import { Worker } from "node:worker_threads";
import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import type { EngineWorkerData, FromEngine, ToEngine } from "./messages.js";
import { toWireError } from "./wire-error.js";

/** The two directions between a client and its engine. Messages arrive in order; none after close() has resolved. */
export interface EngineTransport {
  post(message: ToEngine): void;
  /** Called once, before the first message can arrive. An engine that ends by itself says so with `fatal`. */
  onMessage(listener: (message: FromEngine) => void): void;
  /** Ends the engine and waits for that. Idempotent. */
  close(): Promise<void>;
}

/** How long the thread may take to finish its step and free the device after `close`, in milliseconds. */
const CLOSE_TIMEOUT_MS = 10_000;

/** The engine in a thread of its own. */
export class WorkerTransport implements EngineTransport {
  private readonly worker: Worker;
  /** Int32 [1], shared: the thread sleeps on it while idle; any change wakes it. */
  private readonly bell: Int32Array;
  private readonly exited: Promise<void>;
  private listener: ((message: FromEngine) => void) | null = null;
  private closing = false;

  constructor(config: EngineConfig, entry: URL) {
    const doorbell = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    this.bell = new Int32Array(doorbell);
    const workerData: EngineWorkerData = { config, doorbell };
    this.worker = new Worker(entry, { workerData, name: "octavo-engine" });
    this.worker.on("message", (message: FromEngine) => this.deliver(message));
    this.worker.on("error", (error) =>
      this.deliver({ type: "fatal", error: toWireError(error) }),
    );
    this.exited = new Promise((resolve) => {
      this.worker.on("exit", (code) => {
        this.reportExit(code);
        resolve();
      });
    });
  }

  onMessage(listener: (message: FromEngine) => void): void {
    this.listener = listener;
  }

  post(message: ToEngine): void {
    this.worker.postMessage(message);
    Atomics.add(this.bell, 0, 1);
    Atomics.notify(this.bell, 0);
  }

  async close(): Promise<void> {
    if (!this.closing) {
      this.closing = true;
      this.post({ type: "close" });
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT_MS, "late");
    });
    if ((await Promise.race([this.exited, late])) === "late")
      await this.worker.terminate();
    clearTimeout(timer);
  }

  private deliver(message: FromEngine): void {
    if (!this.closing) this.listener?.(message);
  }

  private reportExit(code: number): void {
    const error = new OctavoError(
      "device_error",
      `The engine thread ended by itself (exit code ${code}).`,
    );
    // After a `fatal` of the thread's own this one changes nothing.
    this.deliver({ type: "fatal", error: toWireError(error) });
  }
}
