import type { FastifyInstance, FastifyRequest } from "fastify";
import { OctavoError } from "../core/errors.js";
import type { ServedEncoder } from "./encoder/served-encoder.js";

/** They are not there: /openapi.json is silent about them. */
const UNDESCRIBED: object = { hide: true };

/** What a text model would answer. */
const TEXT_ROUTES: readonly (readonly [method: string, url: string])[] = [
  ["POST", "/v1/completions"],
  ["POST", "/v1/chat/completions"],
  ["POST", "/v1/messages"],
  ["POST", "/v1/messages/count_tokens"],
  // Also the opening request of a WebSocket, which nobody takes up here.
  ["GET", "/v1/responses"],
  ["POST", "/v1/responses"],
  ["POST", "/v1/responses/input_tokens"],
  ["GET", "/v1/responses/:id"],
  ["DELETE", "/v1/responses/:id"],
  ["POST", "/v1/responses/:id/cancel"],
  ["GET", "/v1/responses/:id/input_items"],
  ["POST", "/tokenize"],
  ["POST", "/detokenize"],
];

/** The routes of a text model where there is an encoder alone: 404 model_not_found, saying what there is. */
export function refuseTextRoutes(
  app: FastifyInstance,
  { encoder, names }: ServedEncoder,
): void {
  const quoted = names.map((name) => `\`${name}\``).join(", ");
  const routes =
    encoder.info.kind === "embedding"
      ? "/v1/embeddings, /v1/rerank and /v1/score"
      : "/v1/rerank and /v1/score";
  const refuse = (request: FastifyRequest): never => {
    const model = modelOf(request.body);
    const why =
      model === null
        ? "This server has no text model"
        : names.includes(model)
          ? `The model \`${model}\` writes no text`
          : `The model \`${model}\` does not exist`;
    throw new OctavoError(
      "model_not_found",
      `${why}; this server has ${quoted}, for ${routes}. octavo serve MODEL --embedding-model NAME has a text model too.`,
      "model",
    );
  };
  for (const [method, url] of TEXT_ROUTES)
    app.route({ method, url, schema: UNDESCRIBED, handler: refuse });
}

function modelOf(body: unknown): string | null {
  const { model } = (body ?? {}) as { model?: unknown };
  return typeof model === "string" && model !== "" ? model : null;
}
