import https from "node:https";
import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";

/**
 * Closes with the app the connections that never carried a request. Clients open such ahead (undici after an abort,
 * browsers), and Node counts them as busy: close() would wait for a minute, until their headers are overdue.
 */
export function closeUnusedConnections(app: FastifyInstance): void {
  const unused = new Set<Socket>();
  const { server } = app;
  const opened =
    server instanceof https.Server ? "secureConnection" : "connection";
  server.on(opened, (socket: Socket) => {
    unused.add(socket);
    socket.once("close", () => unused.delete(socket));
  });
  server.on("request", (request) => unused.delete(request.socket));
  app.addHook("onReady", async () => {
    // Where nobody else takes them up, upgrades are requests like any; a listener here would leave them without an answer.
    if (server.listenerCount("upgrade") > 0)
      server.on("upgrade", (request) => unused.delete(request.socket));
  });
  app.addHook("preClose", async () => {
    for (const socket of unused) socket.destroy();
  });
}
