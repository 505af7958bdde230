import type { ModelConfig } from "../../models/model-config.js";
import { OctavoError } from "../core/errors.js";
import { Fields } from "./fields.js";
import { ropeOf } from "./rope.js";
import type { Rope } from "./rope.js";

// Far above any model; far below where products of two would overflow or a loop over layers would hang.
const MAX_WIDTH = 1 << 20;
const MAX_LAYERS = 4096;
const MAX_HEAD_DIM = 1024;
const MAX_VOCAB = 1 << 24;
const MAX_POSITIONS = 1 << 30;

interface Shapes {
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
}

/**
 * Checks a config.json and brings its old and new spellings into one form.
 * Errors: `invalid_model` naming file, field, expected and what came; `unsupported_model` for what is not built.
 */
export function parseModelConfig(
  values: Readonly<Record<string, unknown>>,
  file = "config.json",
): ModelConfig {
  const fields = new Fields(file, values);
  const architecture = architectureOf(fields);
  const modelType = fields.string("model_type", "");
  requireSilu(fields);
  const shapes = shapesOf(fields);
  const rope = ropeOfConfig(fields, shapes);
  return {
    architecture,
    modelType,
    ...shapes,
    vocabSize: fields.int("vocab_size", 1, MAX_VOCAB),
    intermediateSize: fields.int("intermediate_size", 1, MAX_WIDTH),
    rmsNormEps: fields.number("rms_norm_eps", 0, 1e-6, true),
    maxPositionEmbeddings: rope.maxPositions,
    // Absent from a config: what the reference implementation's class has.
    tieWordEmbeddings: fields.boolean("tie_word_embeddings", false),
    attentionBias: fields.boolean("attention_bias", false),
    mlpBias: fields.boolean("mlp_bias", false),
    rope: rope.table,
    slidingWindows: slidingWindowsOf(fields, modelType, shapes.numLayers),
    dtype: dtypeOf(fields),
    bosTokenId: fields.tokenIds("bos_token_id")[0] ?? null,
    eosTokenIds: fields.tokenIds("eos_token_id"),
    raw: values,
  };
}

function architectureOf(fields: Fields): string {
  const [architecture, ...more] = fields.strings("architectures");
  if (architecture === undefined || more.length > 0)
    throw fields.fail("architectures", "a list of one name");
  return architecture;
}

function requireSilu(fields: Fields): void {
  const name = fields.has("hidden_act") ? "hidden_act" : "hidden_activation";
  const activation = fields.string(name, "silu");
  if (activation !== "silu" && activation !== "swish")
    throw new OctavoError(
      "unsupported_model",
      `${fields.file}: ${name}: ${activation} is not built. Built: silu.`,
      name,
    );
}

function shapesOf(fields: Fields): Shapes {
  const hiddenSize = fields.int("hidden_size", 1, MAX_WIDTH);
  const numHeads = fields.int("num_attention_heads", 1, MAX_WIDTH);
  const numKvHeads = fields.int("num_key_value_heads", 1, MAX_WIDTH, numHeads);
  if (numHeads % numKvHeads !== 0)
    throw fields.fail(
      "num_key_value_heads",
      `a divisor of num_attention_heads (${numHeads})`,
    );
  if (!fields.has("head_dim") && hiddenSize % numHeads !== 0)
    throw fields.fail(
      "num_attention_heads",
      `a divisor of hidden_size (${hiddenSize}), or a head_dim`,
    );
  const headDim = fields.int(
    "head_dim",
    1,
    MAX_HEAD_DIM,
    Math.floor(hiddenSize / numHeads),
  );
  if (numHeads * headDim > MAX_WIDTH)
    throw fields.fail(
      "num_attention_heads",
      `at most ${Math.floor(MAX_WIDTH / headDim)} heads of ${headDim}`,
    );
  const numLayers = fields.int("num_hidden_layers", 1, MAX_LAYERS);
  return { hiddenSize, numLayers, numHeads, numKvHeads, headDim };
}

