import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { OctavoError } from "../../core/errors.js";
import type { Encoder } from "../../encoder/encoder.js";
import { cosine, finishVector, sigmoid } from "../../encoder/vectors.js";
import { invalidField } from "../errors.js";
import type { HttpContext } from "../options.js";
import {
  RerankSchema,
  ScoreSchema,
  type RerankBody,
  type ScoreBody,
} from "./schemas.js";
import {
  checkInputs,
  encoderOf,
  limitOf,
  numTokensOf,
  whileConnected,
  type RunInputs,
} from "./served-encoder.js";

/** Most texts on one side of a request. */
const MAX_TEXTS = 2048;

/** Texts of a body, and the field that they came in. */
interface Side {
  readonly texts: readonly string[];
  readonly field: string;
  readonly nameOf: (index: number) => string;
}

interface Scores {
  /** Of each pair, in order. */
  readonly scores: readonly number[];
  readonly numTokens: number;
}

/** POST /v1/rerank and /v1/score, also under the paths where Jina's, Cohere's and vLLM's clients ask. */
export function scoreRoutes(app: FastifyInstance, context: HttpContext): void {
  for (const url of ["/v1/rerank", "/v2/rerank", "/rerank"])
    app.post<{ Body: RerankBody }>(
      url,
      { schema: { body: RerankSchema } },
      async (request, reply) => {
        const { body } = request;
        const { encoder, name } = encoderOf(context, body);
        const result = await whileConnected(
          context,
          request,
          reply,
          encoder,
          (run) => rerank(encoder, body, run),
        );
        return result === null ? reply : ranking(name, body, result);
      },
    );
  for (const url of ["/v1/score", "/score"])
    app.post<{ Body: ScoreBody }>(
      url,
      { schema: { body: ScoreSchema } },
      async (request, reply) => {
        const { body } = request;
        const { encoder, name } = encoderOf(context, body);
        const result = await whileConnected(
          context,
          request,
          reply,
          encoder,
          (run) => scorePairs(encoder, body, ...sidesOf(body), run),
        );
        return result === null ? reply : scoreList(name, result);
      },
    );
}

function rerank(
  encoder: Encoder,
  body: RerankBody,
  run: RunInputs,
): Promise<Scores> {
  const query = {
    texts: [body.query],
    field: "query",
    nameOf: () => "query",
  };
  const documents = {
    texts: body.documents.map(documentText),
    field: "documents",
    nameOf: (i: number) => `documents[${i}]`,
  };
  return scorePairs(encoder, body, query, documents, run);
}

/** A document is a text, or an object with one. */
function documentText(document: unknown, i: number): string {
  if (typeof document === "string") return document;
  const text: unknown =
    typeof document === "object" && document !== null && "text" in document
      ? document.text
      : undefined;
  if (typeof text === "string") return text;
  throw invalidField(
    `documents[${i}]`,
    "a string or an object with text",
    document,
  );
}

/** The best first; of equal ones the earlier. */
function ranking(
  model: string,
  body: RerankBody,
  { scores, numTokens }: Scores,
) {
  const withText = body.return_documents ?? true;
  const results = scores
    .map((relevance_score, index) => ({
      index,
      ...(withText && {
        document: { text: documentText(body.documents[index], index) },
      }),
      relevance_score,
    }))
    .sort((a, b) => b.relevance_score - a.relevance_score);
  // 0 is vLLM's way to say: all of them.
  const count = body.top_n == null || body.top_n === 0 ? undefined : body.top_n;
  return {
    id: `rerank-${randomUUID()}`,
    model,
    usage: { prompt_tokens: numTokens, total_tokens: numTokens },
    results: results.slice(0, count),
  };
}

function scoreList(model: string, { scores, numTokens }: Scores) {
  return {
    id: `score-${randomUUID()}`,
    object: "list",
    created: Math.floor(Date.now() / 1000),
    model,
    data: scores.map((score, index) => ({ index, object: "score", score })),
    usage: { prompt_tokens: numTokens, total_tokens: numTokens },
  };
}

/** Names that vLLM's clients have for the two sides. */
const SIDES = [
  ["text_1", "text_2"],
  ["queries", "documents"],
  ["queries", "items"],
  ["data_1", "data_2"],
] as const;

/** One text for each on the other side, or one for all of them. Errors: 400. */
function sidesOf(body: ScoreBody): [first: Side, second: Side] {
  const [one, two] =
    SIDES.find(([a, b]) => body[a] != null && body[b] != null) ?? SIDES[0];
  const [first, second] = [sideOf(body, one), sideOf(body, two)];
  const { length } = first.texts;
  if (length !== 1 && length !== second.texts.length)
    throw new OctavoError(
      "invalid_request",
      `${two}: expected as many texts as in ${one} (${length}) or a single one there, got ${second.texts.length}`,
      two,
    );
  return [first, second];
}

function sideOf(body: ScoreBody, name: keyof ScoreBody): Side {
  const value: unknown = body[name];
  const expected = "a string or a list of strings";
  if (typeof value === "string")
    return { texts: [value], field: name, nameOf: () => name };
  if (!Array.isArray(value)) throw invalidField(name, expected, value);
  if (value.length === 0 || value.length > MAX_TEXTS)
    throw invalidField(name, `1 to ${MAX_TEXTS} texts`, value.length);
  const nameOf = (i: number): string => `${name}[${i}]`;
  const texts = value.map((text: unknown, i) => {
    if (typeof text === "string") return text;
    throw invalidField(nameOf(i), "a string", text);
  });
  return { texts, field: name, nameOf };
}

/** How well texts go together: by a cross-encoder's reading of both, or by the angle between their embeddings. */
async function scorePairs(
  encoder: Encoder,
  body: Pick<
    RerankBody,
    "truncate_prompt_tokens" | "use_activation" | "activation"
  >,
  first: Side,
  second: Side,
  run: RunInputs,
): Promise<Scores> {
  const { info, tokenizer } = encoder;
  const cross = info.kind === "cross-encoder";
  const { single, pair } = tokenizer.numSpecial;
  const limit = limitOf(
    encoder,
    body.truncate_prompt_tokens,
    cross ? pair : single,
  );
  if (!cross) return scoreAngles(encoder, first, second, limit, run);
  const inputs = await tokenizer.encodePairs(first.texts, second.texts, limit);
  const other = ` with ${first.field} and special tokens`;
  checkInputs(encoder, inputs, second.nameOf, other);
  const logits = await run(inputs);
  const activate = body.use_activation ?? body.activation ?? true;
  const squash = activate && info.activation === "sigmoid";
  return {
    scores: logits.map((logit) => {
      const [value = 0] = finishVector(logit, null, false);
      return squash ? sigmoid(value) : value;
    }),
    numTokens: numTokensOf(inputs),
  };
}

async function scoreAngles(
  encoder: Encoder,
  first: Side,
  second: Side,
  limit: number | null,
  run: RunInputs,
): Promise<Scores> {
  const texts = [...first.texts, ...second.texts];
  const count = first.texts.length;
  const inputs = await encoder.tokenizer.encode(texts, {
    addSpecialTokens: true,
    limit,
  });
  checkInputs(encoder, inputs, (i) =>
    i < count ? first.nameOf(i) : second.nameOf(i - count),
  );
  const raw = await run(inputs);
  const vectors = raw.map((vector) => finishVector(vector, null, false));
  const zero = new Float32Array(encoder.info.width);
  return {
    scores: second.texts.map((_, i) =>
      cosine(vectors[count === 1 ? 0 : i] ?? zero, vectors[count + i] ?? zero),
    ),
    numTokens: numTokensOf(inputs),
  };
}
