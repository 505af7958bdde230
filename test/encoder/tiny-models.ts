/**
 * Small encoders in the hub's ONNX layout, and the same arithmetic in plain loops. Every token looks at every other one
 * that the mask leaves, so padding and neighbours in a batch would show:
 *
 *   x = E[ids] + T[type ids];  y = softmax(x x^T / sqrt(h) + mask) x;  hidden = tanh(x + y W)
 *   cross-encoder: logit = hidden[first token] . C
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll } from "vitest";
import { Encoder, type EncoderOptions } from "../../src/encoder/encoder.js";
import {
  FLOAT,
  FLOAT16,
  INT32,
  INT64,
  writeOnnx,
  type Dim,
  type Graph,
  type Node,
} from "./onnx-writer.js";

export const WIDTH = 8;
export const WORDS = [
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  ..."a cat dog sat on the mat bird sings red blue house tree runs fast slow".split(
    " ",
  ),
];
export const CLS = 2;
export const SEP = 3;

// A worker can't run TypeScript: it is the compiled one. `npm test` builds it first.
export const WORKER = pathToFileURL(
  path.resolve("dist/src/encoder/encoder-worker.js"),
);

export interface TinyModel {
  kind?: "embedding" | "cross-encoder";
  /** Name of the output. Default: last_hidden_state or logits. */
  output?: string;
  /** Without one, inputs of different lengths cannot share a batch. */
  mask?: boolean;
  typeIds?: boolean;
  /** Adds position_ids, which shift the tokens' vectors. */
  positions?: boolean;
  batch?: Dim;
  length?: Dim;
  /** The floats in a file of their own. */
  external?: boolean;
  /** Inputs are int32. */
  int32?: boolean;
  /** The output is float16. */
  half?: boolean;
  /** The tokens' vectors are rounded to 256 steps of their range over the batch, as dynamic quantization does. */
  dynamic?: boolean;
  /** Made of a decoder: the tokens' vectors go behind those of tokens before. */
  past?: boolean;
  /** Instead of model.onnx. */
  modelFile?: string;
  /** More files, by path. */
  files?: Readonly<Record<string, unknown>>;
  config?: object;
  /** model.onnx beside the configuration instead of in onnx/. */
  flat?: boolean;
}

/** Numbers in [-1, 1) that look like any. */
function numbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

const E = numbers(WORDS.length * WIDTH, 1);
const T = numbers(2 * WIDTH, 2);
const W = numbers(WIDTH * WIDTH, 3);
const C = numbers(WIDTH, 4);
const P = numbers(64 * WIDTH, 5);

