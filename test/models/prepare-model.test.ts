import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { prepareModel } from "../../src/engine/prepare-model.js";
import type {
  PreparedModel,
  PrepareOptions,
} from "../../src/engine/prepare-model.js";
import { describeProgram } from "../../src/program/describe.js";
import { generate, openModel } from "../e2e/golden-support.js";

const MODELS = path.resolve("../shared/models");
const present = existsSync(MODELS);
if (!present)
  it.skip("models of ../shared/models: they are missing", () => undefined);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "octavo-models-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 70,
  eos_token_id: [2, 70],
};

/** A model directory with these files. */
function directory(files: Record<string, unknown>): string {
  const made = mkdtempSync(path.join(folder, "model-"));
  for (const [name, value] of Object.entries(files))
    writeFileSync(
      path.join(made, name),
      typeof value === "string" ? value : JSON.stringify(value),
    );
  return made;
}

function prepare(
  model: string,
  options: Partial<PrepareOptions> = {},
): Promise<PreparedModel> {
  return prepareModel({
    model,
    modelFile: null,
    loadFormat: "auto",
    ...options,
  });
}

async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected an error, got none");
}

describe.runIf(present)("of ../shared/models", () => {
  const shared = (name: string): Promise<PreparedModel> =>
    prepare(path.join(MODELS, name));

  it.each([
    ["stories260k", "LlamaForCausalLM", "none (f32)", 1],
    ["llama2xs", "LlamaForCausalLM", "none (f32)", 1],
    ["tiny-llama3", "LlamaForCausalLM", "none (f16)", 1],
    ["tiny-mistral", "MistralForCausalLM", "none (f16)", 1],
    ["tiny-qwen2", "Qwen2ForCausalLM", "none (f16)", 1],
    ["tiny-qwen3", "Qwen3ForCausalLM", "none (f16)", 1],
    ["tiny-llama-bf16-sharded", "LlamaForCausalLM", "none (bf16)", 2],
    ["tiny-llama-awq", "LlamaForCausalLM", "awq-int4 g128", 1],
    ["tiny-qwen2-awq", "Qwen2ForCausalLM", "awq-int4 g64", 1],
    ["tiny-llama-gptq", "LlamaForCausalLM", "gptq-int4 g128", 1],
    ["tiny-qwen2-gptq-asym", "Qwen2ForCausalLM", "gptq-int4 g32", 1],
    ["tiny-llama-ct", "LlamaForCausalLM", "compressed-int4 g128", 1],
    ["tiny-llama-ct-asym", "LlamaForCausalLM", "compressed-int4 g64", 1],
  ])("%s", async (name, architecture, quantization, numFiles) => {
    const model = await shared(name);
    expect(model).toMatchObject({ architecture, quantization });
    expect(model.files.length).toBe(numFiles);
    const { program } = model;
    const layers = program.kvLayers.length;
    // Per layer: qkv, o, gate and up, down; and the head.
    expect(program.linears.length).toBe(4 * layers + 1);
    const lines = describeProgram(program).split("\n");
    // Embedding; per layer 8 instructions; the line "head:", gather, norm, linear.
    expect(lines.length).toBe(1 + 8 * layers + 4);
    expect(program.buffers.length).toBeLessThanOrEqual(8);
  });

  it("each family has what sets it apart", async () => {
    const text = async (name: string): Promise<string> =>
      describeProgram((await shared(name)).program);
    expect(await text("tiny-mistral")).toContain("window 24");
    expect(await text("tiny-llama3")).toContain("window 0");
    expect(await text("tiny-qwen2")).toMatch(
      /q_proj,k_proj,v_proj\} .*dense \+ bias/,
    );
    expect(await text("tiny-qwen3")).toContain(
      "norms model.layers.1.self_attn.q_norm, model.layers.1.self_attn.k_norm",
    );
    const { program } = await shared("tiny-qwen2");
    expect(program.linears.at(-1)?.parts[0]?.weight).toEqual(
      program.dense[0]?.source,
    );
  });

  it("takes stop ids from generation_config.json first", async () => {
    expect(await shared("stories260k")).toMatchObject({
      eosTokenIds: [1, 2],
      bosTokenId: 1,
      generationDefaults: {},
      maxPositionEmbeddings: 512,
      vocabSize: 512,
    });
  });
});

