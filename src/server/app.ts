import { randomUUID } from "node:crypto";
import http from "node:http";
import https from "node:https";
import Fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { pino } from "pino";
import type { RunnerHealth } from "../engine/stats.js";
import { adminRoutes } from "./admin.js";
import { watchAcceptance, watchDrafter } from "./speculation.js";
import { watchRequests } from "./access-log.js";
import { anthropicRoutes } from "./anthropic.js";
import { anthropicError, speaksAnthropic } from "./anthropic-errors.js";
import { guardRoutes, pathOf } from "./auth.js";
import { readBodies, readOn } from "./body.js";
import { answerBrokenRequest } from "./broken-requests.js";
import { chatRoutes } from "./chat.js";
import { completionRoutes } from "./completions.js";
import { createContext, createEncoderContext } from "./context.js";
import { allowOrigins } from "./cors.js";
import { embeddingRoutes } from "./encoder/embeddings.js";
import { scoreRoutes } from "./encoder/scores.js";
import { errorAnswer } from "./errors.js";
import { healthRoutes } from "./health.js";
import type { StartupSeconds } from "./meters.js";
import { limitRequests } from "./limit-requests.js";
import { modelRoutes } from "./models.js";
import { answerUnknownRoutes } from "./not-found.js";
import type {
  AppOptions,
  EncoderAppOptions,
  HttpContext,
  HttpOptions,
  ServerContext,
} from "./options.js";
import { describeRoutes } from "./openapi.js";
import { originOf } from "./origin.js";
import { pageRoutes } from "./page/routes.js";
import { requestRoutes } from "./requests.js";
import { responsesRoutes } from "./responses/routes.js";
import { ResponseStore, SERVER_BOUNDS } from "./responses/store.js";
import { responsesWebSocket } from "./responses/websocket.js";
import { tokenizeRoutes } from "./tokenize.js";
import { schemaError } from "./validation.js";
import { refuseTextRoutes } from "./without-text.js";
import { closeUnusedConnections } from "./unused-connections.js";
import { closeWaitingAnswers } from "./waiting-answers.js";

export type { AppOptions } from "./options.js";

const DEFAULT_BODY_LIMIT = 32 * 2 ** 20;
/** Above the idle time of usual load balancers (60 s), so that they close first. */
const KEEP_ALIVE_MS = 75_000;

export type App = FastifyInstance & {
  /** From now on /ready is 503 and new requests are refused; streams go on to their end. */
  beginDrain(): void;
  /** The server is ready: how long it took is reported from now on. */
  started(seconds: StartupSeconds): void;
};

/** The HTTP server over a running engine. Closing it leaves the engine alone. */
export function createApp(options: AppOptions): App {
  const { bodyLimitBytes = DEFAULT_BODY_LIMIT, engine } = options;
  const app = createHttp(options);
  const context = createContext(options, app.log);
  watchEngine(app, context);
  app.addHook("onClose", () => context.grammars.close());
  prepareRoutes(app, context, options);
  const responses = new ResponseStore(SERVER_BOUNDS);
  const drainWebSockets = responsesWebSocket(app, context, responses, {
    allowedOrigins: options.allowedOrigins ?? [],
    maxMessageBytes: bodyLimitBytes,
  });
  addTextRoutes(app, context, responses);
  addRoutes(app, context);
  return withLifecycle(app, context, {
    drain() {
      void engine.drain();
      drainWebSockets();
    },
    started: () => void context.grammars.warmUp(),
  });
}

/** The HTTP server over an encoder alone. Closing it leaves the encoder alone. */
export function createEncoderApp(options: EncoderAppOptions): App {
  const app = createHttp(options);
  const context = createEncoderContext(options);
  prepareRoutes(app, context, options);
  refuseTextRoutes(app, options.encoder);
  addRoutes(app, context);
  return withLifecycle(app, context, null);
}

function createHttp(options: HttpOptions): FastifyInstance {
  const app = Fastify({
    bodyLimit: options.bodyLimitBytes ?? DEFAULT_BODY_LIMIT,
    loggerInstance: createLogger(options),
    logController: new LogController({ disableRequestLogging: true }),
    requestIdHeader: "x-request-id",
    genReqId: () => randomUUID(),
    // Constructor options of ajv: nothing is coerced, filled in or dropped; errors carry the value at fault.
    ajv: {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        allErrors: false,
        verbose: true,
        allowUnionTypes: true,
      },
    },
    schemaErrorFormatter: schemaError,
    serverFactory: (handler) => createServer(handler, options.tls),
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: (error, request, reply) => {
      sendError(request, reply, error);
    },
  });
  app.setErrorHandler(async (error, request, reply) => {
    const { status } = errorAnswer(error);
    if (status === 500) request.log.error(error);
    if (status === 413 || status === 415) await readOn(request, reply);
    return sendError(request, reply, error);
  });
  closeUnusedConnections(app);
  closeWaitingAnswers(app);
  readBodies(app);
  return app;
}

