import { OctavoError } from "../core/errors.js";
import { embed } from "../server/encoder/embeddings.js";
import {
  EmbeddingSchema,
  type EmbeddingBody,
} from "../server/encoder/schemas.js";
import type { ServedEncoder } from "../server/encoder/served-encoder.js";
import { checkBody } from "../server/validation.js";
import { refuseUnknown } from "./load-options.js";
import { checkSignal } from "./run.js";

/** As of POST /v1/embeddings, without what belongs to HTTP. */
export interface EmbedParams extends Omit<
  EmbeddingBody,
  "input" | "model" | "user" | "encoding_format"
> {
  /** Takes the request back: it rejects with request_aborted. */
  signal?: AbortSignal;
}

export interface EmbedResult {
  /** Of each text, in order. */
  readonly embeddings: readonly Float32Array[];
  readonly usage: { readonly promptTokens: number };
}

/** Errors: those of `Octavo.embed`. */
export async function embedTexts(
  served: ServedEncoder | null,
  texts: string | readonly (string | ArrayLike<number>)[],
  { signal, ...params }: EmbedParams,
): Promise<EmbedResult> {
  if (served === null)
    throw new OctavoError(
      "unsupported",
      "embed: expected an embedding model, but Octavo.load was given no embeddingModel",
      "embeddingModel",
    );
  const {
    model: _model,
    user: _user,
    encoding_format: _format,
    input: _input,
    ...known
  } = EmbeddingSchema.properties;
  refuseUnknown(params, { properties: known }, "invalid_request");
  checkSignal(signal);
  const input = Array.isArray(texts)
    ? texts.map((entry: unknown) =>
        ArrayBuffer.isView(entry)
          ? Array.from(entry as unknown as ArrayLike<number>)
          : entry,
      )
    : texts;
  const body: EmbeddingBody = { ...params, input };
  checkBody(EmbeddingSchema, body);
  const { encoder } = served;
  const { vectors, numTokens } = await embed(encoder, body, (inputs) =>
    encoder.run(inputs, signal),
  );
  return { embeddings: vectors, usage: { promptTokens: numTokens } };
}
