/**
 * What tokenizer.json's `decoder` section says, brought to the two shapes that generating models use:
 *
 *  - byte level (GPT-2, Qwen, Llama 3): every character of a token stands for one byte;
 *  - pieces (SentencePiece, Llama 2, Mistral, Gemma): a token is text with some replacements (`▁` -> space), or one
 *    byte (`<0x0A>`), and leading spaces are stripped from a whole sequence.
 *
 * A decoder that says anything else is an error at load, not wrong text later.
 */
import { OctavoError } from "../core/errors.js";
import { badFile, describe, isObject, type JsonObject } from "./model-files.js";

export type DecoderSpec =
  | { readonly kind: "byte-level" }
  | {
      readonly kind: "pieces";
      /** Applied to each token in this order: every occurrence of `from` becomes `to`. */
      readonly replacements: readonly {
        readonly from: string;
        readonly to: string;
      }[];
      /** `<0xNN>` is a byte. */
      readonly byteFallback: boolean;
      /** A whole sequence loses up to `count` of `char` at its beginning. */
      readonly strip: { readonly char: string; readonly count: number };
      /** Metaspace: the first token of a whole sequence loses every occurrence of this; null where none. */
      readonly dropInFirstToken: string | null;
    };

type Pieces = Extract<DecoderSpec, { kind: "pieces" }>;

function unsupported(file: string, what: string): OctavoError {
  return new OctavoError(
    "unsupported_model",
    `${file}: decoder: ${what} is not supported`,
    file,
  );
}

function stringField(file: string, step: JsonObject, field: string): string {
  const value = step[field];
  if (typeof value === "string") return value;
  throw badFile(
    file,
    `decoder.${field}: expected a string, got ${describe(value)}`,
  );
}

function countField(file: string, step: JsonObject, field: string): number {
  const value = step[field];
  if (typeof value === "number" && Number.isInteger(value) && value >= 0)
    return value;
  throw badFile(
    file,
    `decoder.${field}: expected a count, got ${describe(value)}`,
  );
}

function replacement(
  file: string,
  step: JsonObject,
): { from: string; to: string } {
  const pattern = step.pattern;
  if (
    !isObject(pattern) ||
    typeof pattern.String !== "string" ||
    pattern.String === ""
  )
    throw unsupported(
      file,
      `Replace with the pattern ${JSON.stringify(pattern)}`,
    );
  return { from: pattern.String, to: stringField(file, step, "content") };
}

/** Strip works on the fused text, so it must come after Fuse; what comes before Fuse works on each token. */
function strip(
  file: string,
  step: JsonObject,
  fused: boolean,
): Pieces["strip"] {
  const char = stringField(file, step, "content");
  if (!fused || countField(file, step, "stop") !== 0 || [...char].length !== 1)
    throw unsupported(
      file,
      "Strip before Fuse, at the end or of more than a character",
    );
  return { char, count: countField(file, step, "start") };
}

function parsePieces(file: string, steps: readonly JsonObject[]): Pieces {
  const replacements: { from: string; to: string }[] = [];
  let byteFallback = false;
  let fused = false;
  let stripped: Pieces["strip"] | null = null;
  let dropInFirstToken: string | null = null;
  for (const step of steps) {
    const type = step.type;
    if (type === "Strip" && stripped === null)
      stripped = strip(file, step, fused);
    else if (type === "Fuse") fused = true;
    else if (fused || byteFallback)
      throw unsupported(file, `${String(type)} at this place`);
    else if (type === "Replace") replacements.push(replacement(file, step));
    else if (type === "ByteFallback") byteFallback = true;
    else if (type === "Metaspace") {
      const from = stringField(file, step, "replacement");
      // Older files have add_prefix_space where newer ones have prepend_scheme.
      const never =
        step.prepend_scheme === "never" || step.add_prefix_space === false;
      if (!never) dropInFirstToken = from;
      replacements.push({ from, to: " " });
    } else throw unsupported(file, `the type ${describe(type)}`);
  }
  return {
    kind: "pieces",
    replacements,
    byteFallback,
    strip: stripped ?? { char: " ", count: 0 },
    dropInFirstToken,
  };
}

/** Errors: `invalid_model` for a malformed section, `unsupported_model` for one that says something else. */
export function parseDecoder(file: string, decoder: unknown): DecoderSpec {
  if (!isObject(decoder)) {
    if (decoder === null || decoder === undefined)
      throw unsupported(file, "having none");
    throw badFile(
      file,
      `decoder: expected an object, got ${describe(decoder)}`,
    );
  }
  const list: unknown =
    decoder.type === "Sequence" ? decoder.decoders : [decoder];
  if (!Array.isArray(list) || !list.every(isObject))
    throw badFile(
      file,
      `decoder.decoders: expected a list of objects, got ${describe(list)}`,
    );
  if (list.length === 1 && list[0]?.type === "ByteLevel")
    return { kind: "byte-level" };
  return parsePieces(file, list);
}
