import { describe, expect, it } from "vitest";
import { parseGenerationConfig } from "../../src/loader/generation-config.js";
import { parseModelConfig } from "../../src/loader/model-config.js";

const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 512,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  max_position_embeddings: 512,
  bos_token_id: 1,
  eos_token_id: 2,
};
const parse = (change: object = {}): ReturnType<typeof parseModelConfig> =>
  parseModelConfig({ ...LLAMA, ...change });

it("reads a config", () => {
  expect(parse()).toMatchObject({
    architecture: "LlamaForCausalLM",
    modelType: "llama",
    hiddenSize: 64,
    intermediateSize: 172,
    numLayers: 4,
    numHeads: 8,
    numKvHeads: 4,
    headDim: 8,
    vocabSize: 512,
    rmsNormEps: 1e-5,
    maxPositionEmbeddings: 512,
    tieWordEmbeddings: false,
    attentionBias: false,
    mlpBias: false,
    slidingWindows: [0, 0, 0, 0],
    dtype: "f16",
    bosTokenId: 1,
    eosTokenIds: [2],
  });
  expect(parse().rope.inverseFrequencies.length).toBe(4);
});

describe("spellings", () => {
  it.each([
    [{ torch_dtype: "bfloat16" }, { dtype: "bf16" }],
    [{ dtype: "float32" }, { dtype: "f32" }],
    [{ dtype: "bfloat16", torch_dtype: "float16" }, { dtype: "bf16" }],
    [{ num_key_value_heads: null }, { numKvHeads: 8 }],
    [{ head_dim: 32 }, { headDim: 32 }],
    [{ head_dim: null }, { headDim: 8 }],
    [{ eos_token_id: [1, 2] }, { eosTokenIds: [1, 2] }],
    [
      { eos_token_id: null, bos_token_id: null },
      { eosTokenIds: [], bosTokenId: null },
    ],
    [{ tie_word_embeddings: true }, { tieWordEmbeddings: true }],
    [
      { attention_bias: true, mlp_bias: true },
      { attentionBias: true, mlpBias: true },
    ],
    [
      { rope_scaling: { type: "linear", factor: 2 } },
      { maxPositionEmbeddings: 1024 },
    ],
    [
      { rope_parameters: { rope_type: "linear", factor: 2 } },
      { maxPositionEmbeddings: 1024 },
    ],
    [
      {
        rope_scaling: { type: "yarn", factor: 4 },
        original_max_position_embeddings: 256,
      },
      { maxPositionEmbeddings: 1024 },
    ],
  ])("%j", (change, expected) => {
    expect(parse(change)).toMatchObject(expected);
  });

  it("takes rope_theta from where it stands", () => {
    const frequency = (change: object): number | undefined =>
      parse(change).rope.inverseFrequencies[2];
    expect(frequency({ rope_theta: 1e8 })).toBeCloseTo(1e-4, 12);
    const parameters = { rope_type: "default", rope_theta: 1e8 };
    expect(
      frequency({ rope_parameters: parameters, rope_theta: undefined }),
    ).toBeCloseTo(1e-4, 12);
    expect(frequency({ rope_theta: undefined })).toBeCloseTo(1e-2, 12);
  });

  it("rotates a part of each head", () => {
    for (const change of [
      { partial_rotary_factor: 0.5 },
      { rope_parameters: { rope_type: "default", partial_rotary_factor: 0.5 } },
    ])
      expect([...parse(change).rope.inverseFrequencies]).toEqual([1, 0.01]);
  });
});

describe("sliding windows", () => {
  it.each<[object, number[]]>([
    [{ model_type: "mistral", sliding_window: 24 }, [24, 24, 24, 24]],
    [{ model_type: "mistral", sliding_window: null }, [0, 0, 0, 0]],
    // What the reference implementation's class has, and saved configs leave out.
    [{ model_type: "mistral" }, [4096, 4096, 4096, 4096]],
    [
      { model_type: "qwen2", sliding_window: 24, use_sliding_window: false },
      [0, 0, 0, 0],
    ],
    [
      {
        model_type: "qwen2",
        sliding_window: 24,
        use_sliding_window: true,
        max_window_layers: 3,
      },
      [0, 0, 0, 24],
    ],
    [
      { model_type: "qwen3", sliding_window: 24, use_sliding_window: true },
      [0, 0, 0, 0],
    ],
    [
      {
        sliding_window: 24,
        layer_types: [
          "full_attention",
          "sliding_attention",
          "full_attention",
          "sliding_attention",
        ],
      },
      [0, 24, 0, 24],
    ],
    // The reference Llama knows no window.
    [{ sliding_window: 24 }, [0, 0, 0, 0]],
    [{ model_type: "other", sliding_window: 24 }, [24, 24, 24, 24]],
  ])("%j", (change, expected) => {
    expect(parse(change).slidingWindows).toEqual(expected);
  });
});

