/** Whole models: quantized, read back, served; and that scaling alone changes nothing. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeModel, prepareModel } from "../../src/engine/prepare-model.js";
import type { PreparedModel } from "../../src/engine/prepare-model.js";
import { parseQuantization } from "../../src/loader/quantization.js";
import { WeightResolver } from "../../src/program/weights.js";
import { writeDenseTensors } from "../../src/quantize/dense-writer.js";
import { LayerQuantizer } from "../../src/quantize/layer-quantizer.js";
import { denseTensors } from "../../src/quantize/output-tensors.js";
import { planQuantization } from "../../src/quantize/plan.js";
import { quantize } from "../../src/quantize/quantize.js";
import type {
  QuantizeOptions,
  QuantizeReport,
} from "../../src/quantize/quantize.js";
import { SafetensorsWriter } from "../../src/quantize/safetensors-writer.js";
import { walk } from "../../src/quantize/walk.js";
import { loadAddon } from "../../src/runner/addon.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { generate, openModel, relativeRms } from "../e2e/golden-support.js";
import { openEngine } from "../e2e/native-engine.js";
import { requestOf } from "../e2e/random-requests.js";
import {
  calibrationFile,
  denseModel,
  optionsOf,
  removeTemporaryFolders,
  temporaryFolder,
} from "./support.js";

const MODELS = path.resolve("../shared/models");
const present = existsSync(MODELS);
if (!present)
  it.skip("models of ../shared/models: they are missing", () => undefined);

afterAll(removeTemporaryFolders);

const dense = { modelFile: null, loadFormat: "auto" as const };
const prepared = (model: string): Promise<PreparedModel> =>
  prepareModel({ model, ...dense });

/** exp(mean loss) of texts through the engine, as `prompt_logprobs` reports it. */
async function enginePerplexity(
  model: string,
  sequences: number[][],
): Promise<number> {
  const engine = await openEngine(model, {
    threads: 2,
    // As octavo quantize measures: what INT4 weights alone cost.
    cpuActivations: "f32",
  });
  const params = { promptLogprobs: 0, maxTokens: 1 };
  engine.run(
    sequences.map((ids, i) => requestOf(i + 1, ids, params)),
    4,
  );
  engine.close();
  const logprobs = [...engine.outcomes.values()].flatMap(
    ({ promptLogprobs }) => promptLogprobs,
  );
  return Math.exp(-logprobs.reduce((a, b) => a + b, 0) / logprobs.length);
}

/** The sequences that quantize holds out, cut anew from the text. */
async function heldOut(
  model: string,
  { calib, calibTokens }: QuantizeOptions,
  maxLength: number,
  bos: number[],
): Promise<number[][]> {
  const tokenizer = await loadTokenizer(model);
  const text = readFileSync(calib, "utf8");
  const all = await tokenizer.encode(text, { addSpecialTokens: false });
  const ids = [...all].slice(0, calibTokens * 1.25);
  const rest = ids.slice(Math.ceil(ids.length / 1.25));
  const length = maxLength - bos.length;
  const sequences: number[][] = [];
  for (let at = 0; at < rest.length; at += length)
    sequences.push([...bos, ...rest.slice(at, at + length)]);
  return sequences;
}

