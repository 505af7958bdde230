/** Lowering as data: graphs in, programs (as text and lists) out. */
import { describe, expect, it } from "vitest";
import type {
  CheckpointTensor,
  LinearQuantization,
  Quantization,
} from "../../models/checkpoint.js";
import { GraphBuilder } from "../../models/graph.js";
import type { Value } from "../../models/graph.js";
import { describeProgram } from "../../src/program/describe.js";
import { lower } from "../../src/program/lower.js";
import type { Program } from "../../src/program/program.js";

const DENSE: Quantization = { method: "none", schemeOf: () => null };
const DUMMY = { kind: "dummy", dtype: "f32" } as const;
const rope = {
  inverseFrequencies: Float64Array.of(1, 0.1),
  scale: 1,
  interleaved: false,
};
const HEADS = { numHeads: 4, numKvHeads: 2, headDim: 8, rope };

function program(
  body: (g: GraphBuilder, x: Value) => Value,
  quantization = DENSE,
): Program {
  const g = new GraphBuilder();
  const x = body(g, g.embed("embed", 50, 32));
  g.logits(g.linear(g.sampleRows(x), "head", 50));
  return lower({
    architecture: "test",
    graph: g.finish(),
    weights: DUMMY,
    quantization,
  });
}

/** The body's lines, without the embedding. */
function linesOf(made: Program): string[] {
  const [body = ""] = describeProgram(made).split("\nhead:");
  return body
    .split("\n")
    .slice(1)
    .map((line) => line.replace(/ +/g, " "));
}

const attend = (g: GraphBuilder, x: Value): Value =>
  g.attention(
    g.linear(x, "a.q", 32),
    g.linear(x, "a.k", 16),
    g.linear(x, "a.v", 16, { bias: true }),
    HEADS,
  );

describe("fuses", () => {
  it("q, k and v", () => {
    const made = program(attend);
    expect(linesOf(made)).toEqual([
      "linear qkv = hidden * a.{q,k,v} [32 -> 64, dense + bias]",
      "ropeStoreKv qkv -> kv 0, rope 0, heads 4/2 x 8, norms none, none",
      // The embedding is not read again: its buffer is free.
      "attention hidden = attend(qkv, kv 0) scale 0.3536 window 0 softcap 0.000",
    ]);
    expect(
      made.linears[0]?.parts.map(({ n, bias }) => [n, bias !== null]),
    ).toEqual([
      [32, false],
      [16, false],
      [16, true],
    ]);
    expect(made.ropes).toEqual([rope]);
    expect(made.kvLayers).toEqual([{ numKvHeads: 2, headDim: 8 }]);
  });

  it("gate and up with the activation", () => {
    const made = program((g, x) =>
      g.siluMul(g.linear(x, "m.gate", 48), g.linear(x, "m.up", 48)),
    );
    expect(linesOf(made)).toEqual([
      "linear activated = siluMul(hidden * m.{gate,up} [32 -> 96, dense])",
    ]);
    expect(made.linears[0]).toMatchObject({ siluMulPairs: true, n: 96 });
  });

  it("a linear into the residual, on either side", () => {
    for (const swap of [false, true]) {
      const made = program((g, x) => {
        const y = g.linear(g.rmsNorm(x, "norm", 1e-5), "o", 32);
        return swap ? g.add(y, x) : g.add(x, y);
      });
      expect(linesOf(made)).toEqual([
        "rmsNorm normed = norm(hidden) * norm",
        "linear hidden += normed * o [32 -> 32, dense]",
      ]);
    }
  });

  it("a sum into the norm that reads it first", () => {
    const made = program((g, x) => {
      const y = g.rmsNorm(g.linear(x, "o", 32), "post", 1e-5);
      const sum = g.add(x, y);
      return g.add(sum, g.linear(g.rmsNorm(sum, "pre", 1e-5), "down", 32));
    });
    expect(linesOf(made)).toEqual([
      "linear projected = hidden * o [32 -> 32, dense]",
      "rmsNorm normed = norm(projected) * post",
      // hidden += normed, then its norm.
      expect.stringMatching(/^rmsNorm \w+ = norm\(hidden \+= normed\) \* pre$/),
      expect.stringMatching(/^linear hidden \+= \w+ \* down/),
    ]);
  });
});

