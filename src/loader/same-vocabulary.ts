import { readFileSync } from "node:fs";
import path from "node:path";
import { OctavoError } from "../core/errors.js";
import { invalidModel, isObject, readJsonFile } from "./fields.js";

const FILE = "tokenizer.json";

/** Text of each token: [id]; a hole where there is none. */
type Vocabulary = (string | undefined)[];

/**
 * A draft model's ids must mean what they mean to the model that verifies them. Compares the tokens of both directories'
 * tokenizer.json; names the first difference. Where neither has one, as models of made-up weights, there is nothing to
 * compare. Errors: invalid_config, which names `param`; invalid_model for a file that is no tokenizer.
 */
export function checkSameVocabulary(
  target: string,
  draft: string,
  param: string,
): void {
  const files = [target, draft].map((directory) => path.join(directory, FILE));
  const [targetBytes, draftBytes] = files.map(bytesOf);
  if (!targetBytes && !draftBytes) return;
  if (!targetBytes || !draftBytes)
    throw new OctavoError(
      "invalid_config",
      `${param}: expected the tokenizer of ${target}, but only one of the two models has a ${FILE}: ${targetBytes ? target : draft}`,
      param,
    );
  if (targetBytes.equals(draftBytes)) return;
  const [expected, came] = files.map(readVocabulary) as [
    Vocabulary,
    Vocabulary,
  ];
  const length = Math.max(expected.length, came.length);
  for (let id = 0; id < length; id++)
    if (expected[id] !== came[id])
      throw new OctavoError(
        "invalid_config",
        `${param}: expected the tokens of ${target}, of which ${id} is ${shown(expected[id])}; that of ${draft} is ${shown(came[id])}`,
        param,
      );
}

function bytesOf(file: string): Buffer | null {
  try {
    return readFileSync(file);
  } catch {
    return null;
  }
}

/** Of BPE and WordPiece (an object: token -> id) and Unigram (pairs of token and score), with the added tokens. */
function readVocabulary(file: string): Vocabulary {
  const fields = readJsonFile(file, file) ?? {};
  const model = isObject(fields["model"]) ? fields["model"] : {};
  const vocab = model["vocab"];
  const tokens: Vocabulary = [];
  const set = (id: unknown, token: unknown): void => {
    if (
      typeof token !== "string" ||
      typeof id !== "number" ||
      !Number.isInteger(id) ||
      id < 0 ||
      id >= MAX_TOKENS
    )
      throw invalidModel(
        file,
        `expected tokens with ids from 0 to ${MAX_TOKENS - 1}, got ${JSON.stringify(token)} with ${JSON.stringify(id)}`,
      );
    tokens[id] = token;
  };
  if (Array.isArray(vocab))
    vocab.forEach((pair: unknown, id) =>
      set(id, Array.isArray(pair) ? pair[0] : pair),
    );
  else if (isObject(vocab))
    for (const [token, id] of Object.entries(vocab)) set(id, token);
  else throw invalidModel(file, "expected model.vocab, got none");
  const added = fields["added_tokens"];
  if (Array.isArray(added))
    for (const token of added as unknown[])
      if (isObject(token)) set(token["id"], token["content"]);
  return tokens;
}

/** Ids are int32, and an array of them is made. */
const MAX_TOKENS = 1 << 24;

function shown(token: string | undefined): string {
  return token === undefined ? "none" : JSON.stringify(token);
}
