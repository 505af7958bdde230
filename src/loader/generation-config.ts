import { Fields } from "./fields.js";

/** What generation_config.json says; absent fields are undefined. */
export interface GenerationConfig {
  eosTokenIds: number[];
  defaults: GenerationDefaults;
}

export interface GenerationDefaults {
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
}

/** Checks a generation_config.json (null: there is none). Errors: `invalid_model` naming the field. */
export function parseGenerationConfig(
  values: Readonly<Record<string, unknown>> | null,
  file = "generation_config.json",
): GenerationConfig {
  const fields = new Fields(file, values ?? {});
  const defaults: GenerationDefaults = {};
  if (fields.has("temperature"))
    defaults.temperature = fields.number("temperature", 0, undefined, true);
  if (fields.has("top_p")) defaults.topP = probability(fields, "top_p");
  if (fields.has("top_k")) defaults.topK = fields.int("top_k", -1, 2 ** 31 - 1);
  if (fields.has("min_p")) defaults.minP = probability(fields, "min_p");
  if (fields.has("repetition_penalty"))
    defaults.repetitionPenalty = fields.number("repetition_penalty", 0);
  return { eosTokenIds: fields.tokenIds("eos_token_id"), defaults };
}

function probability(fields: Fields, name: string): number {
  const value = fields.number(name, 0, undefined, true);
  if (value > 1) throw fields.fail(name, "a number in [0, 1]");
  return value;
}
