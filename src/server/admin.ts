import type { FastifyInstance } from "fastify";
import type { ServerContext } from "./options.js";

/** Routes for the operator; auth.ts asks for the admin key. */
export function adminRoutes(
  app: FastifyInstance,
  { engine }: ServerContext,
): void {
  app.post("/reset_prefix_cache", async () => ({
    success: (await engine.call("resetPrefixCache")) !== false,
  }));
}