describe("--load-format dummy", () => {
  const quantized = [
    null,
    { quant_method: "awq", bits: 4, group_size: 32 },
    { quant_method: "gptq", bits: 4, group_size: 32, sym: true },
    { quant_method: "gptq", bits: 4, group_size: 16, sym: false },
    {
      quant_method: "compressed-tensors",
      config_groups: {
        a: {
          targets: ["Linear"],
          weights: { num_bits: 4, strategy: "channel", symmetric: false },
        },
      },
      ignore: ["lm_head"],
    },
  ];
  it.each(quantized)("computes with %j", async (quantization_config) => {
    const model = await prepare(
      directory({ "config.json": { ...LLAMA, quantization_config } }),
      { loadFormat: "dummy" },
    );
    expect(model).toMatchObject({ files: [], fileBytes: 0, eosTokenIds: [2] });
    const opened = openModel(model, "cpu");
    const { promptLogits, tokens } = generate(opened, [1, 2, 3, 4], 4, 4);
    opened.runner.close();
    expect(tokens.every((t) => t >= 0 && t < 70)).toBe(true);
    const rms = Math.sqrt(
      promptLogits.reduce((sum, x) => sum + x * x, 0) / promptLogits.length,
    );
    // Of the size of a real model's logits: finite, not vanishing.
    expect(rms).toBeGreaterThan(0.1);
    expect(rms).toBeLessThan(10);
  });
});

describe("says what is wrong with", () => {
  const CASES: [string, () => Promise<unknown>, string, RegExp][] = [
    [
      "a missing directory",
      () => prepare("/no/such/model"),
      "invalid_config",
      /expected a directory .*\/no\/such\/model, which does not exist/,
    ],
    [
      "a file",
      () => prepare(path.join(directory({ x: "" }), "x")),
      "invalid_config",
      /which is a file/,
    ],
    [
      "a GGUF file",
      () => prepare(path.join(directory({ "x.gguf": "" }), "x.gguf")),
      "invalid_config",
      /GGUF files are not read/,
    ],
    [
      "no config.json",
      () => prepare(directory({})),
      "invalid_model",
      /expected a config.json/,
    ],
    [
      "a config.json that is no JSON",
      () => prepare(directory({ "config.json": "{" })),
      "invalid_model",
      /config.json: expected JSON/,
    ],
    [
      "a config.json that is not UTF-8",
      () => {
        const made = directory({});
        writeFileSync(
          path.join(made, "config.json"),
          Buffer.of(0x7b, 0xff, 0x7d),
        );
        return prepare(made);
      },
      "invalid_model",
      /config.json: cannot be read/,
    ],
    [
      "no weights",
      () => prepare(directory({ "config.json": LLAMA })),
      "invalid_model",
      /expected model.safetensors .*got no weights/,
    ],
    [
      "weights of another kind",
      () =>
        prepare(directory({ "config.json": LLAMA, "pytorch_model.bin": "" })),
      "invalid_model",
      /got pytorch_model.bin/,
    ],
    [
      "an unknown architecture",
      () =>
        prepare(
          directory({
            "config.json": { ...LLAMA, architectures: ["MambaForCausalLM"] },
          }),
        ),
      "unsupported_model",
      /MambaForCausalLM is not built in. Built in: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM/,
    ],
    [
      "an unknown quantization",
      () =>
        prepare(
          directory({
            "config.json": {
              ...LLAMA,
              quantization_config: { quant_method: "bitsandbytes" },
            },
          }),
        ),
      "unsupported_model",
      /bitsandbytes is not built/,
    ],
    [
      "a group size that does not fit",
      () =>
        prepare(
          directory({
            "config.json": {
              ...LLAMA,
              quantization_config: {
                quant_method: "awq",
                bits: 4,
                group_size: 48,
              },
            },
          }),
          { loadFormat: "dummy" },
        ),
      "invalid_model",
      /q_proj: expected a number of inputs that its group size \(48\) divides, got 64/,
    ],
  ];
  it.each(CASES)("%s", async (_, attempt, code, message) => {
    const error = await errorOf(attempt());
    expect(error).toMatchObject({ name: "OctavoError", code });
    expect((error as Error).message).toMatch(message);
  });
});

