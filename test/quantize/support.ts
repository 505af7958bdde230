/** Small dense models in folders of their own, with a tokenizer of letters. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Random } from "../../bench/random.js";
import type { QuantizeOptions } from "../../src/quantize/quantize.js";
import type { TensorSource } from "../../src/program/program.js";

const folders: string[] = [];

export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "octavo-quantize-"));
  folders.push(folder);
  return folder;
}

/** Call in afterAll. */
export function removeTemporaryFolders(): void {
  for (const folder of folders.splice(0))
    rmSync(folder, { recursive: true, force: true });
}

/** Uniform in [-spread, spread]. */
export function randomFloats(
  count: number,
  seed: number,
  spread = 1,
): Float32Array {
  const random = new Random(seed);
  return Float32Array.from(
    { length: count },
    () => (2 * random.uniform() - 1) * spread,
  );
}

/** An f32 safetensors file; returns what reads each of its tensors as file 0. */
export function writeFloats(
  file: string,
  tensors: Record<string, { shape: number[]; values: Float32Array }>,
): Map<string, TensorSource> {
  const header: Record<string, unknown> = {};
  let at = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    const offsets = [at, at + values.byteLength];
    header[name] = { dtype: "F32", shape, data_offsets: offsets };
    at += values.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const parts = Object.values(tensors).map(({ values }) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength),
  );
  writeFileSync(file, Buffer.concat([length, json, ...parts]));
  const sources = new Map<string, TensorSource>();
  let offset = 8 + json.length;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    sources.set(name, { name, file: 0, offset, dtype: "f32", shape });
    offset += values.byteLength;
  }
  return sources;
}

const LETTERS = "abcdefghijklmnopqrstuvwxyz .,\n";

/** A letter is a token; bos goes first. */
function tokenizerJson(): unknown {
  const vocab = Object.fromEntries(
    ["<s>", ...LETTERS].map((token, id) => [token, id]),
  );
  const bos = {
    ...{ id: 0, content: "<s>", special: true, single_word: false },
    ...{ lstrip: false, rstrip: false, normalized: false },
  };
  return {
    version: "1.0",
    added_tokens: [bos],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [
        { SpecialToken: { id: "<s>", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
      ],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [0], tokens: ["<s>"] } },
    },
    decoder: { type: "Fuse" },
    model: { type: "BPE", vocab, merges: [] },
  };
}

export const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 32,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
  torch_dtype: "float32",
  bos_token_id: 0,
  eos_token_id: 31,
};

/** A random llama in which one channel in 32 is large, as in trained models. */
export function denseModel(
  config: Partial<typeof CONFIG & Record<string, unknown>> = {},
): string {
  const directory = temporaryFolder();
  const values = { ...CONFIG, ...config };
  const { hidden_size: hidden, intermediate_size: inter } = values;
  const q = values.num_attention_heads * values.head_dim;
  const kv = values.num_key_value_heads * values.head_dim;
  let seed = 1;
  const matrix = (n: number, k: number) => ({
    shape: [n, k],
    values: randomFloats(n * k, seed++, Math.sqrt(3 / k)),
  });
  const norm = () => ({
    shape: [hidden],
    values: randomFloats(hidden, seed++, 0.2).map(
      (x, i) => (1 + x) * (i % 32 === 3 ? 10 : 0.5),
    ),
  });
  const tensors: Parameters<typeof writeFloats>[1] = {
    "model.embed_tokens.weight": matrix(values.vocab_size, hidden),
    "model.norm.weight": norm(),
  };
  for (let layer = 0; layer < values.num_hidden_layers; layer++) {
    const name = `model.layers.${layer}`;
    tensors[`${name}.input_layernorm.weight`] = norm();
    tensors[`${name}.post_attention_layernorm.weight`] = norm();
    for (const [module, n, k] of [
      ["self_attn.q_proj", q, hidden],
      ["self_attn.k_proj", kv, hidden],
      ["self_attn.v_proj", kv, hidden],
      ["self_attn.o_proj", hidden, q],
      ["mlp.gate_proj", inter, hidden],
      ["mlp.up_proj", inter, hidden],
      ["mlp.down_proj", hidden, inter],
    ] as const)
      tensors[`${name}.${module}.weight`] = matrix(n, k);
  }
  if (!values.tie_word_embeddings)
    tensors["lm_head.weight"] = matrix(values.vocab_size, hidden);
  writeFloats(path.join(directory, "model.safetensors"), tensors);
  const write = (name: string, content: unknown): void =>
    writeFileSync(path.join(directory, name), JSON.stringify(content));
  write("config.json", values);
  write("tokenizer.json", tokenizerJson());
  write("tokenizer_config.json", { bos_token: "<s>" });
  write("generation_config.json", { eos_token_id: 31 });
  return directory;
}

/** A text of `length` letters. */
export function calibrationFile(length = 1600): string {
  const file = path.join(temporaryFolder(), "calibration.txt");
  const random = new Random(99);
  const letters = Array.from(
    { length },
    () => LETTERS[random.integer(0, LETTERS.length - 1)],
  );
  writeFileSync(file, letters.join(""));
  return file;
}

/** What `octavo quantize` does by default, at a size for small models. */
export function optionsOf(
  model: string,
  options: Partial<QuantizeOptions> = {},
): QuantizeOptions {
  return {
    model,
    modelFile: null,
    out: path.join(temporaryFolder(), "out"),
    overwrite: false,
    groupSize: 32,
    calib: "",
    calibTokens: 1024,
    modulesToNotConvert: [],
    scale: true,
    clip: true,
    threads: 2,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...options,
  };
}
