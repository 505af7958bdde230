import {
  parentPort,
  receiveMessageOnPort,
  workerData,
} from "node:worker_threads";
import type { MessagePort } from "node:worker_threads";
import { assert } from "../core/errors.js";
import { loadAddon } from "../runner/addon.js";
import { EngineHost } from "./engine-host.js";
import type { EngineWorkerData, FromEngine, ToEngine } from "./messages.js";
import { startEngine } from "./start-engine.js";
import type { StartedEngine } from "./start-engine.js";
import { toWireError } from "./wire-error.js";

/**
 * The engine's thread: promises while it starts, none after. It works through its messages, makes one step, posts what
 * came of it, and sleeps on the doorbell when there is nothing to do.
 */
async function main(port: MessagePort): Promise<void> {
  const { config, doorbell } = workerData as EngineWorkerData;
  const emit = (message: FromEngine): void => port.postMessage(message);
  let started: StartedEngine | null = null;
  try {
    started = await startEngine(config, emit);
    if (config.device !== "null") loadAddon().shortenTimeSlice();
    const host = new EngineHost(started.engine, (message, transfer) =>
      port.postMessage(message, transfer),
    );
    runLoop(host, port, new Int32Array(doorbell));
  } catch (error) {
    emit({ type: "fatal", error: toWireError(error) });
  } finally {
    started?.close();
    port.close();
  }
}

function runLoop(host: EngineHost, port: MessagePort, bell: Int32Array): void {
  for (;;) {
    // Read before the messages: one that is posted after they were looked through has changed it, and wait returns.
    const rung = Atomics.load(bell, 0);
    if (!receiveAll(host, port)) return;
    if (host.idle) Atomics.wait(bell, 0, rung);
    else host.step();
  }
}

/** False: the client wants the engine to end. */
function receiveAll(host: EngineHost, port: MessagePort): boolean {
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (!received) return true;
    const message = received.message as ToEngine;
    if (message.type === "close") return false;
    host.receive(message);
  }
}

assert(parentPort !== null, "engine-thread.js is the entry of a worker");
await main(parentPort);
