import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { madeUpTokenizer } from "./made-up-tokenizer.js";

const INT4 = {
  quant_method: "awq",
  bits: 4,
  group_size: 128,
  zero_point: true,
  version: "gemm",
};

/** As config.json names it. */
export interface ShapeConfig {
  architectures: readonly string[];
  model_type: string;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  vocab_size: number;
  max_position_embeddings: number;
  rms_norm_eps: number;
  rope_theta: number;
  tie_word_embeddings: boolean;
}

/** Published shapes, and a tiny one to try everything with; weights are made up. */
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
    head_dim: 128,
    vocab_size: 152064,
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-6,
    rope_theta: 1000000,
    tie_word_embeddings: false,
  },
  tiny: {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 128,
    intermediate_size: 256,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 32,
    vocab_size: 512,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
  },
} as const satisfies Record<string, ShapeConfig>;

export type ShapeName = keyof typeof SHAPES;
export const SHAPE_NAMES = Object.keys(SHAPES) as ShapeName[];
export const PUBLISHED_SHAPES: ShapeName[] = ["Llama-3.1-8B", "Qwen2.5-7B"];

export function shapeConfig(name: ShapeName): ShapeConfig {
  return SHAPES[name];
}

/**
 * Calls `body` with a model directory of this shape, INT4 with groups of 128, that holds a config.json and a tokenizer of
 * as many tokens, and no weights.
 */
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
    writeFileSync(
      path.join(directory, "tokenizer.json"),
      JSON.stringify(madeUpTokenizer(config.vocab_size)),
    );
    return await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
