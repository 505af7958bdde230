/** Mistral [Jiang et al. 2023]: Llama without biases, whose queries see a window (config.slidingWindows). */
import type { GraphBuilder } from "./graph.js";
import { decoder } from "./llama.js";
import type { ModelConfig } from "./model-config.js";

export const architectures = ["MistralForCausalLM"];

export function build(g: GraphBuilder, config: ModelConfig): void {
  decoder(g, config, { qkvBias: false, outputBias: false, headNorm: false });
}