describe("does not overwrite what is still read", () => {
  it("a residual that is used again", () => {
    const made = program((g, x) => {
      const sum = g.add(x, g.linear(x, "o", 32));
      return g.add(g.rmsNorm(sum, "n", 1e-5), g.rmsNorm(x, "n", 1e-5));
    });
    const [first, second] = linesOf(made);
    expect(first).toBe("linear projected = hidden * o [32 -> 32, dense]");
    expect(second).toBe("add sum = hidden + projected");
  });

  it("a sum of a value with itself", () => {
    const made = program((g, x) => g.rmsNorm(g.add(x, x), "n", 1e-5));
    expect(linesOf(made)).toEqual([
      "add sum = hidden + hidden",
      "rmsNorm hidden = norm(sum) * n",
    ]);
  });

  it("the input of a linear that is added to it", () => {
    const made = program((g, x) => g.add(x, g.linear(x, "o", 32)));
    expect(linesOf(made)[1]).toBe("add sum = hidden + projected");
  });
});

describe("splits what has different schemes", () => {
  const int4: LinearQuantization = {
    scheme: "gptq-int4",
    groupSize: 16,
    zeroOffset: 1,
    symmetric: true,
  };
  const only = (...modules: string[]): Quantization => ({
    method: "gptq",
    schemeOf: (module) => (modules.includes(module) ? int4 : null),
  });

  it("q, k, v: columns of one buffer", () => {
    expect(linesOf(program(attend, only("a.q", "a.v"))).slice(0, 3)).toEqual([
      "linear qkv = hidden * a.q [32 -> 32, gptq-int4 g16]",
      "linear qkv[32..] = hidden * a.k [32 -> 16, dense]",
      "linear qkv[48..] = hidden * a.v [32 -> 16, gptq-int4 g16 + bias]",
    ]);
  });

  it("gate, up: an activation of its own", () => {
    const made = program(
      (g, x) => g.siluMul(g.linear(x, "gate", 48), g.linear(x, "up", 48)),
      only("up"),
    );
    expect(linesOf(made)).toEqual([
      "linear gateUp = hidden * gate [32 -> 48, dense]",
      "linear gateUp[48..] = hidden * up [32 -> 48, gptq-int4 g16]",
      "siluMul activated = silu(gate) * up of gateUp",
    ]);
  });
});

describe("buffers", () => {
  it("overlap only where lives do not", () => {
    const made = program((g, x) => {
      for (let i = 0; i < 3; i++) {
        x = g.add(x, g.linear(attend(g, g.rmsNorm(x, `n${i}`, 1e-5)), "o", 32));
        x = g.add(
          x,
          g.linear(
            g.siluMul(g.linear(x, "gate", 40), g.linear(x, "up", 40)),
            "d",
            32,
          ),
        );
      }
      return x;
    });
    for (const { column, width } of made.buffers) {
      expect(column % 16).toBe(0);
      expect(column + width).toBeLessThanOrEqual(
        Math.max(made.tokenColumns, made.sampleColumns),
      );
    }
    // hidden, normed / attention, qkv / activated: not one per layer.
    expect(
      made.buffers.filter((b) => b.rows === "tokens").length,
    ).toBeLessThanOrEqual(5);
    expect(made.tokenColumns).toBeLessThanOrEqual(32 + 32 + 64 + 32);
    expect(made.buffers[made.logits]).toMatchObject({
      name: "logits",
      rows: "samples",
      width: 50,
    });
  });
});