describe.each([true, false])("a small llama, tied: %s", (tied) => {
  let model: string;
  let options: QuantizeOptions;
  let report: QuantizeReport;
  beforeAll(async () => {
    model = denseModel({ tie_word_embeddings: tied });
    options = optionsOf(model, { calib: calibrationFile() });
    report = await quantize(options);
  });

  it("becomes a directory that is whole", async () => {
    expect(readdirSync(options.out).sort()).toEqual([
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "quantize-report.json",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(existsSync(`${options.out}.partial`)).toBe(false);
    const config = JSON.parse(
      readFileSync(path.join(options.out, "config.json"), "utf8"),
    ) as Record<string, unknown>;
    expect(config).toMatchObject({
      torch_dtype: "float16",
      tie_word_embeddings: tied,
      quantization_config: {
        ...{ quant_method: "awq", bits: 4, group_size: 32 },
        ...{ zero_point: true, version: "gemm", modules_to_not_convert: null },
      },
    });
    const { checkpoint } = await describeModel({
      model: options.out,
      ...dense,
    });
    expect(checkpoint.tensors.has("lm_head.weight")).toBe(!tied);
    for (const [name, { dtype }] of checkpoint.tensors)
      expect(dtype).toBe(/\.q(weight|zeros)$/.test(name) ? "I32" : "F16");
  });

  it("is what the report says", () => {
    expect(
      JSON.parse(
        readFileSync(path.join(options.out, "quantize-report.json"), "utf8"),
      ),
    ).toEqual(report);
    expect(report.linears.length).toBe(14);
    for (const linear of report.linears) {
      expect(linear.finalError).toBeLessThan(linear.roundedError);
      expect(linear.finalError).toBeGreaterThan(0);
    }
    // Some channels are large: that is what scales are for.
    const first = report.linears.filter(({ name }) => /q_proj|gate/.test(name));
    for (const linear of first)
      expect(linear.scaledError).toBeLessThan(0.7 * linear.roundedError);
    expect(report.calibration.tokens).toBeLessThanOrEqual(1100);
  });

  it("has the perplexity that the engine sees, before and after", async () => {
    const sequences = await heldOut(model, options, 127, [0]);
    expect(report.perplexity.tokens).toBe(
      sequences.reduce((sum, ids) => sum + ids.length - 1, 0),
    );
    const before = await enginePerplexity(model, sequences);
    const after = await enginePerplexity(options.out, sequences);
    expect(report.perplexity.before / before).toBeCloseTo(1, 4);
    expect(report.perplexity.after / after).toBeCloseTo(1, 4);
  });

  it("computes nearly what it did", async () => {
    const prompt = Array.from({ length: 40 }, (_, i) => (i * 7) % 31);
    const logits = await Promise.all(
      [model, options.out].map(async (directory) => {
        const opened = openModel(await prepared(directory), "cpu");
        const { promptLogits } = generate(opened, prompt, 1, 64);
        opened.runner.close();
        return promptLogits;
      }),
    );
    const [before, after] = logits as [Float32Array, Float32Array];
    expect(relativeRms(after, before)).toBeLessThan(0.25);
  });
});

/** Writes the model with its scales folded in and nothing rounded but to f16. */
async function foldOnly(model: string, calib: string): Promise<string> {
  const { graph, checkpoint, quantization, values } = await describeModel({
    model,
    ...dense,
  });
  const target = parseQuantization({
    quantization_config: { quant_method: "awq", bits: 4, group_size: 32 },
  });
  const plan = planQuantization(graph, target);
  const weights = new WeightResolver(
    { kind: "checkpoint", tensors: checkpoint.tensors },
    quantization,
  );
  const native = new (loadAddon().Quantizer)(checkpoint.files, 2);
  const { signal } = new AbortController();
  const tokenizer = await loadTokenizer(model);
  const tokenIds = (
    await tokenizer.encode(readFileSync(calib, "utf8").slice(0, 2000), {
      addSpecialTokens: false,
    })
  ).slice(0, 96);
  const layers = new LayerQuantizer(
    plan,
    weights,
    native,
    { write: () => undefined },
    { groupSize: 32, scale: true, clip: false, numRows: 96 },
    signal,
  );
  const sequences = { tokenIds, lengths: Int32Array.of(96) };
  const onValue = layers.take.bind(layers);
  await walk({ graph, weights, native, sequences, signal, onValue }, 0);
  expect(layers.reports.some(({ alpha }) => alpha > 0)).toBe(true);

  const folded = temporaryFolder();
  const kept = denseTensors(graph, weights, {
    ...plan,
    isQuantized: () => false,
  });
  const writer = new SafetensorsWriter(
    path.join(folded, "model.safetensors"),
    kept.map(({ name, source }) => ({
      name,
      dtype: "F16",
      shape: source.shape,
    })),
  );
  await writeDenseTensors(kept, layers, native, writer, signal);
  writer.finish();
  writeFileSync(path.join(folded, "config.json"), JSON.stringify(values));
  return folded;
}

async function expectSameLogits(a: string, b: string): Promise<void> {
  const prompt = Array.from({ length: 40 }, (_, i) => (i * 7) % 31);
  const logits = await Promise.all(
    [a, b].map(async (directory) => {
      const opened = openModel(await prepared(directory), "reference");
      const { promptLogits } = generate(opened, prompt, 1, 64);
      opened.runner.close();
      return promptLogits;
    }),
  );
  const [before, after] = logits as [Float32Array, Float32Array];
  expect(relativeRms(after, before)).toBeLessThan(3e-3);
}

describe("scales without rounding change nothing", () => {
  it("in a llama with outlier channels and grouped heads", async () => {
    const model = denseModel();
    await expectSameLogits(model, await foldOnly(model, calibrationFile()));
  });

  it.runIf(present).each(["tiny-qwen2", "tiny-qwen3", "tiny-mistral"])(
    "in %s (biases, head norms, windows)",
    async (name) => {
      const model = path.join(MODELS, name);
      await expectSameLogits(model, await foldOnly(model, calibrationFile()));
    },
  );
});

/** Of squares, over all linears. */
function sum(
  { linears }: QuantizeReport,
  error: "roundedError" | "scaledError" | "finalError",
): number {
  return linears.reduce((total, linear) => total + linear[error] ** 2, 0);
}

describe.runIf(present)("of ../shared/models", () => {
  const calib = path.resolve("../shared/text/GrimmsFairyTales.txt");

  it.each([
    ["tiny-llama3", 128],
    ["tiny-mistral", 64],
    ["tiny-qwen2", 128],
    ["tiny-qwen3", 32],
    ["tiny-llama-bf16-sharded", 128],
  ])("%s is quantized and computes nearly what it did", async (name, g) => {
    const model = path.join(MODELS, name);
    const options = optionsOf(model, { calib, groupSize: g, calibTokens: 512 });
    const report = await quantize(options);
    expect((await prepared(options.out)).quantization).toBe(`awq-int4 g${g}`);
    expect(report.bytes.after).toBeLessThan(0.45 * report.bytes.before);
    expect(sum(report, "scaledError")).toBeLessThan(
      sum(report, "roundedError"),
    );
    expect(sum(report, "finalError")).toBeLessThan(sum(report, "scaledError"));
    const { maxPositionEmbeddings, bosTokenId } = await prepared(model);
    const sequences = await heldOut(
      model,
      options,
      Math.min(512, maxPositionEmbeddings - 1),
      bosTokenId === null ? [] : [bosTokenId],
    );
    const after = await enginePerplexity(options.out, sequences);
    expect(report.perplexity.after / after).toBeCloseTo(1, 3);
  });

  it("a trained one keeps its perplexity within 10 % at group size 32", async () => {
    const model = path.join(MODELS, "llama2xs");
    const options = optionsOf(model, { calib, calibTokens: 4096 });
    const { perplexity } = await quantize(options);
    expect(perplexity.after).toBeLessThan(1.1 * perplexity.before);
  });
});

describe("architectures of --model-file", () => {
  /** Half a llama, with names of its own: norm, q, k, v, attention, o, head. */
  const FILE = `
    export const architectures = ["HalfForCausalLM"];
    export function build(g, c) {
      const h = c.numHeads * c.headDim, kv = c.numKvHeads * c.headDim;
      let x = g.embed("model.embed_tokens", c.vocabSize, c.hiddenSize);
      const n = g.rmsNorm(x, "model.layers.0.input_layernorm", c.rmsNormEps);
      const m = "model.layers.0.self_attn.";
      const a = g.attention(
        g.linear(n, m + "q_proj", h), g.linear(n, m + "k_proj", kv), g.linear(n, m + "v_proj", kv),
        { numHeads: c.numHeads, numKvHeads: c.numKvHeads, headDim: c.headDim, rope: c.rope });
      x = g.add(x, g.linear(a, m + "o_proj", c.hiddenSize));
      const last = g.rmsNorm(g.sampleRows(x), "model.norm", c.rmsNormEps);
      g.logits(g.softcap(g.linear(last, "output", c.vocabSize, { tiedTo: "model.embed_tokens" }), 30));
    }`;

  it("are quantized from their graph", async () => {
    const model = denseModel({ num_hidden_layers: 1 });
    const config = path.join(model, "config.json");
    const values = JSON.parse(readFileSync(config, "utf8")) as object;
    writeFileSync(
      config,
      JSON.stringify({ ...values, architectures: ["HalfForCausalLM"] }),
    );
    const modelFile = path.join(temporaryFolder(), "half.js");
    writeFileSync(modelFile, FILE);
    const options = optionsOf(model, { modelFile, calib: calibrationFile() });
    // The checkpoint has an MLP that this architecture does not use.
    await expect(quantize(options)).rejects.toThrow(/does not use/);
    writeFileSync(
      modelFile,
      FILE.replace(
        "const last",
        `const u = g.rmsNorm(x, "model.layers.0.post_attention_layernorm", c.rmsNormEps), l = "model.layers.0.mlp.";
         const s = g.siluMul(g.linear(u, l + "gate_proj", c.intermediateSize), g.linear(u, l + "up_proj", c.intermediateSize));
         x = g.add(x, g.linear(s, l + "down_proj", c.hiddenSize));
         const last`,
      ),
    );
    const copy = path.join(path.dirname(modelFile), "whole.js");
    writeFileSync(copy, readFileSync(modelFile));
    const report = await quantize({ ...options, modelFile: copy });
    expect(report.linears.length).toBe(7);
    expect(report.perplexity.after).toBeGreaterThan(0);
    const result = await prepareModel({
      ...{ model: options.out, modelFile: copy, loadFormat: "auto" },
    });
    expect(result.quantization).toBe("awq-int4 g32");
  });
});

describe("stops and refuses", () => {
  const model = denseModel();
  const calib = calibrationFile();
  const inFolder = (name: string, content: string | Uint8Array): string => {
    const file = path.join(temporaryFolder(), name);
    writeFileSync(file, content);
    return file;
  };

  it("leaves nothing behind when it is interrupted", async () => {
    const controller = new AbortController();
    const options = optionsOf(model, {
      calib,
      signal: controller.signal,
      onProgress: (_, done) => {
        expect(existsSync(`${options.out}.partial/model.safetensors`)).toBe(
          true,
        );
        if (done > 0) controller.abort(new Error("stop"));
      },
    });
    await expect(quantize(options)).rejects.toThrow("stop");
    expect(readdirSync(path.dirname(options.out))).toEqual([]);
  });

  it("replaces a model, and only with --overwrite", async () => {
    const options = optionsOf(model, { calib });
    mkdirSync(options.out);
    await quantize(options); // empty: as good as none
    await expect(quantize(options)).rejects.toThrow(
      /--out: .* is not empty\. Take another name, or --overwrite it/,
    );
    writeFileSync(path.join(options.out, "stale.txt"), "");
    await quantize({ ...options, overwrite: true });
    expect(readdirSync(options.out)).not.toContain("stale.txt");
  });

  it("takes over what an interrupted run has left, and nobody else's", async () => {
    const options = optionsOf(model, { calib });
    mkdirSync(`${options.out}.partial`);
    writeFileSync(path.join(`${options.out}.partial`, "notes.txt"), "");
    await expect(quantize(options)).rejects.toThrow(/is in the way/);
    writeFileSync(path.join(`${options.out}.partial`, "INCOMPLETE"), "");
    await quantize(options);
  });

  const notUtf8 = inFolder("latin1.txt", Uint8Array.of(0x66, 0xe9, 0x66));
  const documents = temporaryFolder();
  writeFileSync(path.join(documents, "notes.txt"), "");
  it.each<[what: string, options: Partial<QuantizeOptions>, message: RegExp]>([
    [
      "a group size that does not divide",
      { groupSize: 64 },
      /--group-size 64.*mlp\.down_proj\.weight has 96/,
    ],
    ["no model", { model: "/nonexistent" }, /does not exist/],
    ["no text", { calib: "/nonexistent" }, /--calib \/nonexistent: cannot be/],
    ["a folder for a text", { calib: documents }, /expected a text file/],
    ["text that is not UTF-8", { calib: notUtf8 }, /expected text in UTF-8/],
    [
      "a text that is too short",
      { calib: inFolder("short.txt", "once upon a time") },
      /at least 512 tokens.*got 16/,
    ],
    [
      "the model itself as output",
      { out: model },
      /does not hold the model itself/,
    ],
    [
      "a folder around the model",
      { out: path.dirname(model) },
      /does not hold the model itself/,
    ],
    [
      "a file as output",
      { out: notUtf8 },
      /expected a directory, got the file/,
    ],
    [
      "overwriting what is no model",
      { out: documents, overwrite: true },
      /replaces models only/,
    ],
    [
      "an unknown architecture",
      { model: denseModel({ architectures: ["NovelForCausalLM"] }) },
      /NovelForCausalLM/,
    ],
    [
      "weights that are not finite",
      { model: withNaN() },
      /q_proj\.weight: expected finite numbers, got NaN/,
    ],
  ])("%s", async (_, options, message) => {
    const all = optionsOf(model, { calib, ...options });
    await expect(quantize(all)).rejects.toMatchObject({
      code: expect.stringMatching(
        /^(invalid_config|invalid_model|unsupported)/,
      ),
      message: expect.stringMatching(message),
    });
    expect(existsSync(`${all.out}.partial`)).toBe(false);
  });

  it("a model that is quantized already", async () => {
    const options = optionsOf(model, { calib });
    await quantize(options);
    await expect(
      quantize(optionsOf(options.out, { calib })),
    ).rejects.toMatchObject({
      code: "invalid_config",
      message: expect.stringMatching(/quantized already \(awq-int4 g32\)/),
    });
  });
});

/** The first number of a q_proj is NaN. */
function withNaN(): string {
  const model = denseModel();
  const file = path.join(model, "model.safetensors");
  const bytes = readFileSync(file);
  const header = Number(bytes.readBigUInt64LE());
  const entries = JSON.parse(bytes.toString("utf8", 8, 8 + header)) as Record<
    string,
    { data_offsets: number[] }
  >;
  const [at = 0] =
    entries["model.layers.0.self_attn.q_proj.weight"]?.data_offsets ?? [];
  bytes.writeFloatLE(NaN, 8 + header + at);
  writeFileSync(file, bytes);
  return model;
}