function graphOf(tiny: TinyModel): Graph {
  const { kind = "embedding", mask = true, typeIds = true } = tiny;
  const { batch = "batch", length = "sequence", positions = false } = tiny;
  const { half = false, dynamic = false, int32 = false } = tiny;
  const { past = false } = tiny;
  const scorer = kind === "cross-encoder";
  const output = tiny.output ?? (scorer ? "logits" : "last_hidden_state");
  const input = (name: string) => ({
    name,
    type: int32 ? INT32 : INT64,
    shape: [batch, length],
  });
  const masked: Node[] = [
    {
      op: "Cast",
      inputs: ["attention_mask"],
      output: "m",
      attributes: { to: FLOAT },
    },
    { op: "Sub", inputs: ["m", "one"], output: "m0" },
    { op: "Mul", inputs: ["m0", "large"], output: "m1" },
    { op: "Unsqueeze", inputs: ["m1", "axis1"], output: "m2" },
    { op: "Add", inputs: ["s1", "m2"], output: "s2" },
  ];
  const rounded: Node[] = [
    {
      op: "DynamicQuantizeLinear",
      inputs: ["x2"],
      output: "q",
      others: ["step", "middle"],
    },
    { op: "DequantizeLinear", inputs: ["q", "step", "middle"], output: "x" },
  ];
  const behind: Node[] = [
    { op: "Unsqueeze", inputs: ["x2", "axis1"], output: "x3" },
    {
      op: "Concat",
      inputs: ["past_key_values.0.key", "x3"],
      output: "x4",
      attributes: { axis: 2 },
    },
    { op: "Squeeze", inputs: ["x4", "axis1"], output: "x" },
  ];
  const result = half ? "wide" : output;
  const nodes: Node[] = [
    { op: "Gather", inputs: ["E", "input_ids"], output: "x0" },
    typeIds
      ? { op: "Gather", inputs: ["T", "token_type_ids"], output: "t" }
      : { op: "Mul", inputs: ["x0", "zero"], output: "t" },
    { op: "Add", inputs: ["x0", "t"], output: "x1" },
    positions
      ? { op: "Gather", inputs: ["P", "position_ids"], output: "p" }
      : { op: "Mul", inputs: ["x0", "zero"], output: "p" },
    { op: "Add", inputs: ["x1", "p"], output: dynamic || past ? "x2" : "x" },
    ...(past ? behind : []),
    ...(dynamic ? rounded : []),
    {
      op: "Transpose",
      inputs: ["x"],
      output: "xt",
      attributes: { perm: [0, 2, 1] },
    },
    { op: "MatMul", inputs: ["x", "xt"], output: "s0" },
    { op: "Mul", inputs: ["s0", "scale"], output: "s1" },
    ...(mask ? masked : []),
    {
      op: "Softmax",
      inputs: [mask ? "s2" : "s1"],
      output: "w",
      attributes: { axis: -1 },
    },
    { op: "MatMul", inputs: ["w", "x"], output: "y" },
    { op: "MatMul", inputs: ["y", "W"], output: "yw" },
    { op: "Add", inputs: ["x", "yw"], output: "z" },
    { op: "Tanh", inputs: ["z"], output: scorer ? "hidden" : result },
  ];
  if (scorer)
    nodes.push(
      {
        op: "Gather",
        inputs: ["hidden", "first"],
        output: "h",
        attributes: { axis: 1 },
      },
      { op: "Squeeze", inputs: ["h", "axis1"], output: "h1" },
      { op: "MatMul", inputs: ["h1", "C"], output: result },
    );
  if (half)
    nodes.push({
      op: "Cast",
      inputs: ["wide"],
      output,
      attributes: { to: FLOAT16 },
    });
  const float = (dims: number[], data: Float32Array) => ({ dims, data });
  const one = (value: number) => float([1], Float32Array.of(value));
  return {
    inputs: [
      input("input_ids"),
      ...(mask ? [input("attention_mask")] : []),
      ...(typeIds ? [input("token_type_ids")] : []),
      ...(positions ? [input("position_ids")] : []),
      ...(past
        ? [
            {
              name: "past_key_values.0.key",
              type: FLOAT,
              shape: [batch, 1, "past", WIDTH],
            },
          ]
        : []),
    ],
    outputs: [
      {
        name: output,
        type: half ? FLOAT16 : FLOAT,
        shape: scorer ? [batch, 1] : [batch, length, WIDTH],
      },
    ],
    nodes,
    floats: {
      E: float([WORDS.length, WIDTH], E),
      T: float([2, WIDTH], T),
      P: float([64, WIDTH], P),
      W: float([WIDTH, WIDTH], W),
      C: float([WIDTH, 1], C),
      one: one(1),
      zero: one(0),
      large: one(1e9),
      scale: one(1 / Math.sqrt(WIDTH)),
    },
    integers: { axis1: [1], first: [0] },
    ...(tiny.external === true && { externalData: `${fileOf(tiny)}_data` }),
  };
}

const fileOf = ({ modelFile = "model.onnx" }: TinyModel): string => modelFile;

