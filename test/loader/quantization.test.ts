import { describe, expect, it } from "vitest";
import { parseQuantization } from "../../src/loader/quantization.js";

const parse = (
  quantization_config: unknown,
): ReturnType<typeof parseQuantization> =>
  parseQuantization({ quantization_config });
const Q = "model.layers.0.self_attn.q_proj";
const GATE = "model.layers.3.mlp.gate_proj";

const AWQ = { quant_method: "awq", bits: 4, group_size: 128, version: "gemm" };
const GPTQ = { quant_method: "gptq", bits: 4, group_size: 32, desc_act: false };
const WEIGHTS = {
  num_bits: 4,
  type: "int",
  strategy: "group",
  group_size: 64,
  symmetric: true,
};
const ct = (weights: object = {}, more: object = {}): object => ({
  quant_method: "compressed-tensors",
  format: "pack-quantized",
  config_groups: {
    group_0: { targets: ["Linear"], weights: { ...WEIGHTS, ...weights } },
  },
  ignore: ["lm_head"],
  ...more,
});

it("is dense without a quantization_config", () => {
  for (const config of [undefined, null])
    expect(parse(config)).toMatchObject({ method: "none" });
  expect(parse(null).schemeOf(Q)).toBeNull();
});

describe("awq", () => {
  it("quantizes all but the head and what it is told not to", () => {
    const { method, schemeOf } = parse({
      ...AWQ,
      version: "GEMM",
      modules_to_not_convert: ["mlp.gate"],
    });
    expect(method).toBe("awq");
    expect(schemeOf(Q)).toEqual({
      scheme: "awq-int4",
      groupSize: 128,
      zeroOffset: 0,
      symmetric: false,
    });
    expect(schemeOf(GATE)).toBeNull();
    expect(schemeOf("lm_head")).toBeNull();
  });

  it("reads the older spellings", () => {
    const old = { quant_method: "awq", w_bit: 4, q_group_size: -1 };
    expect(parse(old).schemeOf(Q)).toMatchObject({ groupSize: 0 });
  });
});

describe("gptq", () => {
  it.each([
    [{ sym: true }, { symmetric: true, zeroOffset: 1, groupSize: 32 }],
    [{ sym: false }, { symmetric: false, zeroOffset: 1 }],
    [{ sym: false, checkpoint_format: "gptq_v2" }, { zeroOffset: 0 }],
    [{ group_size: -1, desc_act: true }, { groupSize: 0 }],
    [{ dynamic: {} }, { groupSize: 32 }],
  ])("%j", (more, expected) => {
    const { schemeOf } = parse({ ...GPTQ, ...more });
    expect(schemeOf(Q)).toMatchObject({ scheme: "gptq-int4", ...expected });
    expect(schemeOf("lm_head")).toBeNull();
  });

  it("quantizes the head where it says so", () => {
    expect(
      parse({ ...GPTQ, lm_head: true }).schemeOf("lm_head"),
    ).not.toBeNull();
  });
});

describe("compressed-tensors", () => {
  it("finds groups by class, name and pattern, and ignores", () => {
    const { schemeOf } = parse({
      ...ct(),
      config_groups: {
        a: {
          targets: ["re:.*gate_proj$"],
          weights: { ...WEIGHTS, group_size: 32, symmetric: false },
        },
        b: {
          targets: ["Linear"],
          weights: { ...WEIGHTS, strategy: "channel", group_size: null },
        },
      },
      ignore: [
        "lm_head",
        "re:model\\.layers\\.1\\.",
        "re:.*down_proj",
        "re:q_proj",
        "up_proj",
      ],
    });
    expect(schemeOf(GATE)).toEqual({
      scheme: "compressed-int4",
      groupSize: 32,
      zeroOffset: 0,
      symmetric: false,
    });
    // Patterns match from the start, names as a whole.
    expect(schemeOf(Q)).toMatchObject({ groupSize: 0, symmetric: true });
    expect(schemeOf("model.layers.0.mlp.up_proj")).not.toBeNull();
    expect(schemeOf("model.layers.1.mlp.up_proj")).toBeNull();
    expect(schemeOf("model.layers.10.mlp.up_proj")).not.toBeNull();
    expect(schemeOf("model.layers.0.mlp.down_proj")).toBeNull();
    expect(schemeOf("lm_head")).toBeNull();
  });

  it("leaves dense what no group is for", () => {
    const { schemeOf } = parse(
      ct({}, { config_groups: { a: { targets: [Q], weights: WEIGHTS } } }),
    );
    expect(schemeOf(Q)).toMatchObject({ groupSize: 64 });
    expect(schemeOf(GATE)).toBeNull();
  });

  it("takes an order of activations that does not change the storage", () => {
    expect(parse(ct({ actorder: "weight" })).schemeOf(Q)).not.toBeNull();
  });
});

