import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const INT4 = {
  quant_method: "awq",
  bits: 4,
  group_size: 128,
  zero_point: true,
  version: "gemm",
};

/** Published shapes, as config.json names them; weights are made up. */
const SHAPES = {
  "Llama-3.1-8B": {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 128256,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    tie_word_embeddings: false,
  },
  "Qwen2.5-7B": {
    architectures: ["Qwen2ForCausalLM"],
    model_type: "qwen2",
    hidden_size: 3584,
    intermediate_size: 18944,
    num_hidden_layers: 28,
    num_attention_heads: 28,
    num_key_value_heads: 4,
    vocab_size: 152064,
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-6,
    rope_theta: 1000000,
    tie_word_embeddings: false,
  },
} as const;

export type ShapeName = keyof typeof SHAPES;
export const SHAPE_NAMES = Object.keys(SHAPES) as ShapeName[];

/** Calls `body` with a model directory of this shape, INT4 with groups of 128, that holds nothing but a config.json. */
export async function withShape<T>(
  name: ShapeName,
  body: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(path.join(tmpdir(), "octavo-shape-"));
  try {
    const config = {
      ...SHAPES[name],
      torch_dtype: "float16",
      quantization_config: INT4,
    };
    writeFileSync(path.join(directory, "config.json"), JSON.stringify(config));
    return await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
