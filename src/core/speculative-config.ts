import { OctavoError } from "./errors.js";

/** How drafts are made; vLLM's names. */
export const SPECULATIVE_METHODS = ["ngram", "suffix", "draft_model"] as const;
export type SpeculativeMethod = (typeof SPECULATIVE_METHODS)[number];

/** Most drafts of one sequence in one step: each is one more row of the batch. */
export const MAX_SPECULATIVE_TOKENS = 64;

interface CommonConfig {
  /** Most drafts of one sequence in one step, 1..MAX_SPECULATIVE_TOKENS. */
  numSpeculativeTokens: number;
  /** Drafts are made as long as they pay, down to none; false: always as many as there are. */
  adaptive: boolean;
}

/** Continues the last tokens as they were continued before in the same sequence. */
export interface NgramConfig extends CommonConfig {
  method: "ngram";
  /** Tokens that have to match, at least and at most; 1 <= min <= max. */
  promptLookupMin: number;
  promptLookupMax: number;
}

/** Continues them as in the same sequence or in recent outputs, by how often each continuation came. */
export interface SuffixConfig extends CommonConfig {
  method: "suffix";
  suffixDecodingMaxTreeDepth: number;
  /** Outputs that are remembered; 0: only the sequence itself is looked at. */
  suffixDecodingMaxCachedRequests: number;
  /** Drafts per token that matched. */
  suffixDecodingMaxSpecFactor: number;
  /** 0..1: drafts less likely than this are not made. */
  suffixDecodingMinTokenProb: number;
}

/** Asks a smaller model of the same tokenizer. */
export interface DraftModelConfig extends CommonConfig {
  method: "draft_model";
  /** Directory or hub name. */
  model: string;
  revision: string | null;
  /** Drafts are made for sequences up to this length; null: as long as the draft model can. */
  maxModelLen: number | null;
}

/** `--speculative-config`, checked. Plain data: it crosses the thread boundary with EngineConfig. */
export type SpeculativeConfig = NgramConfig | SuffixConfig | DraftModelConfig;

type Fields = Record<string, unknown>;

const COMMON_FIELDS = ["method", "num_speculative_tokens", "adaptive"];
const METHOD_FIELDS: Record<SpeculativeMethod, readonly string[]> = {
  ngram: ["prompt_lookup_min", "prompt_lookup_max"],
  suffix: [
    "suffix_decoding_max_tree_depth",
    "suffix_decoding_max_cached_requests",
    "suffix_decoding_max_spec_factor",
    "suffix_decoding_min_token_prob",
  ],
  draft_model: ["model", "revision", "max_model_len"],
};
const DEFAULT_PROMPT_LOOKUP = 5;

/**
 * Checks the object of `--speculative-config` (vLLM's fields; `adaptive` is ours). Errors: invalid_config that names the
 * field as `PARAM.field`, what was expected and what came.
 */
export function parseSpeculativeConfig(
  value: unknown,
  param = "speculative-config",
): SpeculativeConfig {
  const reader = new FieldReader(asObject(value, param), param);
  const method = methodOf(reader);
  reader.refuseOthers([...COMMON_FIELDS, ...METHOD_FIELDS[method]], method);
  const adaptive = reader.boolean("adaptive", true);
  switch (method) {
    case "ngram": {
      const numSpeculativeTokens = numTokens(reader, null);
      return {
        method,
        numSpeculativeTokens,
        adaptive,
        ...promptLookup(reader),
      };
    }
    case "suffix":
      return { method, adaptive, ...suffixFields(reader) };
    case "draft_model":
      return {
        method,
        numSpeculativeTokens: numTokens(reader, null),
        adaptive,
        model: reader.text("model"),
        revision: reader.has("revision") ? reader.text("revision") : null,
        maxModelLen: reader.has("max_model_len")
          ? reader.integer("max_model_len", 1, 1 << 24)
          : null,
      };
  }
}

/** The JSON that `--speculative-config` takes for this: `parseSpeculativeConfig` reads it back as it is. */
export function speculativeConfigJson(config: SpeculativeConfig): string {
  const fields = Object.entries(config).map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value as unknown,
  ]);
  return JSON.stringify(Object.fromEntries(fields));
}

function asObject(value: unknown, param: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Fields;
  throw new OctavoError(
    "invalid_config",
    `${param}: expected an object such as {"method":"ngram","num_speculative_tokens":5}, got ${shown(value)}`,
    param,
  );
}

