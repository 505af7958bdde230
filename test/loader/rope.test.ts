/** Expected numbers are worked out by hand in the comments, not by the code under test. */
import { describe, expect, it } from "vitest";
import { Fields } from "../../src/loader/fields.js";
import { ropeOf } from "../../src/loader/rope.js";

const inputs = { theta: 10000, rotaryDim: 8, maxPositions: 4096 };
const rope = (
  scaling: Record<string, unknown> | null,
  given = inputs,
): { frequencies: number[]; scale: number; maxPositions: number } => {
  const fields = scaling && new Fields("config.json", scaling, "rope_scaling.");
  const { table, maxPositions } = ropeOf(fields, given);
  return {
    frequencies: [...table.inverseFrequencies],
    scale: table.scale,
    maxPositions,
  };
};
function expectClose(came: number[], expected: number[]): void {
  expect(came.length).toBe(expected.length);
  expected.forEach((e, i) => {
    expect(Math.abs((came[i] ?? NaN) / e - 1), `${i}`).toBeLessThan(1e-12);
  });
}

it("plain: 10000^(-2i/8) = 10^-i", () => {
  const { frequencies, scale, maxPositions } = rope(null);
  expectClose(frequencies, [1, 0.1, 0.01, 0.001]);
  expect([scale, maxPositions]).toEqual([1, 4096]);
  expect(rope({ rope_type: "default", factor: 3 })).toEqual(rope(null));
  expect(rope({})).toEqual(rope(null));
});

it("linear divides by the factor and stretches the context", () => {
  for (const field of ["type", "rope_type"]) {
    const came = rope({ [field]: "linear", factor: 4 });
    expectClose(came.frequencies, [0.25, 0.025, 0.0025, 0.00025]);
    expect(came).toMatchObject({ scale: 1, maxPositions: 16384 });
  }
});

it("llama3 keeps short wavelengths, divides long ones, blends between", () => {
  // original 256: turns = 256 f / (2 pi) = 40.74, 4.074, 0.4074, 0.04074. With low 0.25 and high 4 the first two are
  // kept, the last is divided by 8, and the third has smooth = (0.40743665 - 0.25) / 3.75 = 0.0419831073...
  const smooth = ((256 * 0.01) / 6.283185307179586 - 0.25) / 3.75;
  const came = rope({
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 0.25,
    high_freq_factor: 4,
    original_max_position_embeddings: 256,
  });
  expect(smooth).toBeCloseTo(0.0419831, 6);
  expectClose(came.frequencies, [
    1,
    0.1,
    0.00125 * (1 - smooth) + 0.01 * smooth,
    0.000125,
  ]);
  expect(came).toMatchObject({ scale: 1, maxPositions: 4096 });
});

describe("yarn", () => {
  // theta 10000, d 8: index(turns) = 8 ln(original / (2 pi turns)) / (2 ln 10000) = log10(original / (2 pi turns)).
  // original 2048: index(32) = log10(10.18592) = 1.00800, index(1) = log10(325.949) = 2.51315.
  const yarn = {
    rope_type: "yarn",
    factor: 4,
    original_max_position_embeddings: 2048,
  };

  it("ramps between whole indices", () => {
    // floor 1, ceil 3: index 2 is half way: (0.01 / 4 + 0.01) / 2 = 0.00625.
    const came = rope(yarn);
    expectClose(came.frequencies, [1, 0.1, 0.00625, 0.00025]);
    expect(came.maxPositions).toBe(8192);
    // 0.1 ln 4 + 1
    expect(came.scale).toBeCloseTo(1.1386294361119891, 14);
  });

  it("ramps between exact indices without truncation", () => {
    // index 2: (2 - 1.0080003) / (2.5131501 - 1.0080003) = 0.6590705 interpolated.
    const low = Math.log10(2048 / (2 * Math.PI * 32));
    const high = Math.log10(2048 / (2 * Math.PI));
    expect([low, high].map((x) => x.toFixed(4))).toEqual(["1.0080", "2.5132"]);
    const part = (2 - low) / (high - low);
    expectClose(rope({ ...yarn, truncate: false }).frequencies, [
      1,
      0.1,
      0.0025 * part + 0.01 * (1 - part),
      0.00025,
    ]);
  });

  it("takes betas, attention_factor and mscale", () => {
    // beta_fast 320: index log10(1.018592) = 0.008 -> 0; beta_slow 4: log10(81.487) = 1.911 -> 2; index 1 half way.
    const betas = { beta_fast: 320, beta_slow: 4 };
    expectClose(
      rope({ ...yarn, ...betas }).frequencies,
      [1, 0.0625, 0.0025, 0.00025],
    );
    expect(rope({ ...yarn, attention_factor: 0.7 }).scale).toBe(0.7);
    // (0.1 * 2 ln 4 + 1) / (0.1 * 0.5 ln 4 + 1)
    expect(rope({ ...yarn, mscale: 2, mscale_all_dim: 0.5 }).scale).toBeCloseTo(
      1.2772588722239782 / 1.0693147180559945,
      12,
    );
    expect(rope({ ...yarn, mscale: 1, mscale_all_dim: 1 }).scale).toBe(1);
  });
});

it.each([
  [
    { type: "dynamic", factor: 2 },
    "unsupported_model",
    /dynamic is not built. Built: default, linear, llama3, yarn/,
  ],
  [{ rope_type: "longrope" }, "unsupported_model", /longrope/],
  [
    { type: "linear" },
    "invalid_model",
    /rope_scaling.factor: expected a number >= 1, got nothing/,
  ],
  [{ type: "linear", factor: 0 }, "invalid_model", /rope_scaling.factor/],
  [
    { type: "yarn", factor: "4" },
    "invalid_model",
    /rope_scaling.factor.*got "4"/,
  ],
  [
    { rope_type: 3 },
    "invalid_model",
    /rope_scaling.rope_type: expected a string, got 3/,
  ],
  [
    {
      type: "llama3",
      factor: 8,
      low_freq_factor: 4,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    },
    "invalid_model",
    /high_freq_factor: expected a number above low_freq_factor \(4\)/,
  ],
])("refuses %j", (scaling, code, message) => {
  let error: unknown;
  try {
    rope(scaling);
  } catch (e) {
    error = e;
  }
  expect(error).toMatchObject({ code });
  expect((error as Error).message).toMatch(message);
});