describe("refuses", () => {
  it.each<[what: string, config: unknown, code: string, message: RegExp]>([
    [
      "an unknown method",
      { quant_method: "fp8" },
      "unsupported_model",
      /quant_method: fp8 is not built. Built: awq \(gemm\), gptq, compressed/,
    ],
    [
      "no method",
      { bits: 4 },
      "invalid_model",
      /quant_method: expected a string, got nothing/,
    ],
    [
      "no object",
      "awq",
      "invalid_model",
      /quantization_config: expected an object, got "awq"/,
    ],
    ["8 bits, awq", { ...AWQ, bits: 8 }, "unsupported_model", /bits: 8-bit/],
    ["8 bits, gptq", { ...GPTQ, bits: 8 }, "unsupported_model", /8-bit/],
    [
      "8 bits, compressed",
      ct({ num_bits: 8 }),
      "unsupported_model",
      /weights.num_bits: 8-bit/,
    ],
    [
      "bits of a wrong type",
      { ...GPTQ, bits: "4" },
      "invalid_model",
      /bits: expected an integer.*got "4"/,
    ],
    ...["gemv", "gemv_fast", "marlin", "exllama"].map(
      (version): [string, unknown, string, RegExp] => [
        `awq ${version}`,
        { ...AWQ, version },
        "unsupported_model",
        new RegExp(`version: ${version} packs`),
      ],
    ),
    [
      "awq without zero points",
      { ...AWQ, zero_point: false },
      "unsupported_model",
      /zero_point/,
    ],
    [
      "group size 0",
      { ...AWQ, group_size: 0 },
      "invalid_model",
      /group_size: expected -1 or/,
    ],
    [
      "desc_act",
      { ...GPTQ, desc_act: true },
      "unsupported_model",
      /desc_act: .*act-order/,
    ],
    [
      "dynamic",
      { ...GPTQ, dynamic: { "-:x": {} } },
      "unsupported_model",
      /dynamic/,
    ],
    [
      "gptq for marlin",
      { ...GPTQ, checkpoint_format: "marlin" },
      "unsupported_model",
      /checkpoint_format: marlin.*gptq_v2/,
    ],
    [
      "gptq for marlin, older",
      { ...GPTQ, is_marlin_format: true },
      "unsupported_model",
      /marlin/,
    ],
    [
      "another format",
      { ...ct(), format: "int-quantized" },
      "unsupported_model",
      /format: int-quantized.*pack-quantized/,
    ],
    [
      "float types",
      ct({ type: "float" }),
      "unsupported_model",
      /weights.type: float/,
    ],
    [
      "act-order",
      ct({ actorder: "group" }),
      "unsupported_model",
      /actorder: "group"/,
    ],
    [
      "a scale per tensor",
      ct({ strategy: "tensor" }),
      "unsupported_model",
      /strategy: tensor.*group, channel/,
    ],
    [
      "quantized activations",
      {
        ...ct(),
        config_groups: {
          g: {
            targets: ["Linear"],
            weights: WEIGHTS,
            input_activations: { num_bits: 8 },
          },
        },
      },
      "unsupported_model",
      /config_groups.g.input_activations/,
    ],
    [
      "a quantized cache",
      ct({}, { kv_cache_scheme: { num_bits: 8 } }),
      "unsupported_model",
      /kv_cache_scheme/,
    ],
    [
      "no groups",
      ct({}, { config_groups: {} }),
      "invalid_model",
      /config_groups: expected at least one/,
    ],
    [
      "a bad pattern",
      ct({}, { ignore: ["re:("] }),
      "invalid_model",
      /ignore: expected patterns that can be read/,
    ],
    [
      "no group size",
      ct({ group_size: null }),
      "invalid_model",
      /group_size: expected an integer/,
    ],
  ])("%s", (_, config, code, message) => {
    let error: unknown;
    try {
      parse(config);
    } catch (e) {
      error = e;
    }
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toContain("config.json");
  });
});