const folders: string[] = [];
const encoders: Encoder[] = [];
afterAll(async () => {
  for (const encoder of encoders) await encoder.close();
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** What sentence-transformers writes for a model that takes the mean and normalizes. */
export const MEAN_MODULES = {
  "modules.json": [
    { idx: 0, path: "", type: "sentence_transformers.models.Transformer" },
    { idx: 1, path: "1_Pooling", type: "sentence_transformers.models.Pooling" },
    {
      idx: 2,
      path: "2_Normalize",
      type: "sentence_transformers.models.Normalize",
    },
  ],
  "1_Pooling/config.json": { pooling_mode_mean_tokens: true },
};

/** Files of a model, by path. */
export function tinyFiles(tiny: TinyModel = {}): Record<string, Buffer> {
  const { model, data } = writeOnnx(graphOf(tiny));
  const folder = tiny.flat === true ? "" : "onnx/";
  const json = {
    "config.json": {
      model_type: "bert",
      vocab_size: WORDS.length,
      pad_token_id: 0,
      max_position_embeddings: 64,
      ...tiny.config,
    },
    "tokenizer.json": tokenizerJson(),
    "tokenizer_config.json": { model_max_length: 32 },
    ...tiny.files,
  };
  const files: Record<string, Buffer> = Object.fromEntries(
    Object.entries(json).map(([name, value]) => [
      name,
      Buffer.from(JSON.stringify(value)),
    ]),
  );
  const file = `${folder}${fileOf(tiny)}`;
  files[file] = model;
  if (tiny.external === true) files[`${file}_data`] = data;
  return files;
}

/** A directory with the model, and other graphs of it, removed after the tests of the file. */
export function tinyDirectory(
  tiny: TinyModel = {},
  others: readonly TinyModel[] = [],
): string {
  const root = mkdtempSync(path.join(os.tmpdir(), "octavo-encoder-"));
  folders.push(root);
  const directory = path.join(root, "tiny-encoder");
  const all = Object.assign({}, ...[...others, tiny].map(tinyFiles)) as Record<
    string,
    Buffer
  >;
  for (const [name, bytes] of Object.entries(all)) {
    const file = path.join(directory, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, bytes);
  }
  return directory;
}

/** The model in its thread, closed after the tests of the file. */
export async function tinyEncoder(
  tiny: TinyModel = {},
  options: EncoderOptions = {},
): Promise<Encoder> {
  const encoder = await Encoder.load(tinyDirectory(tiny), {
    threads: 1,
    modelFile: fileOf(tiny),
    workerUrl: WORKER,
    ...options,
  });
  encoders.push(encoder);
  return encoder;
}

/** BERT's, of whole words. */
export function tokenizerJson(): object {
  const special = (content: string, id: number) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  const mark = (id: string, type_id: number) => ({
    SpecialToken: { id, type_id },
  });
  const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  const named = (id: number) => ({
    id: WORDS[id],
    ids: [id],
    tokens: [WORDS[id]],
  });
  return {
    version: "1.0",
    // What is left from training must change nothing.
    truncation: {
      direction: "Right",
      max_length: 4,
      strategy: "LongestFirst",
      stride: 0,
    },
    padding: null,
    added_tokens: WORDS.slice(0, 4).map(special),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [mark("[CLS]", 0), text("A", 0), mark("[SEP]", 0)],
      pair: [
        mark("[CLS]", 0),
        text("A", 0),
        mark("[SEP]", 0),
        text("B", 1),
        mark("[SEP]", 1),
      ],
      special_tokens: { "[CLS]": named(CLS), "[SEP]": named(SEP) },
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(WORDS.map((word, id) => [word, id])),
    },
  };
}

/** Ids of words that are all in the vocabulary, with the tokens around them. */
export function idsOf(text: string): number[] {
  const words = text.split(" ").filter((word) => word !== "");
  return [CLS, ...words.map((word) => WORDS.indexOf(word)), SEP];
}

/** As `idsOf`, of two texts. */
export function pairOf(
  first: string,
  second: string,
): { ids: number[]; types: number[] } {
  const [a, b] = [idsOf(first), idsOf(second).slice(1)];
  return { ids: [...a, ...b], types: [...a.map(() => 0), ...b.map(() => 1)] };
}

/** The graph in plain loops: [tokens][WIDTH] */
export function hiddenOf(
  ids: readonly number[],
  types: readonly number[] = ids.map(() => 0),
): number[][] {
  const row = (table: Float32Array, at: number): number[] =>
    Array.from(table.subarray(at * WIDTH, (at + 1) * WIDTH));
  const x = ids.map((id, i) =>
    row(E, id).map((value, j) => value + (row(T, types[i] ?? 0)[j] ?? 0)),
  );
  return x.map((query) => {
    const scores = x.map((key) => Math.exp(dot(query, key) / Math.sqrt(WIDTH)));
    const total = scores.reduce((sum, score) => sum + score, 0);
    const y = query.map((_, j) =>
      x.reduce(
        (sum, key, t) => sum + ((scores[t] ?? 0) / total) * (key[j] ?? 0),
        0,
      ),
    );
    return query.map((value, j) =>
      Math.tanh(
        value + y.reduce((sum, v, k) => sum + v * (W[k * WIDTH + j] ?? 0), 0),
      ),
    );
  });
}

export const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

export function normalized(vector: readonly number[]): number[] {
  const length = Math.sqrt(dot(vector, vector));
  return vector.map((value) => value / length);
}

export function meanOf(hidden: readonly number[][]): number[] {
  return Array.from({ length: WIDTH }, (_, j) =>
    hidden.reduce((sum, row) => sum + (row[j] ?? 0) / hidden.length, 0),
  );
}

/** What an embedding model with MEAN_MODULES says of a text. */
export const embeddingOf = (text: string): number[] =>
  normalized(meanOf(hiddenOf(idsOf(text))));

/** What a cross-encoder says of two texts, before the sigmoid. */
export function logitOf(first: string, second: string): number {
  const { ids, types } = pairOf(first, second);
  return dot(hiddenOf(ids, types)[0] ?? [], Array.from(C));
}