/** vLLM takes `model` alone for a draft model, and refuses what has neither. */
function methodOf(reader: FieldReader): SpeculativeMethod {
  const method = reader.get("method") ?? "draft_model";
  if (!reader.has("method") && !reader.has("model"))
    throw reader.error("method", oneOf(SPECULATIVE_METHODS), undefined);
  if ((SPECULATIVE_METHODS as readonly unknown[]).includes(method))
    return method as SpeculativeMethod;
  throw reader.error("method", oneOf(SPECULATIVE_METHODS), method);
}

function numTokens(reader: FieldReader, fallback: number | null): number {
  return reader.integer(
    "num_speculative_tokens",
    1,
    MAX_SPECULATIVE_TOKENS,
    fallback,
  );
}

/** One of the two stands for both, as in vLLM. */
function promptLookup(
  reader: FieldReader,
): Pick<NgramConfig, "promptLookupMin" | "promptLookupMax"> {
  const most = 1 << 16;
  const onlyMin = reader.has("prompt_lookup_min")
    ? reader.integer("prompt_lookup_min", 1, most)
    : null;
  const promptLookupMax = reader.integer(
    "prompt_lookup_max",
    1,
    most,
    onlyMin ?? DEFAULT_PROMPT_LOOKUP,
  );
  const promptLookupMin = onlyMin ?? promptLookupMax;
  if (promptLookupMin > promptLookupMax)
    throw reader.error(
      "prompt_lookup_min",
      `at most prompt_lookup_max (${promptLookupMax})`,
      promptLookupMin,
    );
  return { promptLookupMin, promptLookupMax };
}

function suffixFields(
  reader: FieldReader,
): Omit<SuffixConfig, "method" | "adaptive"> {
  // Two tokens that match and a draft.
  const depth = reader.integer("suffix_decoding_max_tree_depth", 3, 1024, 24);
  return {
    suffixDecodingMaxTreeDepth: depth,
    numSpeculativeTokens: numTokens(
      reader,
      Math.min(depth, MAX_SPECULATIVE_TOKENS),
    ),
    suffixDecodingMaxCachedRequests: reader.integer(
      "suffix_decoding_max_cached_requests",
      0,
      1 << 24,
      10_000,
    ),
    suffixDecodingMaxSpecFactor: reader.number(
      "suffix_decoding_max_spec_factor",
      0,
      1000,
      1,
    ),
    suffixDecodingMinTokenProb: reader.number(
      "suffix_decoding_min_token_prob",
      0,
      1,
      0.1,
    ),
  };
}

/** Reads fields of one object; null counts as absent, as in vLLM. */
class FieldReader {
  constructor(
    private readonly fields: Fields,
    private readonly param: string,
  ) {}

  get(name: string): unknown {
    return this.fields[name] ?? undefined;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  refuseOthers(known: readonly string[], method: SpeculativeMethod): void {
    const other = Object.keys(this.fields).find(
      (name) => !known.includes(name),
    );
    if (other === undefined) return;
    throw new OctavoError(
      "invalid_config",
      `${this.param}.${other}: there is no such field with method "${method}"; expected one of ${known.join(", ")}`,
      `${this.param}.${other}`,
    );
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.get(name) ?? fallback;
    if (typeof value === "boolean") return value;
    throw this.error(name, "true or false", value);
  }

  text(name: string): string {
    const value = this.get(name);
    if (typeof value === "string" && value !== "") return value;
    throw this.error(name, "a name", value);
  }

  /** `fallback` null: the field is required. */
  integer(
    name: string,
    least: number,
    most: number,
    fallback: number | null = null,
  ): number {
    const value = this.get(name) ?? fallback;
    if (Number.isInteger(value) && isWithin(value as number, least, most))
      return value as number;
    throw this.error(name, `an integer in [${least}, ${most}]`, value);
  }

  number(name: string, least: number, most: number, fallback: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value === "number" && isWithin(value, least, most)) return value;
    throw this.error(name, `a number in [${least}, ${most}]`, value);
  }

  error(name: string, expected: string, got: unknown): OctavoError {
    return new OctavoError(
      "invalid_config",
      `${this.param}.${name}: expected ${expected}, got ${shown(got)}`,
      `${this.param}.${name}`,
    );
  }
}

function isWithin(value: number, least: number, most: number): boolean {
  return value >= least && value <= most;
}

function oneOf(names: readonly string[]): string {
  return `one of ${names.map((name) => `"${name}"`).join(", ")}`;
}

function shown(value: unknown): string {
  return value === undefined || value === null
    ? "nothing"
    : JSON.stringify(value);
}
