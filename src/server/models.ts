import type { FastifyInstance } from "fastify";
import { OctavoError } from "../core/errors.js";
import type { HttpContext } from "./options.js";

/** GET /v1/models and /v1/models/{id}; names may contain slashes. */
export function modelRoutes(app: FastifyInstance, context: HttpContext): void {
  const { encoder } = context;
  const card = (id: string) => {
    const info = encoder?.names.includes(id) ? encoder.encoder.info : null;
    return {
      id,
      object: "model",
      created: context.startedAt,
      owned_by: "octavo",
      root: info !== null ? info.directory : context.modelPath,
      parent: null,
      max_model_len: info?.maxLength ?? context.engine?.info.maxModelLen,
    };
  };
  const names = [...context.servedModelNames, ...(encoder?.names ?? [])];
  const list = () => ({ object: "list", data: names.map(card) });
  app.get("/v1/models", async () => list());
  app.get<{ Params: { "*": string } }>("/v1/models/*", async ({ params }) => {
    const id = params["*"];
    if (id === "") return list();
    if (names.includes(id)) return card(id);
    const quoted = names.map((name) => `\`${name}\``).join(", ");
    throw new OctavoError(
      "model_not_found",
      `The model \`${id}\` does not exist; this server has ${quoted}.`,
      "model",
    );
  });
}
