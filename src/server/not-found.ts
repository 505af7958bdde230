import type { FastifyInstance } from "fastify";
import { OctavoError } from "../core/errors.js";
import { pathOf } from "./auth.js";
import { errorAnswer } from "./errors.js";

/** Routes of the design that nothing stands behind yet. */
const UNBUILT: readonly RegExp[] = [
  /^\/$/,
  /^\/v1\/(embeddings|rerank|score)$/,
  /^\/v1\/(un)?load_lora_adapter$/,
  /^\/(sleep|wake_up|is_sleeping)$/,
];

/** 404 for what is not there, 405 with Allow for a route that takes another method. Call before the routes are added. */
export function answerUnknownRoutes(app: FastifyInstance): void {
  const methods = new Map<string, Set<string>>();
  app.addHook("onRoute", ({ url, method }) => {
    const known = methods.get(url) ?? new Set();
    for (const name of [method].flat()) known.add(name);
    methods.set(url, known);
  });
  const allowed = (path: string): string[] => {
    for (const [url, known] of methods) {
      const same = url.endsWith("/*")
        ? path.startsWith(url.slice(0, -1))
        : url === path;
      if (same) return [...known];
    }
    return [];
  };
  app.setNotFoundHandler(async (request, reply) => {
    const path = pathOf(request.url);
    const allow = allowed(path);
    if (allow.length > 0) {
      const message = `${path} takes ${allow.join(", ")}, got ${request.method}.`;
      const { body } = errorAnswer(new OctavoError("not_found", message));
      body.error.code = "method_not_allowed";
      return reply.code(405).header("allow", allow.join(", ")).send(body);
    }
    throw new OctavoError(
      "not_found",
      UNBUILT.some((pattern) => pattern.test(path))
        ? `${path} is not built yet.`
        : `There is no route ${request.method} ${path}.`,
    );
  });
}
