import { OctavoError } from "../core/errors.js";
import type { EngineClient } from "../engine/engine-client.js";
import type { App } from "../server/app.js";
import type { RequestTracer } from "../server/tracing.js";
import { loadApp } from "./load-app.js";
import type { ServeOptions } from "./serve-flags.js";
import { graphLine, pasteLine, planTable } from "./serve-report.js";
import { StartupClock } from "./startup-clock.js";

/** Loads the model, listens, and stays until a signal. Throws OctavoError for what the user can mend. */
export async function serve(
  model: string | undefined,
  options: ServeOptions,
): Promise<void> {
  const clock = new StartupClock();
  const { app, engine, names, chatTemplate, tracer } = await loadApp(
    model,
    options,
    {
      onPlan: (directory, info) => log(planTable(directory, info)),
      clock,
    },
  );
  try {
    const address = await listen(app, options);
    clock.end("server");
    app.started(clock.seconds);
    const { graphs } = engine.memory;
    if (graphs.count > 0) log(graphLine(graphs));
    log(`Ready after ${clock.total.toFixed(1)} s.`);
    process.stdout.write(
      `Octavo listening on ${address}\n${pasteLine(address, names[0] ?? "", chatTemplate.available, options)}\n`,
    );
    stopOnFailure(app, engine, tracer);
    stopOnSignals(app, engine, tracer, options.shutdownTimeout);
  } catch (error) {
    await engine.close();
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

/** EX_SOFTWARE: a supervisor should start it again, unlike after 1 (a mistake in flags or model). */
const ENGINE_ENDED = 70;
/** What answers that are being written get before the process ends. */
const FAREWELL_MS = 3000;

/** An engine that ended by itself has told its requests; what they were told gets out, then the process ends. */
function stopOnFailure(
  app: App,
  engine: EngineClient,
  tracer: RequestTracer | null,
): void {
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

/** The first SIGTERM or SIGINT lets running requests finish (up to the timeout); the second ends at once. */
function stopOnSignals(
  app: App,
  engine: EngineClient,
  tracer: RequestTracer | null,
  timeoutSeconds: number,
): void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) {
      log(`${signal} again: stopping now.`);
      process.exit(130);
    }
    stopping = true;
    log(
      `${signal}: no new requests; ${engine.numPending} running get up to ${timeoutSeconds} s. Send it again to stop now.`,
    );
    drain(app, engine, tracer, timeoutSeconds).then(
      () =>
        process.exit(
          engine.unavailable?.code === "shutting_down" ? 0 : ENGINE_ENDED,
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

async function drain(
  app: App,
  engine: EngineClient,
  tracer: RequestTracer | null,
  timeoutSeconds: number,
): Promise<void> {
  app.beginDrain();
  const deadline = performance.now() + timeoutSeconds * 1000;
  while (engine.numPending > 0 && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  const left = engine.numPending;
  await engine.close();
  await app.close();
  await tracer?.shutdown();
  log(
    left === 0
      ? "Every request finished. Bye."
      : `${left} requests were cut off at the timeout.`,
  );
}

function log(text: string): void {
  process.stderr.write(`${text}\n`);
}
