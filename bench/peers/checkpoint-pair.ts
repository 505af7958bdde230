import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { SafetensorsWriter } from "../../src/quantize/safetensors-writer.js";
import type { OutputTensor } from "../../src/quantize/safetensors-writer.js";
import type { ModelShape } from "../kernels/shapes.js";
import { Random } from "../random.js";
import { GgufWriter } from "./gguf-writer.js";
import type { GgufTensor, GgufValue } from "./gguf-writer.js";
import { packAwq, packQ4, permuteRope, randomInt4 } from "./int4.js";
import { BLOCK_SIZE, GROUP_SIZE } from "./int4.js";

/** The same made-up Llama in two formats: an AWQ directory and a GGUF file. */
export interface CheckpointPair {
  awq: string;
  gguf: string;
}

export const MAX_POSITIONS = 4096;
const ROPE_BASE = 10_000;
const NORM_EPSILON = 1e-5;
/** Of an f16 whose value is in [2^-6, 2^-5): what an embedding or lm_head of this kind holds. */
const DENSE_EXPONENT = 15 - 6;

/** A linear under its two names. Rotated ones are stored in another row order in GGUF. */
interface Linear {
  awq: string;
  gguf: string;
  inputs: number;
  outputs: number;
  rotatedHeads: number;
}

/**
 * Writes DIR/awq and DIR/model.gguf. Every weight of the two is the same number: zero point 8, and the four blocks of 32
 * inputs that make up a group of 128 share its scale.
 */
export function writeCheckpointPair(
  shape: ModelShape,
  seed: number,
  directory: string,
  onProgress: (done: number, total: number) => void,
): CheckpointPair {
  const awq = path.join(directory, "awq");
  const gguf = path.join(directory, "model.gguf");
  mkdirSync(awq, { recursive: true });
  writeFileSync(path.join(awq, "config.json"), JSON.stringify(config(shape)));
  const layers = linearsOf(shape);
  const safetensors = new SafetensorsWriter(
    path.join(awq, "model.safetensors"),
    awqTensors(shape, layers),
  );
  const ggufFile = new GgufWriter(
    gguf,
    metadata(shape, seed),
    ggufTensors(shape, layers),
  );
  const random = new Random(seed);
  const total = layers.flat().length + 2;
  let done = 0;
  const writeDense = (awqName: string, ggufName: string): void => {
    const halves = new Uint16Array(shape.vocabSize * shape.hiddenSize);
    for (let i = 0; i < halves.length; i++) {
      const word = random.word();
      halves[i] =
        (word & 0x8000) | (DENSE_EXPONENT << 10) | ((word >>> 16) & 0x3ff);
    }
    safetensors.write(awqName, halves);
    ggufFile.write(ggufName, bytesOf(halves));
    onProgress(++done, total);
  };
  const writeNorm = (awqName: string, ggufName: string): void => {
    safetensors.write(awqName, new Uint16Array(shape.hiddenSize).fill(0x3c00));
    ggufFile.write(
      ggufName,
      bytesOf(new Float32Array(shape.hiddenSize).fill(1)),
    );
  };
  writeDense("model.embed_tokens.weight", "token_embd.weight");
  for (const [layer, linears] of layers.entries()) {
    for (const [awqName, ggufName] of NORMS)
      writeNorm(`model.layers.${layer}.${awqName}`, `blk.${layer}.${ggufName}`);
    for (const linear of linears) {
      const weights = randomInt4(random, linear.outputs, linear.inputs);
      const packed = packAwq(weights);
      safetensors.write(`${linear.awq}.qweight`, packed.qweight);
      safetensors.write(`${linear.awq}.qzeros`, packed.qzeros);
      safetensors.write(`${linear.awq}.scales`, packed.scales);
      ggufFile.write(
        linear.gguf,
        packQ4(permuteRope(weights, linear.rotatedHeads)),
      );
      onProgress(++done, total);
    }
  }
  writeNorm("model.norm.weight", "output_norm.weight");
  writeDense("lm_head.weight", "output.weight");
  safetensors.finish();
  ggufFile.finish();
  return { awq, gguf };
}

const NORMS = [
  ["input_layernorm.weight", "attn_norm.weight"],
  ["post_attention_layernorm.weight", "ffn_norm.weight"],
] as const;

function linearsOf(shape: ModelShape): Linear[][] {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = shape;
  const queries = numHeads * headDim;
  const keys = numKvHeads * headDim;
  return Array.from({ length: shape.numLayers }, (_, layer) => {
    const linear = (
      awq: string,
      gguf: string,
      inputs: number,
      outputs: number,
      rotatedHeads = 0,
    ): Linear => ({
      awq: `model.layers.${layer}.${awq}`,
      gguf: `blk.${layer}.${gguf}.weight`,
      inputs,
      outputs,
      rotatedHeads,
    });
    return [
      linear("self_attn.q_proj", "attn_q", hiddenSize, queries, numHeads),
      linear("self_attn.k_proj", "attn_k", hiddenSize, keys, numKvHeads),
      linear("self_attn.v_proj", "attn_v", hiddenSize, keys),
      linear("self_attn.o_proj", "attn_output", queries, hiddenSize),
      linear("mlp.gate_proj", "ffn_gate", hiddenSize, intermediateSize),
      linear("mlp.up_proj", "ffn_up", hiddenSize, intermediateSize),
      linear("mlp.down_proj", "ffn_down", intermediateSize, hiddenSize),
    ];
  });
}