describe("checks tensors", () => {
  const tensors = (
    change: Record<string, Partial<CheckpointTensor> | null> = {},
  ): Map<string, CheckpointTensor> => {
    const shapes: Record<string, number[]> = {
      "embed.weight": [50, 32],
      "norm.weight": [32],
    };
    const map = new Map<string, CheckpointTensor>();
    for (const [name, shape] of Object.entries(shapes))
      map.set(name, { name, file: 0, offset: 64, dtype: "BF16", shape });
    for (const [name, part] of Object.entries(change))
      if (part === null) map.delete(name);
      else
        map.set(name, {
          name,
          file: 0,
          offset: 0,
          dtype: "F32",
          shape: [32],
          ...map.get(name),
          ...part,
        });
    return map;
  };
  const tied = (
    map: Map<string, CheckpointTensor>,
    tiedTo: string | null = "embed",
  ): Program => {
    const g = new GraphBuilder();
    const x = g.rmsNorm(g.sampleRows(g.embed("embed", 50, 32)), "norm", 1e-5);
    g.logits(g.linear(x, "head", 50, { tiedTo }));
    return lower({
      architecture: "test",
      graph: g.finish(),
      weights: { kind: "checkpoint", tensors: map },
      quantization: DENSE,
    });
  };

  it("shares a tied embedding", () => {
    const made = tied(tensors());
    const [embed] = made.dense;
    expect(embed).toMatchObject({ name: "embed", keep: true });
    expect(made.linears[0]?.parts[0]?.weight).toEqual(embed?.source);
    expect(made.dense.map((d) => d.keep)).toEqual([true, false]);
    // Some checkpoints hold the tied weight as well.
    expect(() =>
      tied(tensors({ "head.weight": { shape: [50, 32] } })),
    ).not.toThrow();
  });

  it.each<[Record<string, Partial<CheckpointTensor> | null>, RegExp]>([
    [
      { "norm.weight": null },
      /^tensor norm.weight: expected F32, F16, BF16 \[32\] by config.json, got no such tensor$/,
    ],
    [
      { "norm.weight": { shape: [33] } },
      /tensor norm.weight: .*got BF16 \[33\]/,
    ],
    [{ "norm.weight": { shape: [32, 1] } }, /tensor norm.weight/],
    [
      { "norm.weight": { dtype: "I32" } },
      /tensor norm.weight: .*got I32 \[32\]/,
    ],
    [{ "norm.weight": { dtype: "constructor" } }, /tensor norm.weight/],
    [
      { "embed.weight": { shape: [51, 32] } },
      /tensor embed.weight: expected .*\[50, 32\].*got BF16 \[51, 32\]/,
    ],
    [{ "norm.bias": {} }, /1 tensors that this model does not use: norm.bias/],
    [{ "layers.9.o.weight": {} }, /does not use: layers.9.o.weight/],
  ])("%j", (change, message) => {
    expect(() => tied(tensors(change))).toThrow(
      expect.objectContaining({
        code: "invalid_model",
        message: expect.stringMatching(message),
      }),
    );
  });

  it("needs a head that is not tied", () => {
    expect(() => tied(tensors(), null)).toThrow(
      /tensor head.weight: .*no such tensor/,
    );
  });

  it("leaves known extras alone", () => {
    expect(() =>
      tied(tensors({ "layers.0.self_attn.rotary_emb.inv_freq": {} })),
    ).not.toThrow();
  });
});

describe("refuses graphs that have no program", () => {
  it.each<[string, (g: GraphBuilder, x: Value) => Value, RegExp]>([
    [
      "shared gate",
      (g, x) => {
        const l = g.linear(x, "l", 32);
        return g.siluMul(l, l);
      },
      /siluMul of values that linears make/,
    ],
    [
      "gate without a linear",
      (g, x) => g.siluMul(x, g.linear(x, "l", 32)),
      /siluMul/,
    ],
    [
      "widths",
      (g, x) => g.add(x, g.linear(x, "l", 31)),
      /add of width 32, got 31/,
    ],
    [
      "q of a wrong width",
      (g, x) => g.attention(x, x, x, HEADS),
      /attention: k of width 16, got 32/,
    ],
    ["a width of 0", (g, x) => g.linear(x, "l", 0), /l: a width above 0/],
    [
      "softcap of what is read again",
      (g, x) => g.add(x, g.softcap(x, 30)),
      /softcap/,
    ],
  ])("%s", (_, body, message) => {
    expect(() => program(body)).toThrow(message);
  });

  it("without logits", () => {
    expect(() => new GraphBuilder().finish()).toThrow(/expected logits/);
  });
});
