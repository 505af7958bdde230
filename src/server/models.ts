import type { FastifyInstance } from "fastify";
import type { ServerContext } from "./options.js";
import { checkModel } from "./prepare.js";

/** GET /v1/models and /v1/models/{id}; names may contain slashes. */
export function modelRoutes(
  app: FastifyInstance,
  context: ServerContext,
): void {
  const { encoder } = context;
  const card = (id: string) => {
    const info = encoder?.names.includes(id) === true && encoder.encoder.info;
    return {
      id,
      object: "model",
      created: context.startedAt,
      owned_by: "octavo",
      root: info ? info.directory : context.modelPath,
      parent: null,
      max_model_len: info ? info.maxLength : context.engine.info.maxModelLen,
    };
  };
  const names = [...context.servedModelNames, ...(encoder?.names ?? [])];
  app.get("/v1/models", async () => ({
    object: "list",
    data: names.map(card),
  }));
  app.get<{ Params: { "*": string } }>("/v1/models/*", async ({ params }) =>
    card(
      names.includes(params["*"])
        ? params["*"]
        : checkModel(params["*"], context),
    ),
  );
}