/** In the order in which they are written. */
function awqTensors(shape: ModelShape, layers: Linear[][]): OutputTensor[] {
  const { hiddenSize, vocabSize } = shape;
  const dense = (name: string): OutputTensor => ({
    name,
    dtype: "F16",
    shape: [vocabSize, hiddenSize],
  });
  const norm = (name: string): OutputTensor => ({
    name,
    dtype: "F16",
    shape: [hiddenSize],
  });
  return [
    dense("model.embed_tokens.weight"),
    ...layers.flatMap((linears, layer) => [
      ...NORMS.map(([name]) => norm(`model.layers.${layer}.${name}`)),
      ...linears.flatMap(({ awq, inputs, outputs }): OutputTensor[] => {
        const groups = inputs / GROUP_SIZE;
        return [
          {
            name: `${awq}.qweight`,
            dtype: "I32",
            shape: [inputs, outputs / 8],
          },
          { name: `${awq}.qzeros`, dtype: "I32", shape: [groups, outputs / 8] },
          { name: `${awq}.scales`, dtype: "F16", shape: [groups, outputs] },
        ];
      }),
    ]),
    norm("model.norm.weight"),
    dense("lm_head.weight"),
  ];
}

function ggufTensors(shape: ModelShape, layers: Linear[][]): GgufTensor[] {
  const { hiddenSize, vocabSize } = shape;
  const dense = (name: string): GgufTensor => ({
    name,
    type: "F16",
    dimensions: [hiddenSize, vocabSize],
  });
  const norm = (name: string): GgufTensor => ({
    name,
    type: "F32",
    dimensions: [hiddenSize],
  });
  return [
    dense("token_embd.weight"),
    ...layers.flatMap((linears, layer) => [
      ...NORMS.map(([, name]) => norm(`blk.${layer}.${name}`)),
      ...linears.map(({ gguf, inputs, outputs }): GgufTensor => ({
        name: gguf,
        type: "Q4_0",
        dimensions: [inputs, outputs],
      })),
    ]),
    norm("output_norm.weight"),
    dense("output.weight"),
  ];
}

function config(shape: ModelShape): object {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.intermediateSize,
    num_hidden_layers: shape.numLayers,
    num_attention_heads: shape.numHeads,
    num_key_value_heads: shape.numKvHeads,
    head_dim: shape.headDim,
    vocab_size: shape.vocabSize,
    max_position_embeddings: MAX_POSITIONS,
    rms_norm_eps: NORM_EPSILON,
    rope_theta: ROPE_BASE,
    hidden_act: "silu",
    tie_word_embeddings: false,
    torch_dtype: "float16",
    bos_token_id: 1,
    eos_token_id: 2,
    quantization_config: {
      quant_method: "awq",
      bits: 4,
      group_size: GROUP_SIZE,
      zero_point: true,
      version: "gemm",
    },
  };
}

/** llama.cpp's keys for a Llama, with made-up words: it does not run without a vocabulary, though only ids go in and out. */
function metadata(shape: ModelShape, seed: number): Record<string, GgufValue> {
  const u32 = (value: number): GgufValue => ({ type: "u32", value });
  const f32 = (value: number): GgufValue => ({ type: "f32", value });
  const text = (value: string): GgufValue => ({ type: "string", value });
  /** llama.cpp's number for a file that is mostly Q4_0. */
  const MOSTLY_Q4_0 = 2;
  /** And for kinds of tokens. */
  const NORMAL = 1;
  const CONTROL = 3;
  const words = Array.from({ length: shape.vocabSize }, (_, id) => wordOf(id));
  return {
    "general.architecture": text("llama"),
    "general.name": text(`${shape.name}, made up from seed ${seed}`),
    "general.file_type": u32(MOSTLY_Q4_0),
    "general.quantization_version": u32(2),
    "llama.context_length": u32(MAX_POSITIONS),
    "llama.embedding_length": u32(shape.hiddenSize),
    "llama.block_count": u32(shape.numLayers),
    "llama.feed_forward_length": u32(shape.intermediateSize),
    "llama.attention.head_count": u32(shape.numHeads),
    "llama.attention.head_count_kv": u32(shape.numKvHeads),
    "llama.attention.layer_norm_rms_epsilon": f32(NORM_EPSILON),
    "llama.rope.freq_base": f32(ROPE_BASE),
    "llama.rope.dimension_count": u32(shape.headDim),
    "llama.vocab_size": u32(shape.vocabSize),
    "tokenizer.ggml.model": text("llama"),
    "tokenizer.ggml.tokens": { type: "strings", value: words },
    "tokenizer.ggml.scores": { type: "f32s", value: words.map(() => 0) },
    "tokenizer.ggml.token_type": {
      type: "i32s",
      value: words.map((_, id) => (id < 3 ? CONTROL : NORMAL)),
    },
    "tokenizer.ggml.bos_token_id": u32(1),
    "tokenizer.ggml.eos_token_id": u32(2),
  };
}

/** The SentencePiece kind wants these three first, and a token for each byte: a line break is looked up. */
function wordOf(id: number): string {
  const byte = id - 3;
  if (byte < 0) return ["<unk>", "<s>", "</s>"][id] ?? "";
  if (byte > 255) return `w${id}`;
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

function bytesOf(data: Uint16Array | Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Bytes of the weights that decoding one token reads: all but the embedding table. */
export function weightBytesPerToken(shape: ModelShape): {
  awq: number;
  gguf: number;
} {
  const weights = linearsOf(shape)
    .flat()
    .reduce((sum, { inputs, outputs }) => sum + inputs * outputs, 0);
  const head = shape.vocabSize * shape.hiddenSize * 2;
  return {
    // Half a byte a weight; per group of a column an f16 scale and half a byte of zero point.
    awq: weights / 2 + (weights / GROUP_SIZE) * 2.5 + head,
    gguf: (weights / BLOCK_SIZE) * 18 + head,
  };
}
