import path from "node:path";
import { describe, expect, it } from "vitest";
import {
  bitsPerWeight,
  conditionalAcceptanceOf,
  estimateMemory,
  estimateSpeculation,
  tokensPerStep,
  type Figure,
  type MemoryInput,
} from "../../src/cli/doctor/estimate.js";
import type { Estimate } from "../../src/cli/doctor/estimate-report.js";
import { readShape } from "../../src/engine/model-shape.js";
import { runOctavo } from "../e2e/server-process.js";

const STARTER = path.join(import.meta.dirname, "../../models/starter");

function valueOf(figures: Figure[], name: string): number {
  const figure = figures.find((one) => one.name === name);
  expect(figure, name).toBeDefined();
  return figure?.value ?? NaN;
}

describe("tokens per step", () => {
  it("is 1 + r k for an acceptance rate", () => {
    expect(tokensPerStep({ kind: "rate", value: 0.5 }, 4)).toBe(3);
    expect(tokensPerStep({ kind: "rate", value: 0 }, 4)).toBe(1);
    expect(tokensPerStep({ kind: "rate", value: 1 }, 4)).toBe(5);
  });

  it("is the sum of a^i for conditional acceptance", () => {
    const tokens = (a: number, k: number) =>
      tokensPerStep({ kind: "conditional", value: a }, k);
    // 1 + 0.8 + 0.64 + 0.512 + 0.4096
    expect(tokens(0.8, 4)).toBeCloseTo(3.3616, 12);
    // 1 + 0.5 + 0.25
    expect(tokens(0.5, 2)).toBeCloseTo(1.75, 12);
    expect(tokens(0, 7)).toBe(1);
    expect(tokens(1, 7)).toBe(8);
  });

  it("says the same of both numbers", () => {
    // 3.3616 tokens are a rate of 2.3616 / 4.
    expect(conditionalAcceptanceOf(0.5904, 4)).toBeCloseTo(0.8, 10);
    expect(conditionalAcceptanceOf(0, 4)).toBeCloseTo(0, 10);
    expect(conditionalAcceptanceOf(1, 4)).toBeCloseTo(1, 10);
  });
});

describe("the speed-up", () => {
  it("divides tokens by the cost of drafts and rows", () => {
    const figures = estimateSpeculation({
      acceptance: { kind: "conditional", value: 0.8 },
      numSpeculativeTokens: 4,
      draftCost: 0.05,
      rowCost: 0.02,
    });
    // 1 + 4 * 0.07
    expect(valueOf(figures, "cost of a step")).toBeCloseTo(1.28, 12);
    expect(valueOf(figures, "speed-up")).toBeCloseTo(2.62625, 12);
    expect(valueOf(figures, "acceptance rate")).toBeCloseTo(0.5904, 12);
    // k = 6, 7, 8: 3.95142 / 1.42, 4.16114 / 1.49, 4.32891 / 1.56
    expect(valueOf(figures, "best length")).toBe(7);
    expect(valueOf(figures, "its speed-up")).toBeCloseTo(2.7927, 4);
  });

  it("has no best length where drafts cost more than they bring", () => {
    const figures = estimateSpeculation({
      acceptance: { kind: "rate", value: 0.1 },
      numSpeculativeTokens: 1,
      draftCost: 0.2,
      rowCost: 0,
    });
    expect(valueOf(figures, "speed-up")).toBeCloseTo(1.1 / 1.2, 12);
    expect(valueOf(figures, "best length")).toBe(0);
    expect(valueOf(figures, "its speed-up")).toBe(1);
  });
});

