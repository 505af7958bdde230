import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { setImmediate as nextTurn } from "node:timers/promises";
import { OctavoError } from "../../core/errors.js";
import type { Encoder } from "../../encoder/encoder.js";
import type { EncoderInput } from "../../encoder/messages.js";
import { finishVector } from "../../encoder/vectors.js";
import { invalidField, unsupportedField } from "../errors.js";
import type { HttpContext } from "../options.js";
import { readIds } from "../prompts.js";
import { EmbeddingSchema, type EmbeddingBody } from "./schemas.js";
import {
  checkInputs,
  emptyInput,
  encoderOf,
  limitOf,
  numTokensOf,
  whileConnected,
  type RunInputs,
} from "./served-encoder.js";

/** Most inputs of one request, as OpenAI has it. */
const MAX_INPUTS = 2048;
/** Numbers that are written as JSON before other requests get their turn: some milliseconds. */
const NUMBERS_A_TURN = 1 << 15;
const EXPECTED =
  "a string, a list of strings, token ids or a list of token ids";

export interface Embeddings {
  /** Of each input, in order. */
  readonly vectors: readonly Float32Array[];
  readonly numTokens: number;
}

/** POST /v1/embeddings */
export function embeddingRoutes(
  app: FastifyInstance,
  context: HttpContext,
): void {
  app.post<{ Body: EmbeddingBody }>(
    "/v1/embeddings",
    { schema: { body: EmbeddingSchema } },
    async (request, reply) => {
      const { body } = request;
      const { encoder, name } = encoderOf(context, body);
      const result = await whileConnected(
        context,
        request,
        reply,
        encoder,
        (run) => embed(encoder, body, run),
      );
      if (result === null) return reply;
      const text = await render(
        name,
        result,
        body.encoding_format === "base64",
      );
      return reply.type("application/json; charset=utf-8").send(text);
    },
  );
}

/** The embeddings that a body asks for. Errors: 400 that names the field, and those of `run`. */
export async function embed(
  encoder: Encoder,
  body: EmbeddingBody,
  run: RunInputs,
): Promise<Embeddings> {
  const { info } = encoder;
  if (info.kind !== "embedding")
    throw new OctavoError(
      "unsupported",
      "model: this one is a cross-encoder, which gives scores of pairs (/v1/rerank, /v1/score) and no embeddings",
      "model",
    );
  const dimensions = checkDimensions(encoder, body.dimensions ?? null);
  const inputs = await readInputs(encoder, body);
  const raw = await run(inputs);
  const normalize =
    body.use_activation ?? body.normalize ?? body.normalized ?? info.normalize;
  return {
    vectors: raw.map((vector) => finishVector(vector, dimensions, normalize)),
    numTokens: numTokensOf(inputs),
  };
}

/** Vectors are cut only where the model was trained for it. Errors: 400. */
function checkDimensions(
  { info: { width, matryoshka } }: Encoder,
  dimensions: number | null,
): number | null {
  if (dimensions === null || dimensions === width) return null;
  if (matryoshka === false)
    throw unsupportedField(
      "dimensions",
      `this model's embeddings have ${width} numbers and mean nothing when cut (its config.json has neither is_matryoshka nor matryoshka_dimensions), got ${dimensions}`,
    );
  if (dimensions > width)
    throw invalidField("dimensions", `at most ${width}`, dimensions);
  if (matryoshka !== true && !matryoshka.includes(dimensions))
    throw invalidField(
      "dimensions",
      `one of ${matryoshka.join(", ")}`,
      dimensions,
    );
  return dimensions;
}

/** Errors: 400 that names the input. */
async function readInputs(
  encoder: Encoder,
  body: EmbeddingBody,
): Promise<EncoderInput[]> {
  const { input } = body;
  const single =
    typeof input === "string" ||
    (Array.isArray(input) && typeof input[0] === "number");
  const entries: unknown = single ? [input] : input;
  if (!Array.isArray(entries)) throw invalidField("input", EXPECTED, input);
  if (entries.length === 0 || entries.length > MAX_INPUTS)
    throw invalidField("input", `1 to ${MAX_INPUTS} inputs`, entries.length);
  const nameOf = (i: number): string => (single ? "input" : `input[${i}]`);
  const addSpecialTokens = body.add_special_tokens ?? true;
  const limit = limitOf(
    encoder,
    body.truncate_prompt_tokens,
    addSpecialTokens ? encoder.tokenizer.numSpecial.single : 0,
  );
  const given = entries.map((entry: unknown, i): string | EncoderInput => {
    if (typeof entry === "string") return entry;
    if (!Array.isArray(entry)) throw invalidField(nameOf(i), EXPECTED, entry);
    if (entry.length === 0) throw emptyInput(nameOf(i));
    const ids = readIds(nameOf(i), entry, encoder.info.vocabSize);
    return {
      ids: limit === null ? ids : ids.slice(0, limit),
      typeIds: null,
    };
  });
  const texts = given.filter((entry) => typeof entry === "string");
  const encoded = await encoder.tokenizer.encode(texts, {
    addSpecialTokens,
    limit,
  });
  let next = 0;
  const inputs = given.map((entry) =>
    typeof entry === "string" ? (encoded[next++] as EncoderInput) : entry,
  );
  checkInputs(encoder, inputs, nameOf);
  return inputs;
}

/** The answer as JSON. Many vectors are long texts: they are written a few at a time. */
async function render(
  model: string,
  { vectors, numTokens }: Embeddings,
  base64: boolean,
): Promise<string> {
  const head = {
    id: `embd-${randomUUID()}`,
    object: "list",
    created: Math.floor(Date.now() / 1000),
    model,
    usage: { prompt_tokens: numTokens, total_tokens: numTokens },
  };
  const parts: string[] = [];
  let numbers = 0;
  for (const [index, vector] of vectors.entries()) {
    const embedding = base64 ? toBase64(vector) : Array.from(vector);
    parts.push(JSON.stringify({ object: "embedding", index, embedding }));
    numbers += vector.length;
    if (numbers < NUMBERS_A_TURN) continue;
    numbers = 0;
    await nextTurn();
  }
  return `${JSON.stringify(head).slice(0, -1)},"data":[${parts.join(",")}]}`;
}

/** Little-endian float32, as OpenAI's clients read it. */
function toBase64({ buffer, byteOffset, byteLength }: Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}
