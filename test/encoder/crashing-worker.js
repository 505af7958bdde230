/** The encoder's worker, but for one token id that ends it in the middle of a batch, as a crash would. */
import { parentPort } from "node:worker_threads";

const FATAL_TOKEN = 1;
parentPort.on("message", (message) => {
  if (message.type === "run" && message.batch.ids.includes(FATAL_TOKEN))
    process.exit(7);
});
await import("../../dist/src/encoder/encoder-worker.js");