function watchEngine(
  app: FastifyInstance,
  { engine, streams }: ServerContext,
): void {
  engine.onFlush(() => streams.flushSoon());
  engine.onError((error) => app.log.error(error, "engine"));
  watchAcceptance(engine, (fields, message) => app.log.warn(fields, message));
  watchDrafter(engine, (fields, message) => app.log.error(fields, message));
  engine.onRestart((health) => logRestart(app.log, health));
}

/** What must be there before any route is. */
function prepareRoutes(
  app: FastifyInstance,
  context: HttpContext,
  options: HttpOptions,
): void {
  addHooks(app, context);
  allowOrigins(app, options.allowedOrigins ?? []);
  guardRoutes(app, options);
  limitRequests(app, context);
  answerUnknownRoutes(app);
  describeRoutes(app, context.version);
}

function withLifecycle(
  app: FastifyInstance,
  context: HttpContext,
  text: { drain(): void; started(): void } | null,
): App {
  return Object.assign(app, {
    beginDrain() {
      context.draining = true;
      context.encoder?.encoder.drain();
      text?.drain();
    },
    started(seconds: StartupSeconds) {
      context.metrics?.started(seconds);
      text?.started();
    },
  });
}

/** To stderr: stdout is for what a script reads. */
function createLogger({
  logLevel = "info",
  logStream = pino.destination(2),
}: HttpOptions): FastifyBaseLogger {
  return pino({ level: logLevel }, logStream);
}

function createServer(
  handler: http.RequestListener,
  tls: HttpOptions["tls"],
): http.Server {
  const server =
    tls === undefined
      ? http.createServer(handler)
      : https.createServer(tls, handler);
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  return server;
}

function addHooks(app: FastifyInstance, { metrics }: HttpContext): void {
  app.addHook("onRequest", async (request, reply) => {
    originOf(request);
    reply.header("x-request-id", request.id);
    // By this name Anthropic's clients know it.
    if (speaksAnthropic(pathOf(request.url)))
      reply.header("request-id", request.id);
  });
  app.addHook("preHandler", async (request) => {
    logUnknownFields(request.log, request.body, request.routeOptions.schema);
  });
  watchRequests(app, metrics);
}

function logRestart(
  log: FastifyBaseLogger,
  { restarting, lastError, ...counts }: RunnerHealth,
): void {
  if (restarting)
    log.error({ ...counts, error: lastError }, "device lost, restarting it");
  else log.warn(counts, "device restarted, replaying what was under way");
}

/** Fields that no schema knows are accepted: clients send what other servers take. */
function logUnknownFields(
  log: FastifyBaseLogger,
  body: unknown,
  schema: { body?: unknown } | undefined,
): void {
  if (log.level !== "debug" && log.level !== "trace") return;
  const known = (schema?.body as { properties?: object } | undefined)
    ?.properties;
  if (known === undefined || typeof body !== "object" || body === null) return;
  const fields = Object.keys(body).filter((field) => !(field in known));
  if (fields.length > 0) log.debug({ fields }, "unknown request fields");
}

function addTextRoutes(
  app: FastifyInstance,
  context: ServerContext,
  responses: ResponseStore,
): void {
  completionRoutes(app, context);
  chatRoutes(app, context);
  anthropicRoutes(app, context);
  responsesRoutes(app, context, responses);
  tokenizeRoutes(app, context);
  requestRoutes(app, context);
  pageRoutes(app);
  adminRoutes(app, context);
}

function addRoutes(app: FastifyInstance, context: HttpContext): void {
  embeddingRoutes(app, context);
  scoreRoutes(app, context);
  modelRoutes(app, context);
  healthRoutes(app, context);
  const { metrics } = context;
  if (metrics === null) return;
  app.get("/metrics", async (_request, reply) => {
    reply.header("content-type", "text/plain; version=0.0.4; charset=utf-8");
    return metrics.exposition();
  });
}

function sendError(
  request: FastifyRequest,
  reply: FastifyReply,
  error: unknown,
): FastifyReply {
  const { status, retryAfter, body } = speaksAnthropic(pathOf(request.url))
    ? anthropicError(error, request.id)
    : errorAnswer(error);
  if (retryAfter !== null) reply.header("retry-after", String(retryAfter));
  if (status === 401) reply.header("www-authenticate", "Bearer");
  return reply.code(status).send(body);
}
