import websocket from "@fastify/websocket";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { OctavoError } from "../../core/errors.js";
import { now } from "../../core/config.js";
import { logRequest } from "../access-log.js";
import { checkKeyAgain } from "../auth.js";
import type { ServerContext } from "../options.js";
import { originOf } from "../origin.js";
import { schemaError } from "../validation.js";
import { RESPONSES_PATH } from "./routes.js";
import { ResponsesSchema, type ResponsesBody } from "./schema.js";
import { ResponseSocket } from "./socket.js";
import type { ResponseStore } from "./store.js";

export interface WebSocketOptions {
  readonly allowedOrigins: readonly string[];
  /** Largest message. */
  readonly maxMessageBytes: number;
}

/** Of a route that the OpenAPI description leaves out. */
const UNDESCRIBED: object = { hide: true };

/** What a closing server gives its sockets to say goodbye. */
const FAREWELL_MS = 1000;

/**
 * WebSocket /v1/responses: OpenAI's WebSocket mode, and several conversations on one socket by stream_id. The returned
 * function lets every socket end what is under way and closes it.
 */
export function responsesWebSocket(
  app: FastifyInstance,
  context: ServerContext,
  store: ResponseStore,
  options: WebSocketOptions,
): () => void {
  const sockets = new Set<ResponseSocket>();
  app.register(websocket, {
    options: { maxPayload: options.maxMessageBytes },
    errorHandler(error, socket, request) {
      // The peer broke the protocol, or is gone: ws has closed the socket, or will.
      request.log.debug(error, "websocket");
      socket.terminate();
    },
    preClose(done) {
      const { clients } = this.websocketServer;
      for (const client of clients)
        client.close(1001, "the server is shutting down");
      setTimeout(() => {
        for (const client of clients) client.terminate();
      }, FAREWELL_MS).unref();
      this.websocketServer.close();
      done();
    },
  });
  // No parser reads on after an upgrade that was refused, and no server closes such a socket: it is ours to end.
  app.addHook("onResponse", async ({ headers, raw }) => {
    if (headers.upgrade !== undefined) raw.socket.destroySoon();
  });
  app.register(async (scope) => {
    scope.route({
      method: "GET",
      url: RESPONSES_PATH,
      exposeHeadRoute: false,
      schema: UNDESCRIBED,
      onRequest: async (request) =>
        checkOrigin(request, options.allowedOrigins),
      handler: async () => {
        throw new OctavoError(
          "not_found",
          `GET ${RESPONSES_PATH} is a WebSocket; responses are made by POST.`,
        );
      },
      wsHandler: (socket, request) => {
        const meters = context.metrics?.meters;
        const opened = now();
        meters?.webSockets.opened();
        const connection = new ResponseSocket(
          socket,
          {
            context,
            store,
            origin: originOf(request),
            checkKey: () => checkKeyAgain(request),
            validate: (body) => validated(request, body),
            onEnded: (sender, status) =>
              logRequest(app.log, "WEBSOCKET", sender, status),
            onFailure: (error) => request.log.error(error),
          },
          () => {
            sockets.delete(connection);
            meters?.webSockets.closed((now() - opened) / 1000);
          },
        );
        sockets.add(connection);
        if (context.draining) connection.drain();
      },
    });
  });
  return () => {
    for (const socket of sockets) socket.drain();
  };
}

/** As the body of a POST is. Errors: 400 that names the field. */
function validated(request: FastifyRequest, body: unknown): ResponsesBody {
  const validate = request.compileValidationSchema(ResponsesSchema);
  if (validate(body)) return body as ResponsesBody;
  throw schemaError(
    (validate.errors ?? []) as Parameters<typeof schemaError>[0],
  );
}

/** Browsers connect from any page, whatever CORS says: only pages of this server and of the allowed origins may. */
function checkOrigin(
  { headers }: FastifyRequest,
  allowed: readonly string[],
): void {
  const { origin, host } = headers;
  if (origin === undefined || allowed.includes("*") || allowed.includes(origin))
    return;
  if (URL.canParse(origin) && new URL(origin).host === host) return;
  throw new OctavoError(
    "permission_denied",
    "This origin may not connect; --allowed-origins says which may.",
  );
}
