/** Qwen2 [Yang et al. 2024]: Llama with biases on queries, keys and values, whatever config.json says. */
import type { GraphBuilder } from "./graph.js";
import { decoder } from "./llama.js";
import type { ModelConfig } from "./model-config.js";

export const architectures = ["Qwen2ForCausalLM"];

export function build(g: GraphBuilder, config: ModelConfig): void {
  decoder(g, config, { qkvBias: true, outputBias: false, headNorm: false });
}
