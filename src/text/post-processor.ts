/**
 * Checks of tokenizer.json's `post_processor` that the Rust library leaves to the moment it encodes, on a thread of
 * its own, where the failed look-up aborts the whole process.
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
