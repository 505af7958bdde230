/** Qwen3 [Yang et al. 2025]: Llama with a norm on each query and key head, and a head size of its own. */
import type { GraphBuilder } from "./graph.js";
import { decoder } from "./llama.js";
import type { ModelConfig } from "./model-config.js";

export const architectures = ["Qwen3ForCausalLM"];

export function build(g: GraphBuilder, config: ModelConfig): void {
  decoder(g, config, {
    qkvBias: config.attentionBias,
    outputBias: config.attentionBias,
    headNorm: true,
  });
}
