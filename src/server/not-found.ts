import type { FastifyInstance } from "fastify";
import { OctavoError } from "../core/errors.js";
import { pathOf } from "./auth.js";

/** Routes of the design that nothing stands behind yet. */
const UNBUILT: readonly RegExp[] = [
  /^\/v1\/(un)?load_lora_adapter$/,
  /^\/(sleep|wake_up|is_sleeping)$/,
  /^\/v1\/responses\/compact$/,
];

/** A route as Fastify has it, "/v1/responses/:id" or "/v1/models/*", as what its paths look like. */
function patternOf(url: string): RegExp {
  const source = url
    .replace(/[.+?^${}()|[\]\\]/g, "\\$&")
    .replace(/:\w+/g, "[^/]+")
    .replace("*", ".*");
  return new RegExp(`^${source}$`, "s");
}

/** 404 for what is not there, 405 with Allow for a route that takes other methods. Call before the routes are added. */
export function answerUnknownRoutes(app: FastifyInstance): void {
  const routes = new Map<string, { pattern: RegExp; methods: Set<string> }>();
  app.addHook("onRoute", ({ url, method }) => {
    const route = routes.get(url) ?? {
      pattern: patternOf(url),
      methods: new Set<string>(),
    };
    for (const name of [method].flat()) route.methods.add(name);
    routes.set(url, route);
  });
  const allowed = (path: string): string[] => {
    const found = [...routes.values()].filter(({ pattern }) =>
      pattern.test(path),
    );
    return [...new Set(found.flatMap(({ methods }) => [...methods]))].sort();
  };
  app.setNotFoundHandler(async ({ method, url }, reply) => {
    const path = pathOf(url);
    if (UNBUILT.some((pattern) => pattern.test(path)))
      throw new OctavoError("not_found", `${path} is not built yet.`);
    const allow = allowed(path).join(", ");
    if (allow !== "") {
      reply.header("allow", allow);
      throw new OctavoError(
        "method_not_allowed",
        `${path} takes ${allow}, got ${method}.`,
      );
    }
    throw new OctavoError("not_found", `There is no route ${method} ${path}.`);
  });
}