/** rope_theta and rope_scaling, or both within rope_parameters (transformers 5). */
function ropeOfConfig(fields: Fields, { headDim }: Shapes): Rope {
  const field = fields.has("rope_parameters")
    ? "rope_parameters"
    : "rope_scaling";
  const rope = fields.object(field);
  if (rope?.has("full_attention") || rope?.has("sliding_attention"))
    throw new OctavoError(
      "unsupported_model",
      `${fields.file}: ${field}: one set for all layers is built, not one per layer type`,
      field,
    );
  const scaling = withOriginalLength(fields, rope);
  const holder = (name: string): Fields => (rope?.has(name) ? rope : fields);
  const fraction = holder("partial_rotary_factor").number(
    "partial_rotary_factor",
    0,
    1,
  );
  const rotaryDim = Math.floor(headDim * fraction);
  if (fraction > 1 || rotaryDim < 2 || rotaryDim % 2 !== 0)
    throw holder("partial_rotary_factor").fail(
      "partial_rotary_factor",
      `a number that makes an even number of dimensions of each head (head_dim ${headDim})`,
    );
  return ropeOf(scaling, {
    theta: holder("rope_theta").number("rope_theta", 1, 10_000),
    rotaryDim,
    maxPositions: fields.int("max_position_embeddings", 1, MAX_POSITIONS, 2048),
  });
}

/** original_max_position_embeddings also stands beside rope_scaling. */
function withOriginalLength(
  fields: Fields,
  rope: Fields | null,
): Fields | null {
  const name = "original_max_position_embeddings";
  if (!rope || rope.has(name) || !fields.has(name)) return rope;
  return new Fields(
    rope.file,
    { ...rope.values, [name]: fields.raw(name) },
    rope.prefix,
  );
}

function dtypeOf(fields: Fields): ModelConfig["dtype"] {
  const name = fields.has("dtype") ? "dtype" : "torch_dtype";
  const names: Record<string, ModelConfig["dtype"]> = {
    float16: "f16",
    bfloat16: "bf16",
    float32: "f32",
    auto: "f16",
  };
  const dtype = names[fields.string(name, "float16").replace(/^torch\./, "")];
  if (!dtype) throw fields.fail(name, "float16, bfloat16 or float32");
  return dtype;
}

/** [numLayers] window of each layer, 0 for full attention. */
function slidingWindowsOf(
  fields: Fields,
  modelType: string,
  numLayers: number,
): number[] {
  const slides = slidingLayers(fields, modelType, numLayers);
  if (!slides.includes(true)) return slides.map(() => 0);
  // The reference implementation's default, which a saved config leaves out.
  const window = fields.int(
    "sliding_window",
    1,
    MAX_POSITIONS,
    modelType === "mistral" || modelType.startsWith("qwen") ? 4096 : undefined,
  );
  return slides.map((sliding) => (sliding ? window : 0));
}

function slidingLayers(
  fields: Fields,
  modelType: string,
  numLayers: number,
): boolean[] {
  const all = (sliding: boolean): boolean[] =>
    Array.from({ length: numLayers }, () => sliding);
  if (fields.has("layer_types")) return layerTypes(fields, numLayers);
  if (modelType === "qwen2" || modelType === "qwen3") {
    const first = fields.boolean("use_sliding_window", false)
      ? fields.int("max_window_layers", 0, MAX_POSITIONS, 28)
      : numLayers;
    return all(true).map((_, layer) => layer >= first);
  }
  // The reference Llama has no window, whatever its config says.
  if (modelType === "llama" || fields.raw("sliding_window") === null)
    return all(false);
  return all(fields.has("sliding_window") || modelType === "mistral");
}

function layerTypes(fields: Fields, numLayers: number): boolean[] {
  const types = fields.strings("layer_types");
  if (types.length !== numLayers)
    throw fields.fail("layer_types", `${numLayers} entries, one per layer`);
  return types.map((type) => {
    if (type === "sliding_attention") return true;
    if (type === "full_attention") return false;
    throw new OctavoError(
      "unsupported_model",
      `${fields.file}: layer_types: ${type} is not built. Built: full_attention, sliding_attention.`,
      "layer_types",
    );
  });
}
