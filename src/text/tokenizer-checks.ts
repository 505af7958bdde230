/**
 * Checks of tokenizer.json that the Rust library makes by failing: a look-up in its post-processor or a slice of its
 * merges that is out of range aborts the whole process, so they come before it.
 */
import { badFile, describe, isObject, type JsonObject } from "./model-files.js";

function checkTemplate(
  file: string,
  field: string,
  template: JsonObject,
  vocabSize: number,
): void {
  const tokens = template.special_tokens ?? {};
  if (!isObject(tokens))
    throw badFile(
      file,
      `${field}.special_tokens: expected an object, got ${describe(tokens)}`,
    );
  for (const [name, token] of Object.entries(tokens)) {
    const ids: unknown = isObject(token) ? token.ids : undefined;
    const texts: unknown = isObject(token) ? token.tokens : undefined;
    const inVocabulary = (id: unknown) =>
      typeof id === "number" && id >= 0 && id < vocabSize;
    if (!Array.isArray(ids) || !ids.every(inVocabulary))
      throw badFile(
        file,
        `${field}.special_tokens[${JSON.stringify(name)}].ids: expected token ids below ${vocabSize}, got ${JSON.stringify(ids)}`,
      );
    if (!Array.isArray(texts) || texts.length !== ids.length)
      throw badFile(
        file,
        `${field}.special_tokens[${JSON.stringify(name)}].tokens: expected as many as ids, got ${JSON.stringify(texts)}`,
      );
  }
  for (const part of ["single", "pair"]) {
    const pieces = template[part];
    if (!Array.isArray(pieces)) continue; // the library checks the shape; a string is one of its spellings
    pieces.forEach((piece: unknown, i) => {
      const special = isObject(piece) ? piece.SpecialToken : undefined;
      if (!isObject(special)) return;
      if (typeof special.id !== "string" || !Object.hasOwn(tokens, special.id))
        throw badFile(
          file,
          `${field}.${part}[${i}].SpecialToken.id: expected a name in special_tokens, got ${describe(special.id)}`,
        );
    });
  }
}

/** @param processor the section as parsed, null where there is none. Errors: `invalid_model`. */
export function checkPostProcessor(
  file: string,
  processor: unknown,
  vocabSize: number,
  field = "post_processor",
): void {
  if (!isObject(processor)) return;
  if (processor.type === "TemplateProcessing")
    checkTemplate(file, field, processor, vocabSize);
  if (processor.type === "Sequence" && Array.isArray(processor.processors))
    processor.processors.forEach((inner: unknown, i) =>
      checkPostProcessor(file, inner, vocabSize, `${field}.processors[${i}]`),
    );
}

/** Both spellings of a merge: "a b" and ["a", "b"]; null for anything else, which the library refuses. */
function mergedPair(merge: unknown): readonly [string, string] | null {
  const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge;
  if (!Array.isArray(pair) || pair.length !== 2) return null;
  const [first, second] = pair as readonly unknown[];
  return typeof first === "string" && typeof second === "string"
    ? [first, second]
    : null;
}

/**
 * A merge makes a token, so it cannot be longer than the longest one (in bytes, less the prefix that continuing
 * tokens carry). Errors: `invalid_model`.
 * @param vocab token strings by id
 */
export function checkMerges(
  file: string,
  model: unknown,
  vocab: readonly (string | undefined)[],
): void {
  if (!isObject(model) || !Array.isArray(model.merges)) return;
  const prefix =
    typeof model.continuing_subword_prefix === "string"
      ? model.continuing_subword_prefix
      : "";
  const prefixLength = Buffer.byteLength(prefix);
  let longest = 0;
  for (const token of vocab)
    longest = Math.max(longest, Buffer.byteLength(token ?? ""));
  model.merges.forEach((merge: unknown, i) => {
    const pair = mergedPair(merge);
    if (pair === null) return;
    const [first, second] = pair;
    const length =
      Buffer.byteLength(first) + Buffer.byteLength(second) - prefixLength;
    if (length > longest || !second.startsWith(prefix))
      throw badFile(
        file,
        `model.merges[${i}]: expected two tokens that make a third, got ${JSON.stringify(merge).slice(0, 80)}`,
      );
  });
}