describe("refuses", () => {
  it.each<[object, string, RegExp]>([
    [
      { hidden_size: undefined },
      "invalid_model",
      /^config.json: hidden_size: expected an integer in \[1, \d+\], got nothing$/,
    ],
    [{ hidden_size: "64" }, "invalid_model", /hidden_size: .*got "64"/],
    [{ hidden_size: 64.5 }, "invalid_model", /hidden_size: .*got 64.5/],
    [{ hidden_size: -64 }, "invalid_model", /hidden_size/],
    [{ hidden_size: 1e9 }, "invalid_model", /hidden_size/],
    [{ num_hidden_layers: 1e6 }, "invalid_model", /num_hidden_layers/],
    [{ vocab_size: 0 }, "invalid_model", /vocab_size/],
    [
      { num_attention_heads: 7 },
      "invalid_model",
      /num_key_value_heads: expected a divisor/,
    ],
    [
      { num_attention_heads: 12, num_key_value_heads: 4 },
      "invalid_model",
      /num_attention_heads: expected a divisor of hidden_size/,
    ],
    [
      { head_dim: 7 },
      "invalid_model",
      /partial_rotary_factor: expected a number that makes an even/,
    ],
    [{ partial_rotary_factor: 2 }, "invalid_model", /partial_rotary_factor/],
    [
      { rms_norm_eps: -1 },
      "invalid_model",
      /rms_norm_eps: expected a number >= 0/,
    ],
    [{ rope_theta: 0 }, "invalid_model", /rope_theta: expected a number > 1/],
    [
      { rope_scaling: "linear" },
      "invalid_model",
      /rope_scaling: expected an object/,
    ],
    [
      { rope_scaling: { rope_type: "dynamic", factor: 2 } },
      "unsupported_model",
      /rope_scaling.rope_type: dynamic/,
    ],
    [
      { rope_parameters: { full_attention: {} } },
      "unsupported_model",
      /rope_parameters: one set/,
    ],
    [
      { hidden_act: "gelu" },
      "unsupported_model",
      /hidden_act: gelu is not built. Built: silu/,
    ],
    [
      { torch_dtype: "int8" },
      "invalid_model",
      /torch_dtype: expected float16, bfloat16 or float32, got "int8"/,
    ],
    [
      { architectures: [] },
      "invalid_model",
      /architectures: expected a list of one name/,
    ],
    [
      { architectures: "x" },
      "invalid_model",
      /architectures: expected a list of strings, got "x"/,
    ],
    [
      { tie_word_embeddings: "no" },
      "invalid_model",
      /tie_word_embeddings: expected true or false/,
    ],
    [
      { eos_token_id: -1 },
      "invalid_model",
      /eos_token_id: expected token ids, got -1/,
    ],
    [{ eos_token_id: ["</s>"] }, "invalid_model", /eos_token_id/],
    [
      { layer_types: ["full_attention"] },
      "invalid_model",
      /layer_types: expected 4 entries/,
    ],
    [
      { layer_types: Array(4).fill("linear_attention") },
      "unsupported_model",
      /linear_attention.*Built: full_attention/,
    ],
    [
      { layer_types: Array(4).fill("sliding_attention") },
      "invalid_model",
      /sliding_window: expected an integer/,
    ],
    [
      { model_type: "mistral", sliding_window: -4 },
      "invalid_model",
      /sliding_window/,
    ],
  ])("%j", (change, code, message) => {
    let error: unknown;
    try {
      parse(change);
    } catch (e) {
      error = e;
    }
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toMatch(message);
  });
});

describe("generation_config.json", () => {
  it("gives stop ids and defaults", () => {
    expect(parseGenerationConfig(null)).toEqual({
      eosTokenIds: [],
      defaults: {},
    });
    const values = {
      eos_token_id: [3, 4],
      temperature: 0.6,
      top_p: 0.9,
      top_k: 20,
      min_p: 0.05,
      repetition_penalty: 1.1,
      do_sample: true,
    };
    expect(parseGenerationConfig(values)).toEqual({
      eosTokenIds: [3, 4],
      defaults: {
        temperature: 0.6,
        topP: 0.9,
        topK: 20,
        minP: 0.05,
        repetitionPenalty: 1.1,
      },
    });
  });

  it.each([
    [
      { temperature: -1 },
      /generation_config.json: temperature: expected a number >= 0, got -1/,
    ],
    [{ top_p: 2 }, /top_p: expected a number in \[0, 1\]/],
    [{ top_k: 1.5 }, /top_k/],
    [{ repetition_penalty: 0 }, /repetition_penalty/],
    [{ eos_token_id: "x" }, /eos_token_id/],
  ])("refuses %j", (values, message) => {
    expect(() => parseGenerationConfig(values)).toThrow(message);
  });
});
