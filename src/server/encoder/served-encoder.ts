import type { FastifyReply, FastifyRequest } from "fastify";
import { OctavoError } from "../../core/errors.js";
import type { Encoder } from "../../encoder/encoder.js";
import type { EncoderInput } from "../../encoder/messages.js";
import { watchConnection } from "../answer.js";
import type { HttpContext } from "../options.js";
import { originOf } from "../origin.js";
import { refuseFields, type Refusal } from "../unsupported.js";

/** An embedding model or cross-encoder, and what requests may call it. */
export interface ServedEncoder {
  readonly encoder: Encoder;
  /** At least one; the first is reported where a request names none. */
  readonly names: readonly string[];
}

const absent = (value: unknown): boolean =>
  value === null || value === undefined;

const absentOr =
  (...allowed: readonly unknown[]) =>
  (value: unknown): boolean =>
    absent(value) || allowed.includes(value);
const PREFIXES = "not built; put the model's prefixes into the texts";

/** Fields of the encoder's routes, here and elsewhere, that would change the answer and are not built. */
const UNBUILT: readonly Refusal[] = [
  ["messages", absent, "not built; use input"],
  ["chat_template", absent, "not built"],
  ["embed_dtype", absentOr("float32"), "only float32 is built"],
  ["embedding_type", absentOr("float"), "only float is built"],
  ["output_dtype", absentOr("float"), "only float is built"],
  ["endianness", absentOr("native", "little"), "only little is built"],
  ["output_dimension", absent, "use dimensions"],
  ["late_chunking", absentOr(false), "not built"],
  ["mm_processor_kwargs", absent, "images and audio are not built"],
  ["prompt_embeds", absent, "prompt embeddings are not built"],
  ["truncation_side", absentOr("right"), "only right is built"],
  ["truncate", absentOr(false, "NONE"), "use truncate_prompt_tokens"],
  ["instruction", absent, "not built; put it into the texts"],
  ["input_type", absent, PREFIXES],
  ["prompt_name", absent, PREFIXES],
  ["task", absent, PREFIXES],
  ["softmax", absentOr(true), "use use_activation"],
  ["top_k", absent, "use top_n"],
  ["rank_fields", absent, "documents are texts"],
  ["max_chunks_per_doc", absent, "documents are not split"],
  ["max_tokens_per_doc", absent, "not built; use truncate_prompt_tokens"],
];

/** The encoder that a body asks for and the name it used. Errors: 404 model_not_found, 400 for a field that is not built. */
export function encoderOf(
  context: HttpContext,
  body: { model?: string | null },
): { encoder: Encoder; name: string } {
  const { served, model } = { served: context.encoder, model: body.model };
  if (served === null)
    throw new OctavoError(
      "model_not_found",
      "This server has no embedding model; octavo serve --embedding-model DIR adds one.",
      "model",
    );
  refuseFields(body, UNBUILT);
  const { encoder, names } = served;
  if (model == null || model === "") return { encoder, name: names[0] ?? "" };
  if (names.includes(model)) return { encoder, name: model };
  const quoted = names.map((name) => `\`${name}\``).join(", ");
  throw new OctavoError(
    "model_not_found",
    context.servedModelNames.includes(model)
      ? `The model \`${model}\` writes text; for embeddings and scores this server has ${quoted}.`
      : `The model \`${model}\` does not exist; for embeddings and scores this server has ${quoted}.`,
    "model",
  );
}

/** What a model makes of inputs, as Encoder.run says. */
export type RunInputs = (
  inputs: readonly EncoderInput[],
) => Promise<Float32Array[]>;

/**
 * Computes for a request until its connection closes; null where it did. Counts tokens and refusals. The client pays for
 * its tokens before they are computed, and gets back what comes to nothing, unless it hung up.
 */
export async function whileConnected<T extends { numTokens: number }>(
  context: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
  encoder: Encoder,
  compute: (run: RunInputs) => Promise<T>,
): Promise<T | null> {
  const gone = new AbortController();
  watchConnection(context, reply, () => gone.abort());
  const { key, quota } = originOf(request);
  let numPaid = 0;
  try {
    const result = await compute((inputs) => {
      numPaid = numTokensOf(inputs);
      quota?.spend(numPaid);
      return encoder.run(inputs, gone.signal);
    });
    context.metrics?.meters.keyTokens(key).prompt.inc(result.numTokens);
    return result;
  } catch (error) {
    context.metrics?.refused(error);
    if (!gone.signal.aborted) {
      quota?.spend(-numPaid);
      throw error;
    }
    // Nobody is there to be answered.
    reply.hijack();
    return null;
  }
}

export function numTokensOf(inputs: readonly EncoderInput[]): number {
  return inputs.reduce((sum, { ids }) => sum + ids.length, 0);
}

/**
 * The limit that truncate_prompt_tokens sets; null: none, too long an input is an error.
 * @param numSpecial special tokens, which are always kept
 */
export function limitOf(
  { info }: Encoder,
  truncate: number | null | undefined,
  numSpecial: number,
): number | null {
  if (truncate == null) return null;
  if (truncate === -1) return info.maxLength;
  if (truncate > numSpecial && truncate <= info.maxLength) return truncate;
  throw new OctavoError(
    "invalid_request",
    `truncate_prompt_tokens: expected -1 or ${numSpecial + 1} to ${info.maxLength} (${numSpecial} are special tokens), got ${truncate}`,
    "truncate_prompt_tokens",
  );
}

export function emptyInput(name: string): OctavoError {
  return new OctavoError(
    "invalid_request",
    `${name}: expected at least one token, got an empty input`,
    name,
  );
}

/**
 * @param others what else an input has than the one that is named, for errors about lengths
 * Errors: 400 that names the input, where it is empty, too long or beyond the model's vocabulary.
 */
export function checkInputs(
  { info }: Encoder,
  inputs: readonly EncoderInput[],
  nameOf: (index: number) => string,
  others = "",
): void {
  inputs.forEach(({ ids }, index) => {
    const name = nameOf(index);
    if (ids.length === 0) throw emptyInput(name);
    if (ids.length > info.maxLength)
      throw new OctavoError(
        "context_length_exceeded",
        `${name}: this model takes at most ${info.maxLength} tokens, got ${ids.length}${others}; truncate_prompt_tokens: -1 cuts what is longer`,
        name,
      );
    const beyond = ids.find((id) => id < 0 || id >= info.vocabSize);
    if (beyond !== undefined)
      throw new OctavoError(
        "invalid_request",
        `${name}: expected token ids from 0 to ${info.vocabSize - 1}, got ${beyond}`,
        name,
      );
  });
}
