import type { FastifyInstance, FastifyReply } from "fastify";
import { OctavoError } from "../../core/errors.js";
import { watchConnection } from "../answer.js";
import { invalidField } from "../errors.js";
import type { ServerContext } from "../options.js";
import { originOf, senderOf } from "../origin.js";
import { serverTiming, streamTiming } from "../timing.js";
import type { Item, ResponseResource } from "./resource.js";
import { isEcho } from "./builder.js";
import { ResponseRun } from "./run.js";
import { ResponsesSchema, type ResponsesBody } from "./schema.js";
import type { ResponseStore, StoredResponse } from "./store.js";
import { countTokens, prepareTurn, type PreparedTurn } from "./turn.js";

export const RESPONSES_PATH = "/v1/responses";

interface ById {
  Params: { id: string };
}

/** POST /v1/responses, and what can be done with a response that is kept. */
export function responsesRoutes(
  app: FastifyInstance,
  context: ServerContext,
  store: ResponseStore,
): void {
  app.post<{ Body: ResponsesBody }>(
    RESPONSES_PATH,
    { schema: { body: ResponsesSchema } },
    async (request, reply) => {
      const { body } = request;
      const turn = await prepareTurn(context, body, senderOf(request), store);
      const stores = turn.response.store ? [store] : [];
      return body.stream === true
        ? answerStream(context, reply, turn, stores)
        : answerWhole(context, reply, turn, stores);
    },
  );

  app.post<{ Body: ResponsesBody }>(
    `${RESPONSES_PATH}/input_tokens`,
    { schema: { body: ResponsesSchema } },
    async (request) => {
      const { key } = originOf(request);
      return {
        object: "response.input_tokens",
        input_tokens: await countTokens(context, request.body, key, store),
      };
    },
  );

  const find = (id: string, key: string): StoredResponse => {
    const stored = store.find(id, key);
    if (stored !== undefined) return stored;
    throw new OctavoError(
      "not_found",
      `Response with id '${id}' not found.`,
      "response_id",
    );
  };

  app.get<ById & { Querystring: Query }>(
    `${RESPONSES_PATH}/:id`,
    async (request) => {
      const { params, query } = request;
      if (query["stream"] === "true")
        throw new OctavoError(
          "unsupported",
          "stream: a response that is kept cannot be streamed again",
          "stream",
        );
      return find(params.id, originOf(request).key).response;
    },
  );

  app.delete<ById>(`${RESPONSES_PATH}/:id`, async (request) => {
    const { id } = request.params;
    find(id, originOf(request).key).forget();
    return { id, object: "response", deleted: true };
  });

  app.post<ById>(`${RESPONSES_PATH}/:id/cancel`, async (request) => {
    const stored = find(request.params.id, originOf(request).key);
    const { id, status } = stored.response;
    if (status === "cancelled") return stored.response;
    if (status !== "in_progress")
      throw new OctavoError(
        "invalid_request",
        `Response '${id}' has ended (${status}): it cannot be cancelled.`,
        "response_id",
      );
    stored.cancel();
    return stored.response;
  });

  app.get<ById & { Querystring: Query }>(
    `${RESPONSES_PATH}/:id/input_items`,
    async (request) => {
      const { params, query } = request;
      const { input } = find(params.id, originOf(request).key);
      return pageOf(input, query);
    },
  );
}

async function answerWhole(
  context: ServerContext,
  reply: FastifyReply,
  turn: PreparedTurn,
  stores: readonly ResponseStore[],
): Promise<unknown> {
  const response = await new Promise<ResponseResource>((resolve, reject) => {
    const run = new ResponseRun(context, turn, stores, {
      event: () => undefined,
      end: (ended, error) => {
        reply.header("server-timing", serverTiming(run.generation.record));
        if (error === null) resolve(ended);
        else reject(error);
      },
    });
    watchConnection(context, reply, () => run.cancel());
  });
  if (!reply.raw.destroyed) return response;
  // Nobody is there to be answered.
  reply.hijack();
  return reply;
}

async function answerStream(
  context: ServerContext,
  reply: FastifyReply,
  turn: PreparedTurn,
  stores: readonly ResponseStore[],
): Promise<unknown> {
  // Nothing is told before this turn of the event loop ends, so the stream is there when it is.
  const run = new ResponseRun(context, turn, stores, {
    event: (event) =>
      stream.event(
        { event: event.type, data: JSON.stringify(event) },
        isEcho(event),
      ),
    end: () => {
      stream.done("[DONE]", trailers());
      // A cancelled one ends between two steps.
      stream.flush();
    },
  });
  const trailers = streamTiming(reply, run.generation.record);
  const stream = context.streams.open(reply);
  run.begin();
  stream.flush();
  // Of a connection that is gone by now it hears at once.
  watchConnection(context, reply, () => run.cancel());
  return reply;
}

type Query = Readonly<Record<string, unknown>>;

const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 100;

/** A page of items, the latest first unless order is asc. Errors: 400 that names the parameter. */
function pageOf(items: readonly Item[], query: Query) {
  const { limit: asked = String(DEFAULT_LIMIT), order = "desc", after } = query;
  const limit = Number(asked);
  if (!/^\d+$/.test(String(asked)) || limit < 1 || limit > MAX_LIMIT)
    throw invalidField("limit", `a whole number from 1 to ${MAX_LIMIT}`, asked);
  if (order !== "asc" && order !== "desc")
    throw invalidField("order", "asc or desc", order);
  const ordered = order === "asc" ? items : [...items].reverse();
  const start =
    after === undefined ? 0 : ordered.findIndex(({ id }) => id === after) + 1;
  if (start === 0 && after !== undefined)
    throw invalidField("after", "the id of one of the items", after);
  const data = ordered.slice(start, start + limit);
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: start + data.length < ordered.length,
  };
}
