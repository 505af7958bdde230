import type { FastifyInstance } from "fastify";
import type { ServerContext } from "./options.js";
import { checkModel } from "./prepare.js";

/** GET /v1/models and /v1/models/{id}; names may contain slashes. */
export function modelRoutes(
  app: FastifyInstance,
  context: ServerContext,
): void {
  const card = (id: string) => ({
    id,
    object: "model",
    created: context.startedAt,
    owned_by: "octavo",
    root: context.modelPath,
    parent: null,
    max_model_len: context.engine.info.maxModelLen,
  });
  app.get("/v1/models", async () => ({
    object: "list",
    data: context.servedModelNames.map(card),
  }));
  app.get<{ Params: { "*": string } }>("/v1/models/*", async ({ params }) =>
    card(checkModel(params["*"], context)),
  );
}
