/** Llama [Touvron et al. 2023], and the decoder that its descendants vary. */
import type { GraphBuilder, Value } from "./graph.js";
import type { ModelConfig } from "./model-config.js";

export const architectures = ["LlamaForCausalLM"];

export function build(g: GraphBuilder, config: ModelConfig): void {
  decoder(g, config, {
    qkvBias: config.attentionBias,
    outputBias: config.attentionBias,
    headNorm: false,
  });
}

/** Where the descendants differ in their attention. */
export interface DecoderTraits {
  /** Of q_proj, k_proj and v_proj. */
  qkvBias: boolean;
  /** Of o_proj. */
  outputBias: boolean;
  /** RMS norm of each query and key head before the rotation. */
  headNorm: boolean;
}

export function decoder(
  g: GraphBuilder,
  config: ModelConfig,
  traits: DecoderTraits,
): void {
  const { vocabSize, hiddenSize, rmsNormEps: eps } = config;
  let x = g.embed("model.embed_tokens", vocabSize, hiddenSize);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const name = `model.layers.${layer}`;
    const attended = attention(
      g,
      config,
      traits,
      layer,
      g.rmsNorm(x, `${name}.input_layernorm`, eps),
    );
    x = g.add(x, attended);
    const fed = feedForward(
      g,
      config,
      `${name}.mlp`,
      g.rmsNorm(x, `${name}.post_attention_layernorm`, eps),
    );
    x = g.add(x, fed);
  }
  const last = g.rmsNorm(g.sampleRows(x), "model.norm", eps);
  g.logits(
    g.linear(last, "lm_head", vocabSize, {
      tiedTo: config.tieWordEmbeddings ? "model.embed_tokens" : null,
    }),
  );
}

function attention(
  g: GraphBuilder,
  config: ModelConfig,
  traits: DecoderTraits,
  layer: number,
  x: Value,
): Value {
  const name = `model.layers.${layer}.self_attn`;
  const { numHeads, numKvHeads, headDim, hiddenSize } = config;
  const bias = { bias: traits.qkvBias };
  const q = g.linear(x, `${name}.q_proj`, numHeads * headDim, bias);
  const k = g.linear(x, `${name}.k_proj`, numKvHeads * headDim, bias);
  const v = g.linear(x, `${name}.v_proj`, numKvHeads * headDim, bias);
  const norms = traits.headNorm
    ? {
        qNorm: `${name}.q_norm`,
        kNorm: `${name}.k_norm`,
        normEps: config.rmsNormEps,
      }
    : {};
  const attended = g.attention(q, k, v, {
    numHeads,
    numKvHeads,
    headDim,
    rope: config.rope,
    slidingWindow: config.slidingWindows[layer] ?? 0,
    ...norms,
  });
  return g.linear(attended, `${name}.o_proj`, hiddenSize, {
    bias: traits.outputBias,
  });
}

/** SwiGLU. */
function feedForward(
  g: GraphBuilder,
  config: ModelConfig,
  name: string,
  x: Value,
): Value {
  const bias = { bias: config.mlpBias };
  const gate = g.linear(x, `${name}.gate_proj`, config.intermediateSize, bias);
  const up = g.linear(x, `${name}.up_proj`, config.intermediateSize, bias);
  return g.linear(
    g.siluMul(gate, up),
    `${name}.down_proj`,
    config.hiddenSize,
    bias,
  );
}