describe("memory", () => {
  // Llama-3.1-8B: 32 layers of 4096 x (4096 + 2 x 1024 + 4096 + 3 x 14336), 8 KV heads of 128.
  const LLAMA_8B: MemoryInput = {
    weights: {
      packed: 6_979_321_856,
      dense: 525_336_576 + 65 * 4096,
      embedding: 525_336_576,
    },
    bits: 4,
    groupSize: 128,
    kvValuesPerToken: 65_536,
    kvBits: 16,
    contextLen: 1024,
    batchSize: 1,
    bandwidth: 4.3e12,
  };

  it("counts a group's scale and zero point", () => {
    expect(bitsPerWeight(4, 128)).toBe(4.15625);
    expect(bitsPerWeight(16, 0)).toBe(16);
  });

  it("gives the floor of Llama-3.1-8B in INT4", () => {
    const figures = estimateMemory(LLAMA_8B);
    // 6979321856 * 4.15625 / 8 + 2 * (2 * 525336576 + 266240)
    expect(valueOf(figures, "weights")).toBe(5_727_854_592);
    expect(valueOf(figures, "KV cache")).toBe(1024 * 128 * 1024);
    expect(valueOf(figures, "both")).toBe(5_862_072_320);
    // Without the embedding's 1050673152.
    expect(valueOf(figures, "read by a step")).toBe(4_811_399_168);
    expect(valueOf(figures, "floor of a step")).toBeCloseTo(1.119e-3, 6);
    expect(valueOf(figures, "at the floor")).toBeCloseTo(893.7, 1);
  });

  it("leaves out what is not known", () => {
    const names = estimateMemory({
      ...LLAMA_8B,
      kvValuesPerToken: null,
      bandwidth: null,
    }).map(({ name }) => name);
    expect(names).toEqual(["weights"]);
  });

  it("reads a model's shape from its config.json alone", async () => {
    const shape = await readShape(path.join(STARTER, "awq"), null);
    // 6 layers of width 256: q 256, k and v 128, o 256, gate, up and down 512; 13 norms and a tied head of 1536.
    expect(shape).toEqual({
      weights: {
        packed: 6 * 256 * (256 + 2 * 128 + 256 + 3 * 512),
        dense: 1536 * 256 + 13 * 256,
        embedding: 0,
      },
      kvValuesPerToken: 6 * 2 * 2 * 64,
      bits: 4,
      groupSize: 64,
    });
  });
});

describe("octavo doctor --estimate", () => {
  const run = (...args: string[]) => runOctavo(["doctor", ...args]);

  it("prints the figures as JSON", async () => {
    const { code, stdout } = await run(
      ...["--estimate", "--json", "--acceptance-rate", "0.5"],
      ...["--parameters", "8B", "--bits", "8", "--bandwidth", "100"],
    );
    expect(code).toBe(0);
    const { speculation, memory } = JSON.parse(stdout) as Estimate;
    expect(valueOf(speculation?.figures ?? [], "tokens per step")).toBe(3);
    // 8e9 (8 + 24 / 128) / 8
    expect(valueOf(memory?.figures ?? [], "weights")).toBe(8_187_500_000);
    expect(valueOf(memory?.figures ?? [], "floor of a step")).toBe(0.081875);
  });

  it.each([
    [["--estimate"], /got none of them/],
    [["--bits", "4"], /--bits: expected --estimate/],
    [["--estimate", "--bits", "4"], /--bits: expected --parameters/],
    [["--estimate", "--draft-cost", "1"], /--draft-cost: expected --accept/],
    [
      ["--estimate", "--parameters", "1B", "--context-len", "9"],
      /--context-len: expected --kv-values-per-token/,
    ],
    [
      ["--estimate", "--parameters", "1B", "--max-model-len", "9"],
      /--max-model-len: expected only flags of the estimate/,
    ],
    [["--estimate", "--parameters", "many"], /got "many"/],
    [["--estimate", "--acceptance-rate", "1.5"], /from 0 to 1, got "1.5"/],
    [
      ["--estimate", "--acceptance-rate", "1", "--conditional-acceptance", "1"],
      /got both/,
    ],
    [["--estimate", STARTER, "--parameters", "1B"], /--parameters: .*got both/],
  ])("refuses %j", async (args, message) => {
    const { code, stderr, stdout } = await run(...args);
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toMatch(message);
  });
});
