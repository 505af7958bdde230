import type { WeightCounts } from "../../engine/model-shape.js";

/** One computed figure, with the formula it comes from. */
export interface Figure {
  name: string;
  /** Letters as in the list of inputs; empty for a figure that is read off a model. */
  formula: string;
  value: number;
  unit:
    "tokens" | "share" | "steps" | "times" | "bytes" | "seconds" | "tokens/s";
}

/** How often drafts are right, as one of the two numbers that go by the name of acceptance. */
export type Acceptance =
  /** Accepted / drafted tokens, over all positions: r. */
  | { kind: "rate"; value: number }
  /** Of a draft, given that those before it were accepted: a. */
  | { kind: "conditional"; value: number };

export interface SpeculationInput {
  acceptance: Acceptance;
  /** Drafts of a step: k. */
  numSpeculativeTokens: number;
  /** Cost of drafting one token, in plain decoding steps of the target: c. */
  draftCost: number;
  /** What each further row to verify adds to a step, in plain decoding steps: v. */
  rowCost: number;
}

/** The most drafts of a step that `bestLength` looks at. */
const LONGEST = 16;

/**
 * Tokens that a step brings, the recovered or bonus token included: 1 + r k, which is what an acceptance rate means, or
 * with conditional acceptance the sum of a^i over i = 0..k (Leviathan et al. 2023, "Fast Inference from Transformers via
 * Speculative Decoding", equation 1).
 */
export function tokensPerStep({ kind, value }: Acceptance, k: number): number {
  if (kind === "rate") return value * k + 1;
  // By Horner's rule: the closed form loses its digits near a = 1.
  let tokens = 1;
  for (let i = 0; i < k; i++) tokens = 1 + value * tokens;
  return tokens;
}

/** Steps of plain decoding that a speculated step takes (with v = 0 the denominator of theorem 3.8 there). */
export function stepCost(
  { draftCost, rowCost }: Omit<SpeculationInput, "acceptance">,
  k: number,
): number {
  return 1 + k * (draftCost + rowCost);
}

/** The a with which drafts of length k are accepted at rate r; by bisection, as the sum grows with a. */
export function conditionalAcceptanceOf(rate: number, k: number): number {
  let low = 0;
  let high = 1;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    const tokens = tokensPerStep({ kind: "conditional", value: middle }, k);
    if (tokens < rate * k + 1) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

export function estimateSpeculation(input: SpeculationInput): Figure[] {
  const { acceptance, numSpeculativeTokens: k } = input;
  const { kind, value } = acceptance;
  const tokens = tokensPerStep(acceptance, k);
  const cost = stepCost(input, k);
  const conditional =
    kind === "conditional" ? value : conditionalAcceptanceOf(value, k);
  const best = bestLength(conditional, input);
  return [
    {
      name: "tokens per step",
      formula: kind === "rate" ? "r k + 1" : "(1 - a^(k+1)) / (1 - a)",
      value: tokens,
      unit: "tokens",
    },
    kind === "rate"
      ? {
          name: "conditional acceptance",
          formula: "the a of (1 - a^(k+1)) / (1 - a) = r k + 1",
          value: conditional,
          unit: "share",
        }
      : {
          name: "acceptance rate",
          formula: "(tokens per step - 1) / k",
          value: (tokens - 1) / k,
          unit: "share",
        },
    {
      name: "cost of a step",
      formula: "1 + k (c + v)",
      value: cost,
      unit: "steps",
    },
    {
      name: "speed-up",
      formula: "tokens per step / cost of a step",
      value: tokens / cost,
      unit: "times",
    },
    {
      name: "best length",
      formula: `the k of 0..${LONGEST} with the largest speed-up at this a`,
      value: best.k,
      unit: "tokens",
    },
    {
      name: "its speed-up",
      formula: "(1 - a^(k+1)) / (1 - a) / (1 + k (c + v))",
      value: best.speedUp,
      unit: "times",
    },
  ];
}

function bestLength(
  conditional: number,
  costs: Omit<SpeculationInput, "acceptance">,
): { k: number; speedUp: number } {
  let best = { k: 0, speedUp: 1 };
  for (let k = 1; k <= LONGEST; k++) {
    const tokens = tokensPerStep(
      { kind: "conditional", value: conditional },
      k,
    );
    const speedUp = tokens / stepCost(costs, k);
    if (speedUp > best.speedUp) best = { k, speedUp };
  }
  return best;
}

export interface MemoryInput {
  weights: WeightCounts;
  /** Of a packed weight: b. */
  bits: number;
  /** Weights that share a scale (16 bits) and a zero point (b bits); 0: none do: g. */
  groupSize: number;
  /** K and V of all layers: values that a token of context takes: h. Null: not known, the KV cache is left out. */
  kvValuesPerToken: number | null;
  kvBits: number;
  /** Tokens of context of each sequence: t, and sequences: s. */
  contextLen: number;
  batchSize: number;
  /** Bytes per second; null: not known: w. */
  bandwidth: number | null;
}

const DENSE_BITS = 16;
const SCALE_BITS = 16;

/** Bits that a packed weight takes with its share of its group's scale and zero point. */
export function bitsPerWeight(bits: number, groupSize: number): number {
  return groupSize === 0 ? bits : bits + (SCALE_BITS + bits) / groupSize;
}

export function estimateMemory(input: MemoryInput): Figure[] {
  const { weights, bits, groupSize, bandwidth, batchSize } = input;
  const perWeight = bitsPerWeight(bits, groupSize);
  const read = (weights.packed * perWeight + weights.dense * DENSE_BITS) / 8;
  const held = read + (weights.embedding * DENSE_BITS) / 8;
  const packed = groupSize === 0 ? "n b / 8" : "n (b + (16 + b) / g) / 8";
  const figures: Figure[] = [
    {
      name: "weights",
      formula: `${packed} + (m + e) 16 / 8`,
      value: held,
      unit: "bytes",
    },
  ];
  const kv = kvBytes(input);
  if (kv !== null)
    figures.push(
      { name: "KV cache", formula: "s t h B / 8", value: kv, unit: "bytes" },
      {
        name: "both",
        formula: "weights + KV cache",
        value: held + kv,
        unit: "bytes",
      },
    );
  if (bandwidth !== null)
    figures.push(...floorOf(read, kv, bandwidth, batchSize));
  return figures;
}

function kvBytes(input: MemoryInput): number | null {
  const { batchSize, contextLen, kvValuesPerToken, kvBits } = input;
  return kvValuesPerToken === null
    ? null
    : (batchSize * contextLen * kvValuesPerToken * kvBits) / 8;
}

/** No decoding step is faster than its bytes over the bandwidth. */
function floorOf(
  weights: number,
  kv: number | null,
  bandwidth: number,
  batchSize: number,
): Figure[] {
  const bytes = weights + (kv ?? 0);
  const seconds = bytes / bandwidth;
  return [
    {
      name: "read by a step",
      formula: `weights - e 16 / 8${kv === null ? "" : " + KV cache"}`,
      value: bytes,
      unit: "bytes",
    },
    {
      name: "floor of a step",
      formula: "read by a step / w",
      value: seconds,
      unit: "seconds",
    },
    {
      name: "at the floor",
      formula: "s / floor of a step",
      value: batchSize / seconds,
      unit: "tokens/s",
    },
  ];
}
