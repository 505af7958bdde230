import { parentPort, workerData } from "node:worker_threads";
import type { MessagePort } from "node:worker_threads";
import { assert, OctavoError } from "../core/errors.js";
import { EncoderSession } from "./encoder-session.js";
import type {
  EncoderWorkerData,
  FromEncoderWorker,
  ToEncoderWorker,
} from "./messages.js";

/** The encoder's thread: loads the model, then answers batches one after the other until it is told to close. */
async function main(port: MessagePort): Promise<void> {
  const post = (message: FromEncoderWorker): void => port.postMessage(message);
  let session: EncoderSession;
  try {
    session = await EncoderSession.open(workerData as EncoderWorkerData);
  } catch (error) {
    if (!(error instanceof OctavoError)) throw error;
    const { code, message, param } = error;
    post({ type: "refused", error: { code, message, param } });
    return;
  }
  port.on("message", (message: ToEncoderWorker) => {
    if (message.type === "close") return port.close();
    session.run(message.batch).then(
      (vectors) =>
        port.postMessage({ type: "done", vectors }, [vectors.buffer]),
      (error: unknown) =>
        post({
          type: "failed",
          reason: error instanceof Error ? error.message : String(error),
        }),
    );
  });
  post({ type: "ready", info: session.info });
}

assert(parentPort !== null, "encoder-worker.js is the entry of a worker");
await main(parentPort);