describe("--model-file", () => {
  /** Types and all: they are stripped. */
  const TS = `
    import type { GraphBuilder } from "octavo/models/graph.js";
    interface Config { vocabSize: number; hiddenSize: number }
    export const architectures: string[] = ["TinyForCausalLM"];
    export function build(g: GraphBuilder, config: Config): void {
      const x = g.embed("embed", config.vocabSize, config.hiddenSize);
      g.logits(g.linear(g.rmsNorm(g.sampleRows(x), "norm", 1e-5), "head", config.vocabSize) as never);
    }`;
  const JS = `
    export const architectures = ["TinyForCausalLM"];
    export function build(g, config) {
      const x = g.embed("embed", config.vocabSize, config.hiddenSize);
      g.logits(g.linear(g.rmsNorm(g.sampleRows(x), "norm", 1e-5), "head", config.vocabSize));
    }`;
  const config = {
    ...LLAMA,
    architectures: ["TinyForCausalLM"],
    model_type: "tiny",
  };
  const attempt = (name: string, text: string): Promise<PreparedModel> => {
    const made = directory({ "config.json": config, [name]: text });
    const modelFile = path.join(made, name);
    return prepare(made, { modelFile, loadFormat: "dummy" });
  };

  it.each([
    ["family.ts", TS],
    ["family.mjs", JS],
  ])("takes %s", async (name, text) => {
    const { program, architecture } = await attempt(name, text);
    expect(architecture).toBe("TinyForCausalLM");
    expect(
      describeProgram(program)
        .split("\n")
        .map((l) => l.replace(/ +/g, " ")),
    ).toEqual([
      "embed hidden = embed[ids] * 1.000",
      "head:",
      "gatherRows sampled = rows of hidden",
      "rmsNorm normed = norm(sampled) * norm",
      "linear logits = normed * head [64 -> 70, dense]",
    ]);
  });

  it.each<[string, string, string, RegExp]>([
    ["syntax errors", "a.ts", "export const = 3;", /model file .*a\.ts: /],
    ["more than types", "b.ts", "export enum E { A }", /model file .*b\.ts: /],
    [
      "a module that throws",
      "c.mjs",
      "throw new Error('no luck');",
      /c\.mjs: no luck/,
    ],
    [
      "no build",
      "d.mjs",
      "export const architectures = ['TinyForCausalLM'];",
      /expected an export `build`/,
    ],
    [
      "no architectures",
      "e.mjs",
      "export function build() {}",
      /expected an export `architectures`/,
    ],
    [
      "another architecture",
      "f.mjs",
      JS.replace("Tiny", "Huge"),
      /expected it to describe TinyForCausalLM \(config.json\), it describes HugeForCausalLM/,
    ],
    [
      "a build that throws",
      "g.mjs",
      JS.replace("const x", "null.x; const x"),
      /g\.mjs: /,
    ],
    [
      "a graph that does not fit",
      "h.mjs",
      JS.replace("g.sampleRows(x)", "x"),
      /h\.mjs: model graph: expected logits: sample rows/,
    ],
    ["another extension", "i.py", "", /expected a .ts, .js or .mjs file/],
  ])("names the file for %s", async (_, name, text, message) => {
    const error = await errorOf(attempt(name, text));
    expect(error).toMatchObject({ code: "invalid_config", param: "modelFile" });
    expect((error as Error).message).toMatch(message);
  });

  it("names a file that is not there", async () => {
    const made = directory({ "config.json": config });
    const error = await errorOf(
      prepare(made, { modelFile: path.join(made, "x.ts") }),
    );
    expect(error).toMatchObject({ code: "invalid_config" });
    expect((error as Error).message).toMatch(/x\.ts.*ENOENT/);
  });
});
