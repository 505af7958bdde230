import type { FastifyInstance, FastifyReply } from "fastify";
import { now } from "../core/config.js";
import type { HttpContext } from "./options.js";

/** What orchestrators ask: /health, /ping, /live, /ready; /load and /version. */
export function healthRoutes(app: FastifyInstance, context: HttpContext): void {
  const { engine } = context;
  const report = (reply: FastifyReply, problem: string | null) =>
    reply.code(problem === null ? 200 : 503).send({
      status: problem === null ? "ok" : "unavailable",
      ...(problem !== null && { reason: problem }),
    });
  const failed = (): string | null => {
    const error = engine?.unavailable ?? null;
    return error === null || error.code === "shutting_down"
      ? null
      : `the engine ended: ${error.message}`;
  };
  const overdue = (numPending: number, lastTime: number, what: string) => {
    const seconds = (now() - lastTime) / 1000;
    return numPending > 0 && seconds > context.livenessTimeoutSeconds
      ? `work is pending and no ${what} has ended for ${seconds.toFixed(0)} s`
      : null;
  };
  const stuck = (): string | null => {
    const encoder = context.encoder?.encoder;
    return (
      (engine && overdue(engine.numPending, engine.lastStepTime, "step")) ??
      (encoder === undefined
        ? null
        : overdue(encoder.numPending, encoder.lastBatchTime, "batch"))
    );
  };
  const restarting = (): string | null =>
    engine?.stats.runner.restarting === true
      ? "the device is being restarted"
      : null;
  const draining = (): string | null =>
    context.draining || (engine !== null && engine.unavailable !== null)
      ? "the server is shutting down"
      : null;

  for (const url of ["/health", "/ping"])
    app.get(url, (_request, reply) => report(reply, failed()));
  // SageMaker asks by POST too.
  app.post("/ping", (_request, reply) => report(reply, failed()));
  app.get("/live", (_request, reply) => report(reply, failed() ?? stuck()));
  app.get("/ready", (_request, reply) =>
    report(reply, failed() ?? draining() ?? restarting()),
  );
  app.get("/load", async () => ({ server_load: context.serverLoad }));
  app.get("/version", async () => ({ version: context.version }));
}
