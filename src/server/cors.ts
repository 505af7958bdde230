import type { FastifyInstance } from "fastify";

const METHODS = "GET, POST, DELETE, OPTIONS";
const ONE_DAY = "86400";
/** What scripts may read beside the headers that they always may. */
const EXPOSED = [
  "x-request-id",
  "request-id",
  "retry-after",
  "server-timing",
  ...["limit", "remaining", "reset"].flatMap((figure) => [
    `x-ratelimit-${figure}-requests`,
    `x-ratelimit-${figure}-tokens`,
    `anthropic-ratelimit-requests-${figure}`,
    `anthropic-ratelimit-tokens-${figure}`,
  ]),
].join(", ");

/** CORS for browsers on the allowed origins ("*": all); preflights are answered before any key is asked for. */
export function allowOrigins(
  app: FastifyInstance,
  origins: readonly string[],
): void {
  if (origins.length === 0) return;
  const any = origins.includes("*");
  app.addHook("onRequest", async (request, reply) => {
    const { origin } = request.headers;
    if (origin === undefined) return;
    if (!any) reply.header("vary", "Origin");
    if (!any && !origins.includes(origin)) return;
    reply.header("access-control-allow-origin", any ? "*" : origin);
    reply.header("access-control-expose-headers", EXPOSED);
    const preflight =
      request.method === "OPTIONS" &&
      request.headers["access-control-request-method"] !== undefined;
    if (!preflight) return;
    const wanted = request.headers["access-control-request-headers"];
    reply.header("access-control-allow-methods", METHODS);
    reply.header(
      "access-control-allow-headers",
      wanted ?? "authorization, content-type",
    );
    reply.header("access-control-max-age", ONE_DAY);
    return reply.code(204).send();
  });
}
