import { readFileSync } from "node:fs";
import { OctavoError } from "../core/errors.js";
import { EngineClient } from "../engine/engine-client.js";
import type { EngineInfo } from "../engine/messages.js";
import { createApp } from "../server/app.js";
import type { App } from "../server/app.js";
import type { RequestTracer } from "../server/tracing.js";
import { loadChatTemplate } from "../text/chat-template.js";
import { loadTokenizer } from "../text/tokenizer.js";
import { findModel } from "./find-model.js";
import { ProgressBar } from "./format.js";
import { engineConfig, type ServeOptions } from "./serve-flags.js";
import { pasteLine, planTable } from "./serve-report.js";
import { StartupClock } from "./startup-clock.js";
import { VERSION } from "./version.js";

/** Loads the model, listens, and stays until a signal. Throws OctavoError for what the user can mend. */
export async function serve(
  model: string | undefined,
  options: ServeOptions,
): Promise<void> {
  const clock = new StartupClock();
  const { directory, name } = await findModel(model, {
    revision: options.revision,
    weights: options.loadFormat !== "dummy",
  });
  clock.end("find");
  const names = options.servedModelName ?? [name];
  const tracer = await startTracer(options, names[0] ?? "");
  const progress = new ProgressBar("Loading weights");
  const [engine, tokenizer, chatTemplate] = await Promise.all([
    EngineClient.start(engineConfig(directory, options), {
      onPlan: (info) => {
        clock.end("plan");
        log(planTable(directory, info));
      },
      onProgress: (_phase, done, total) => progress.update(done, total),
    }),
    loadTokenizer(directory),
    loadChatTemplate(directory, options.chatTemplate),
  ]);
  clock.end("weights");
  try {
    checkQuantization(options.quantization, engine.info);
    const app = createApp({
      engine,
      tokenizer,
      chatTemplate,
      toolCallParser: options.toolCallParser,
      reasoningParser: options.reasoningParser,
      servedModelNames: names,
      modelPath: directory,
      apiKeys: options.apiKey ?? [],
      adminApiKey: options.adminApiKey,
      metricsApiKey: options.metricsApiKey,
      allowedOrigins: options.allowedOrigins ?? [],
      livenessTimeoutSeconds: options.livenessTimeout,
      logLevel: options.logLevel,
      logRequests: options.enableLogRequests
        ? { maxLength: options.maxLogLen ?? null }
        : undefined,
      metrics: !options.disableLogStats,
      metricsCompat: options.metricsCompat,
      tracer: tracer ?? undefined,
      tls: readTls(options),
      version: VERSION,
      seed: options.seed,
      cacheConfig: {
        enablePrefixCaching: options.enablePrefixCaching,
        gpuMemoryUtilization: options.gpuMemoryUtilization,
      },
    });
    const address = await listen(app, options);
    clock.end("server");
    app.started(clock.seconds);
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

/** --quantization states what the checkpoint is; the checkpoint decides. */
function checkQuantization(asked: string | undefined, info: EngineInfo): void {
  if (asked === undefined) return;
  const schemes: Record<string, string> = {
    awq: "awq-int4",
    gptq: "gptq-int4",
    "compressed-tensors": "compressed-int4",
  };
  if (!info.quantization.startsWith(schemes[asked] ?? asked))
    throw new OctavoError(
      "invalid_config",
      `--quantization ${asked}: the checkpoint is ${info.quantization}.`,
      "quantization",
    );
}

/** Null unless traces are asked for; the packages that send them are loaded only then. */
async function startTracer(
  options: ServeOptions,
  modelName: string,
): Promise<RequestTracer | null> {
  const { otlpTracesEndpoint: endpoint } = options;
  if (endpoint === undefined) return null;
  const { startTracing } = await import("../server/tracing.js");
  return startTracing({
    endpoint,
    modelName,
    version: VERSION,
    onProblem: (message) => log(`Traces: ${message}`),
  });
}

function readTls(
  options: ServeOptions,
): { key: Buffer; cert: Buffer } | undefined {
  const { sslKeyfile, sslCertfile } = options;
  if (sslKeyfile === undefined && sslCertfile === undefined) return undefined;
  if (sslKeyfile === undefined || sslCertfile === undefined)
    throw new OctavoError(
      "invalid_config",
      "--ssl-keyfile and --ssl-certfile go together; only one was given.",
      sslKeyfile ? "ssl-certfile" : "ssl-keyfile",
    );
  const read = (flag: string, file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw new OctavoError(
        "invalid_config",
        `--${flag}: cannot read ${file}: ${(error as Error).message}`,
        flag,
      );
    }
  };
  return {
    key: read("ssl-keyfile", sslKeyfile),
    cert: read("ssl-certfile", sslCertfile),
  };
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
