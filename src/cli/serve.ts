import { constants } from "node:os";
import { OctavoError } from "../core/errors.js";
import type { EngineClient } from "../engine/engine-client.js";
import { loadAddon } from "../runner/addon.js";
import type { App } from "../server/app.js";
import type { KeysFile } from "../server/keys-file.js";
import { isFindingModel } from "./find-model.js";
import { isEncoderAlone } from "./encoder-alone.js";
import { loadApp } from "./load-app.js";
import { loadEncoderApp } from "./load-encoder.js";
import type { LoadedApp } from "./loaded-app.js";
import type { ServeOptions } from "./serve-flags.js";
import {
  encoderLine,
  exampleOf,
  graphLine,
  pageLine,
  pasteLine,
  planTable,
} from "./serve-report.js";
import { StartupClock } from "./startup-clock.js";

/** Loads what is to be served, listens, and stays until a signal. Throws OctavoError for what the user can mend. */
export async function serve(
  model: string | undefined,
  options: ServeOptions,
): Promise<void> {
  const clock = new StartupClock();
  const stopEnding = endOnSignals();
  const loaded = isEncoderAlone(model, options)
    ? await loadEncoderApp(options, clock)
    : await loadApp(model, options, {
        onPlan: (directory, info) => log(planTable(directory, info)),
        clock,
      });
  const { app, engine, encoder } = loaded;
  if (encoder !== null) log(encoderLine(encoder.info));
  try {
    const address = await listen(app, options);
    // In this order: a signal that came just now is lost where a moment has no listener.
    stopOnSignals(loaded, options.shutdownTimeout);
    stopEnding();
    clock.end("server");
    app.started(clock.seconds);
    // From here on this thread delivers what others compute.
    loadAddon().shortenTimeSlice();
    const graphs = engine?.memory.graphs;
    if (graphs !== undefined && graphs.count > 0) log(graphLine(graphs));
    log(`Ready after ${clock.total.toFixed(1)} s.`);
    process.stdout.write(
      `Octavo listening on ${address}\n${pasteLine(address, exampleOf(loaded), options)}\n`,
    );
    if (options.uds === undefined)
      process.stdout.write(`${pageLine(address)}\n`);
    if (loaded.keysFile !== null) followKeys(loaded.keysFile);
    if (engine !== null) stopOnFailure(loaded, engine);
  } catch (error) {
    await encoder?.close();
    await engine?.close();
    throw error;
  }
}

async function listen(app: App, options: ServeOptions): Promise<string> {
  try {
    if (options.uds !== undefined) {
      await app.listen({ path: options.uds });
      return `unix:${options.uds}`;
    }
    await app.listen({ host: options.host, port: options.port });
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `Cannot listen on ${options.uds ?? `${options.host}:${options.port}`}: ${(error as Error).message}`,
      "port",
    );
  }
  const address = app.server.address();
  const port =
    address !== null && typeof address === "object"
      ? address.port
      : options.port;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  return `${options.sslCertfile === undefined ? "http" : "https"}://${host}:${port}`;
}

/** Reads the keys again at SIGHUP and when their file changes. With a mistake in it those before go on. */
function followKeys(keysFile: KeysFile): void {
  const reload = (): void => {
    try {
      keysFile.reload();
      log(`Read ${keysFile.keys.length} API keys from ${keysFile.path}.`);
    } catch (error) {
      log(`${(error as Error).message}. The API keys stay as they were.`);
    }
  };
  process.on("SIGHUP", reload);
  keysFile.watch(reload);
}

/** EX_SOFTWARE: a supervisor should start it again, unlike after 1 (a mistake in flags or model). */
const ENGINE_ENDED = 70;
/** What answers that are being written get before the process ends. */
const FAREWELL_MS = 3000;

/** An engine that ended by itself has told its requests; what they were told gets out, then the process ends. */
function stopOnFailure({ app, tracer }: LoadedApp, engine: EngineClient): void {
  engine.onFatal(({ message }) => {
    log(
      `The engine ended: ${message} Ending with code ${ENGINE_ENDED}, to be started again.`,
    );
    const end = (): never => process.exit(ENGINE_ENDED);
    setTimeout(end, FAREWELL_MS);
    app.beginDrain();
    app
      .close()
      .then(() => tracer?.shutdown())
      .then(end, end);
    // A connection whose last answer is still under way is idle, and to be closed, only after close() looked for such.
    setInterval(() => app.server.closeIdleConnections(), 50);
  });
}

/**
 * Until the server is there, a SIGTERM or SIGINT ends the process at once. Process 1 of a container has no default action for
 * them: without this it would load the model to its end first. Returns what ends this.
 */
function endOnSignals(): () => void {
  const end = (signal: NodeJS.Signals): void => {
    if (isFindingModel()) return;
    log(`${signal} while starting: ending.`);
    process.exit(128 + constants.signals[signal]);
  };
  process.on("SIGTERM", end).on("SIGINT", end);
  return () => void process.off("SIGTERM", end).off("SIGINT", end);
}

/** The first SIGTERM or SIGINT lets running requests finish (up to the timeout); the second ends at once. */
function stopOnSignals(loaded: LoadedApp, timeoutSeconds: number): void {
  const { engine } = loaded;
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) {
      log(`${signal} again: stopping now.`);
      process.exit(130);
    }
    stopping = true;
    log(
      `${signal}: no new requests; ${pendingOf(loaded)} running get up to ${timeoutSeconds} s. Send it again to stop now.`,
    );
    drain(loaded, timeoutSeconds).then(
      () =>
        process.exit(
          engine === null || engine.unavailable?.code === "shutting_down"
            ? 0
            : ENGINE_ENDED,
        ),
      (error: unknown) => {
        log(error instanceof Error ? error.message : String(error));
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}

async function drain(loaded: LoadedApp, timeoutSeconds: number): Promise<void> {
  const { app, engine, encoder, tracer } = loaded;
  app.beginDrain();
  const deadline = performance.now() + timeoutSeconds * 1000;
  while (pendingOf(loaded) > 0 && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  const left = pendingOf(loaded);
  await Promise.all([engine?.close(), encoder?.close()]);
  await app.close();
  await tracer?.shutdown();
  log(
    left === 0
      ? "Every request finished. Bye."
      : `${left} requests were cut off at the timeout.`,
  );
}

/** Requests that have not ended. */
function pendingOf({ engine, encoder }: LoadedApp): number {
  return (engine?.numPending ?? 0) + (encoder?.numPending ?? 0);
}

function log(text: string): void {
  process.stderr.write(`${text}\n`);
}
