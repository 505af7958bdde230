import { writeFileSync } from "node:fs";
import path from "node:path";

/** A directory becomes a model of made-up weights (--load-format dummy): all that it needs is a config. */
export function writeTinyConfig(
  directory: string,
  sizes: { vocab_size: number; max_position_embeddings: number },
): void {
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    rms_norm_eps: 1e-5,
    torch_dtype: "float32",
    ...sizes,
  };
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(config));
}
