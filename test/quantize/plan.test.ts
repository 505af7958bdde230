import { describe, expect, it } from "vitest";
import { GraphBuilder } from "../../models/graph.js";
import type { Graph } from "../../models/graph.js";
import { findFamily } from "../../models/registry.js";
import { parseModelConfig } from "../../src/loader/model-config.js";
import { parseQuantization } from "../../src/loader/quantization.js";
import { headModules, planQuantization } from "../../src/quantize/plan.js";
import type { QuantizationPlan } from "../../src/quantize/plan.js";
import { CONFIG } from "./support.js";

function graphOf(config: object = {}): Graph {
  const parsed = parseModelConfig({ ...CONFIG, ...config });
  const builder = new GraphBuilder();
  findFamily(parsed.architecture).build(builder, parsed);
  return builder.finish();
}

const plan = (
  graph: Graph,
  groupSize = 32,
  dense: string[] = [],
): QuantizationPlan =>
  planQuantization(
    graph,
    parseQuantization({
      quantization_config: {
        ...{ quant_method: "awq", bits: 4, group_size: groupSize },
        modules_to_not_convert: dense,
      },
    }),
  );

/** "q_proj k_proj v_proj <- input_layernorm", the last part of each name, in order. */
function describeGroups({ groups }: QuantizationPlan): string[] {
  const last = (module: string): string => module.split(".").at(-1) ?? "";
  return [...groups.values()].map(({ linears, fold }) => {
    const readers = linears.map(({ module }) => last(module)).join(" ");
    const source =
      fold === null
        ? "nothing"
        : last(fold.kind === "norm" ? fold.module : fold.node.module);
    return `${readers} <- ${source}`;
  });
}

const LAYER = [
  "q_proj k_proj v_proj <- input_layernorm",
  "o_proj <- v_proj",
  "gate_proj up_proj <- post_attention_layernorm",
  "down_proj <- up_proj",
];

it.each(["Llama", "Qwen2", "Qwen3", "Mistral"])(
  "folds what the linears of %s share",
  (name) => {
    const graph = graphOf({ architectures: [`${name}ForCausalLM`] });
    expect(describeGroups(plan(graph))).toEqual([...LAYER, ...LAYER]);
  },
);

it("leaves the head and what it is told to, which still takes part in scales", () => {
  const graph = graphOf({ tie_word_embeddings: false, num_hidden_layers: 1 });
  const made = plan(graph, 32, ["k_proj", "down_proj"]);
  expect(describeGroups(made)).toEqual(LAYER.slice(0, 3));
  expect([...made.foldOf.keys()]).toEqual(["model.layers.0.self_attn.v_proj"]);
  const quantized = graph.nodes.flatMap((node) =>
    node.op === "linear" && made.isQuantized(node)
      ? [node.module.split(".").at(-1)]
      : [],
  );
  expect(quantized).toEqual([
    ...["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj"],
  ]);
  expect(headModules(graph)).toEqual(["lm_head"]);
});

describe("of other graphs", () => {
  /** embed -> norm -> two linears into attention -> o; a head. */
  function custom(build: (g: GraphBuilder) => void): Graph {
    const g = new GraphBuilder();
    build(g);
    return g.finish();
  }

  it("does not fold where a value has another reader, or a tensor another use", () => {
    const graph = custom((g) => {
      const x = g.embed("embed", 32, 64);
      const normed = g.rmsNorm(x, "norm", 1e-5);
      const a = g.linear(normed, "a", 64);
      const sum = g.add(a, normed); // normed is read by more than linears
      const b = g.linear(g.rmsNorm(sum, "norm2", 1e-5), "b", 64);
      const c = g.linear(g.rmsNorm(b, "norm2", 1e-5), "c", 64); // norm2 twice
      const up = g.linear(c, "up", 64); // from a linear: nothing to fold into
      const d = g.linear(g.siluMul(up, up), "d", 64); // up is the gate too
      g.logits(g.linear(g.sampleRows(d), "out", 32));
    });
    expect(describeGroups(plan(graph, 32, ["out"]))).toEqual([
      "a <- nothing",
      "b <- nothing",
      "c <- nothing",
      "up <- nothing",
      "d <- nothing",
    ]);
    expect(headModules(graph)).toEqual(["out"]);
  });

  it("refuses a linear that is used twice", () => {
    const graph = custom((g) => {
      const x = g.embed("embed", 32, 64);
      const y = g.linear(g.linear(x, "same", 64), "same", 64);
      g.logits(g.linear(g.sampleRows(y), "lm_head", 32));
    });
    expect(() => plan(graph)).toThrow(/same: the graph uses it more than once/);
  });
});

it.each<[config: object, groupSize: number, dense: string[], message: RegExp]>([
  [
    { intermediate_size: 96 },
    64,
    [],
    /--group-size 64: expected to divide the inputs of every linear; model\.layers\.0\.mlp\.down_proj\.weight has 96\..*--modules-to-not-convert down_proj/,
  ],
  [
    { intermediate_size: 172 },
    32,
    ["down_proj"],
    /model\.layers\.0\.mlp\.gate_proj\.weight: expected a number of outputs that 8 divides.*got 172/,
  ],
  [{}, 32, ["proj"], /modules-to-not-convert: expected to leave at least one/],
])("refuses what cannot be packed: %j, %i, %j", (config, g, dense, message) => {
  expect(() => plan(graphOf(config), g, dense)).toThrow(message);
});
