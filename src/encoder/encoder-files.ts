/**
 * What the files of an encoder's directory say: the hub's ONNX layout, with what sentence-transformers puts beside it.
 *
 *   config.json  tokenizer.json  tokenizer_config.json
 *   onnx/model.onnx | model.onnx     the graph (its weights within, or in files beside it); model_fp16.onnx, ... if chosen
 *   modules.json                     the steps from tokens to a vector: Transformer, Pooling, Normalize
 *   1_Pooling/config.json            how the vectors of the tokens become one
 *   sentence_bert_config.json        max_seq_length, do_lower_case
 */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { OctavoError } from "../core/errors.js";
import { listOnnx, ONNX_FOLDERS, onnxFiles } from "../core/onnx-files.js";
import {
  badFile,
  describe,
  isObject,
  readOptionalJsonObject,
  readOptionalText,
  type JsonObject,
} from "../text/model-files.js";

/**
 * From the vectors of the tokens to one: of the first token, of the last, their mean, their maximum in each place, their
 * sum by the root of their number, or their mean weighted by their places (1, 2, ...).
 */
export const POOLINGS = [
  "cls",
  "lasttoken",
  "mean",
  "max",
  "mean_sqrt_len_tokens",
  "weightedmean",
] as const;
export type Pooling = (typeof POOLINGS)[number];

/** Widths that a vector may be cut to: none but its own, any smaller one, or some. */
export type Matryoshka = boolean | readonly number[];

/** Plain data: it crosses to the worker. */
export interface EncoderFiles {
  readonly directory: string;
  /** Absolute. */
  readonly modelFile: string;
  readonly pooling: Pooling;
  /** Whether vectors are given length 1. */
  readonly normalize: boolean;
  /** False where modules.json is missing and the two above are defaults. */
  readonly described: boolean;
  /** Steps that no file of the graph needs to hold and that are not built, such as Dense; [] for most. */
  readonly otherModules: readonly string[];
  /** Most tokens of an input, special ones included; null: no file says. */
  readonly maxLength: number | null;
  readonly lowercase: boolean;
  readonly padTokenId: number;
  /** null: config.json does not say. */
  readonly vocabSize: number | null;
  readonly matryoshka: Matryoshka;
  /** From a cross-encoder's logit to its score. */
  readonly activation: "sigmoid" | "identity";
}

/** Above any length that a tokenizer really has; larger ones mean "none" (transformers writes 1e30). */
const MAX_LENGTH = 1 << 24;
/** Their positions begin after the padding token's. */
const OFFSET_POSITIONS = [
  "roberta",
  "xlm-roberta",
  "xlm-roberta-xl",
  "camembert",
  "mpnet",
  "longformer",
];

/**
 * @param onnxFile the graph among several, with its folder or without; undefined: model.onnx
 * Errors: `invalid_model` naming file and field; `unsupported_model` for what is not built; `invalid_config` for onnxFile.
 */
export async function readEncoderFiles(
  directory: string,
  onnxFile?: string,
): Promise<EncoderFiles> {
  const configFile = path.join(directory, "config.json");
  const config = await readOptionalJsonObject(configFile);
  if (config === null)
    throw badFile(
      configFile,
      "expected the configuration of an encoder, but there is no such file",
    );
  const modules = await readModules(directory);
  const padTokenId = integer(configFile, config, "pad_token_id", 0) ?? 0;
  const bertFile = path.join(directory, "sentence_bert_config.json");
  const bert = (await readOptionalJsonObject(bertFile)) ?? {};
  const tokenizerFile = path.join(directory, "tokenizer_config.json");
  const tokenizer = (await readOptionalJsonObject(tokenizerFile)) ?? {};
  const limits = [
    integer(bertFile, bert, "max_seq_length", 1),
    tokenizerLimit(tokenizer),
    positions(configFile, config, padTokenId),
  ].filter((limit) => limit !== null);
  return {
    directory,
    modelFile: findModel(directory, onnxFile),
    ...modules,
    maxLength: limits.length > 0 ? Math.min(...limits) : null,
    lowercase: flag(bertFile, bert, "do_lower_case") ?? false,
    padTokenId,
    vocabSize: integer(configFile, config, "vocab_size", 1),
    matryoshka: matryoshka(configFile, config),
    activation: activation(configFile, config),
  };
}

function findModel(directory: string, onnxFile?: string): string {
  const wanted = onnxFiles(onnxFile);
  for (const name of wanted)
    if (existsSync(path.join(directory, name)))
      return path.join(directory, name);
  const there = ONNX_FOLDERS.flatMap((folder) => {
    const full = path.join(directory, folder);
    return existsSync(full)
      ? readdirSync(full).map((name) => `${folder}${name}`)
      : [];
  });
  throw badFile(
    directory,
    `expected ${wanted.join(" or ")}, got ${listOnnx(there)} (embedding-model-file chooses one)`,
  );
}

