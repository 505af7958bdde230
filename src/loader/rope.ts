import type { RopeTable } from "../../models/model-config.js";
import { OctavoError } from "../core/errors.js";
import type { Fields } from "./fields.js";

export const SUPPORTED_ROPE_TYPES = ["default", "linear", "llama3", "yarn"];

export interface Rope {
  table: RopeTable;
  /** Longest context after stretching. */
  maxPositions: number;
}

interface RopeInputs {
  theta: number;
  rotaryDim: number;
  maxPositions: number;
}

/**
 * Inverse frequencies of `fields` (rope_scaling or rope_parameters; null: plain), in double precision.
 * Errors: `unsupported_model` for other types, `invalid_model` for bad fields.
 */
export function ropeOf(fields: Fields | null, inputs: RopeInputs): Rope {
  const plain = defaultFrequencies(inputs);
  const type =
    fields?.has("rope_type") === true
      ? fields.string("rope_type")
      : (fields?.string("type", "default") ?? "default");
  if (!fields || type === "default") return unscaled(plain, inputs);
  switch (type) {
    case "linear":
      return linear(fields, plain, inputs);
    case "llama3":
      return llama3(fields, plain, inputs);
    case "yarn":
      return yarn(fields, plain, inputs);
    default:
      throw new OctavoError(
        "unsupported_model",
        `${fields.file}: ${fields.prefix}rope_type: ${type} is not built. Built: ${SUPPORTED_ROPE_TYPES.join(", ")}.`,
        `${fields.prefix}rope_type`,
      );
  }
}

/** theta^(-2i / d). [Su et al. 2021, RoFormer, section 3.2.2] */
function defaultFrequencies({ theta, rotaryDim }: RopeInputs): Float64Array {
  return Float64Array.from(
    { length: rotaryDim / 2 },
    (_, i) => theta ** ((-2 * i) / rotaryDim),
  );
}

function unscaled(
  inverseFrequencies: Float64Array,
  { maxPositions }: RopeInputs,
): Rope {
  return {
    table: { inverseFrequencies, scale: 1, interleaved: false },
    maxPositions,
  };
}

/** Positions divided by the factor. [Chen et al. 2023, position interpolation; kaiokendev 2023] */
function linear(fields: Fields, plain: Float64Array, inputs: RopeInputs): Rope {
  const factor = fields.number("factor", 1, undefined, true);
  return {
    ...unscaled(
      plain.map((f) => f / factor),
      inputs,
    ),
    maxPositions: Math.floor(inputs.maxPositions * factor),
  };
}

/**
 * Wavelengths above original / low_freq_factor are divided by the factor, those below original / high_freq_factor are
 * kept, and between the two they are blended. [Llama 3.1: meta-llama/llama-models, apply_scaling]
 */
function llama3(fields: Fields, plain: Float64Array, inputs: RopeInputs): Rope {
  const factor = fields.number("factor", 1, undefined, true);
  const low = fields.number("low_freq_factor", 0);
  const high = fields.number("high_freq_factor", 0);
  if (high <= low)
    throw fields.fail(
      "high_freq_factor",
      `a number above low_freq_factor (${low})`,
    );
  const original = fields.int("original_max_position_embeddings", 1, 2 ** 30);
  const scaled = plain.map((frequency) => {
    const turns = (original * frequency) / (2 * Math.PI); // within the original context
    const smooth = (turns - low) / (high - low);
    const kept = Math.min(1, Math.max(0, smooth));
    return (1 - kept) * (frequency / factor) + kept * frequency;
  });
  return unscaled(scaled, inputs);
}

/**
 * Dimensions that turn more than beta_fast times within the original context are kept, those that turn less than
 * beta_slow times are interpolated, with a ramp between; cosines and sines are scaled by the attention factor
 * 0.1 ln(factor) + 1. [Peng et al. 2023, YaRN, sections 3.2 to 3.4; mscale: DeepSeek-V2; truncate: gpt-oss]
 */
function yarn(fields: Fields, plain: Float64Array, inputs: RopeInputs): Rope {
  const original = fields.int(
    "original_max_position_embeddings",
    1,
    2 ** 30,
    inputs.maxPositions,
  );
  const factor = fields.number(
    "factor",
    1,
    Math.max(1, inputs.maxPositions / original),
    true,
  );
  const [first, last] = yarnRange(fields, inputs, original);
  const width = last === first ? 0.001 : last - first;
  const scaled = plain.map((frequency, i) => {
    const interpolated = Math.min(1, Math.max(0, (i - first) / width));
    return interpolated * (frequency / factor) + (1 - interpolated) * frequency;
  });
  return {
    table: {
      inverseFrequencies: scaled,
      scale: yarnScale(fields, factor),
      interleaved: false,
    },
    maxPositions: Math.floor(original * factor),
  };
}

/** First and last index of the ramp, among the frequencies. */
function yarnRange(
  fields: Fields,
  { theta, rotaryDim }: RopeInputs,
  original: number,
): [number, number] {
  const fast = fields.number("beta_fast", 0, 32);
  const slow = fields.number("beta_slow", 0, 1);
  const indexAt = (turns: number): number =>
    (rotaryDim * Math.log(original / (turns * 2 * Math.PI))) /
    (2 * Math.log(theta));
  const truncate = fields.boolean("truncate", true);
  const first = truncate ? Math.floor(indexAt(fast)) : indexAt(fast);
  const last = truncate ? Math.ceil(indexAt(slow)) : indexAt(slow);
  return [Math.max(first, 0), Math.min(last, rotaryDim - 1)];
}

function yarnScale(fields: Fields, factor: number): number {
  const scaleOf = (mscale: number): number =>
    factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
  if (fields.has("attention_factor"))
    return fields.number("attention_factor", 0);
  const mscale = fields.number("mscale", 0, 0, true);
  const mscaleAllDim = fields.number("mscale_all_dim", 0, 0, true);
  return mscale > 0 && mscaleAllDim > 0
    ? scaleOf(mscale) / scaleOf(mscaleAllDim)
    : scaleOf(1);
}