/** What modules.json and the pooling's configuration say; without them the mean of the tokens, normalized. */
async function readModules(directory: string) {
  const file = path.join(directory, "modules.json");
  const modules = await readModuleList(file);
  const names = modules.map(({ type }) => type.split(".").at(-1) ?? type);
  const at = names.indexOf("Pooling");
  const poolingPath = modules[at]?.path ?? "1_Pooling";
  const pooling = await readPooling(
    path.join(directory, poolingPath, "config.json"),
  );
  return {
    pooling: pooling ?? ("mean" as const),
    normalize: modules.length === 0 || names.includes("Normalize"),
    described: modules.length > 0 || pooling !== null,
    otherModules: names.filter(
      (name) => !["Transformer", "Pooling", "Normalize"].includes(name),
    ),
  };
}

async function readModuleList(
  file: string,
): Promise<{ type: string; path: string }[]> {
  const text = await readOptionalText(file);
  if (text === null) return [];
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw badFile(file, `expected JSON: ${(error as Error).message}`, error);
  }
  if (!Array.isArray(list))
    throw badFile(file, `expected a list of modules, got ${describe(list)}`);
  return list.map((entry: unknown, i) => {
    const { type, path: folder } = isObject(entry) ? entry : {};
    if (typeof type !== "string" || typeof folder !== "string")
      throw badFile(
        file,
        `[${i}]: expected an object with type and path, got ${describe(entry)}`,
      );
    if (path.isAbsolute(folder) || folder.split(/[/\\]/).includes(".."))
      throw badFile(
        file,
        `[${i}].path: expected a folder of the model, got "${folder}"`,
      );
    return { type, path: folder };
  });
}

/** Null where there is no such file. */
async function readPooling(file: string): Promise<Pooling | null> {
  const config = await readOptionalJsonObject(file);
  if (config === null) return null;
  // sentence-transformers writes a flag for each mode; later versions the mode's name.
  const flags: Readonly<Record<string, Pooling>> = {
    pooling_mode_cls_token: "cls",
    pooling_mode_lasttoken: "lasttoken",
    pooling_mode_mean_tokens: "mean",
    pooling_mode_max_tokens: "max",
    pooling_mode_mean_sqrt_len_tokens: "mean_sqrt_len_tokens",
    pooling_mode_weightedmean_tokens: "weightedmean",
  };
  const named: unknown = config.pooling_mode;
  const asked =
    named === undefined
      ? Object.keys(config).filter(
          (key) => key.startsWith("pooling_mode_") && config[key] === true,
        )
      : [named].flat().map(String);
  const found = asked.map(
    (name) => flags[name] ?? POOLINGS.find((pooling) => pooling === name),
  );
  const [pooling] = found;
  if (pooling !== undefined && found.length === 1) return pooling;
  throw new OctavoError(
    "unsupported_model",
    `${file}: expected one of the pooling modes ${POOLINGS.join(", ")}, got ${asked.join(" + ") || "none"}`,
    file,
  );
}

function tokenizerLimit({ model_max_length: limit }: JsonObject) {
  return typeof limit === "number" && limit >= 1 && limit <= MAX_LENGTH
    ? Math.floor(limit)
    : null;
}

/** Positions that the model has; null where config.json does not say. */
function positions(
  file: string,
  config: JsonObject,
  padTokenId: number,
): number | null {
  const size =
    integer(file, config, "max_position_embeddings", 1) ??
    integer(file, config, "n_positions", 1);
  if (size === null) return null;
  const offset = OFFSET_POSITIONS.includes(String(config.model_type))
    ? padTokenId + 1
    : 0;
  return Math.max(1, size - offset);
}

/** `matryoshka_dimensions` and `is_matryoshka` of config.json, which vLLM reads too. */
function matryoshka(file: string, config: JsonObject): Matryoshka {
  const list = config.matryoshka_dimensions ?? null;
  if (list === null) return flag(file, config, "is_matryoshka") ?? false;
  const isWidth = (value: unknown): value is number =>
    typeof value === "number" && Number.isInteger(value) && value > 0;
  if (!Array.isArray(list) || !list.every(isWidth))
    throw badFile(
      file,
      `matryoshka_dimensions: expected a list of widths, got ${describe(list)}`,
    );
  return list;
}

/** A cross-encoder's own, else the sigmoid of its logit. */
function activation(file: string, config: JsonObject) {
  const section = config.sentence_transformers;
  const name =
    (isObject(section) ? section.activation_fn : undefined) ??
    config.sbert_ce_default_activation_function ??
    "Sigmoid";
  const last = typeof name === "string" ? name.split(".").at(-1) : undefined;
  if (last === "Sigmoid") return "sigmoid";
  if (last === "Identity") return "identity";
  throw new OctavoError(
    "unsupported_model",
    `${file}: sentence_transformers.activation_fn: expected Sigmoid or Identity, got ${describe(name)}`,
    file,
  );
}

function integer(
  file: string,
  config: JsonObject,
  field: string,
  minimum: number,
): number | null {
  const value = config[field] ?? null;
  if (value === null) return null;
  if (
    typeof value === "number" &&
    Number.isInteger(value) &&
    value >= minimum &&
    value <= 2 ** 31
  )
    return value;
  throw badFile(
    file,
    `${field}: expected an integer of at least ${minimum}, got ${describe(value)}`,
  );
}

function flag(file: string, config: JsonObject, field: string): boolean | null {
  const value = config[field] ?? null;
  if (value === null || typeof value === "boolean") return value;
  throw badFile(
    file,
    `${field}: expected true or false, got ${describe(value)}`,
  );
}
