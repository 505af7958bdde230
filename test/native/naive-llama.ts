import { EPS, ROPE_BASE } from "./support.js";
import type { TinyLlama } from "./support.js";

/** Plain forward pass of `tinyLlama` in double, one sequence, no cache: logits of every position. */
export function naiveLogits(model: TinyLlama, tokens: number[]): number[][] {
  const { hidden, layers, vocab } = model.shape;
  const weight = (name: string) =>
    model.values.get(name) ?? new Float32Array(0);
  const x = tokens.map((id) =>
    Array.from(weight("embed").subarray(id * hidden, (id + 1) * hidden)),
  );
  for (let l = 0; l < layers; l++) {
    const normed = x.map((row) => norm(row, weight(`norm1.${l}`)));
    const attended = attention(model, l, normed);
    attended.forEach((row, t) => addTo(x[t], linear(row, weight(`o.${l}.0`))));
    for (const row of x) {
      const input = norm(row, weight(`norm2.${l}`));
      const gate = linear(input, weight(`gateUp.${l}.0`));
      const up = linear(input, weight(`gateUp.${l}.1`));
      const act = gate.map((g, i) => (g / (1 + Math.exp(-g))) * (up[i] ?? 0));
      addTo(row, linear(act, weight(`down.${l}.0`)));
    }
  }
  return x.map((row) =>
    linear(norm(row, weight("norm")), weight("lmHead.0")).slice(0, vocab),
  );
}

function norm(row: number[], weight: Float32Array): number[] {
  const mean = row.reduce((sum, v) => sum + v * v, 0) / row.length;
  return row.map((v, i) => (v / Math.sqrt(mean + EPS)) * (weight[i] ?? 0));
}

/** weight [N, row.length] */
function linear(
  row: number[],
  weight: Float32Array,
  bias?: Float32Array,
): number[] {
  return Array.from({ length: weight.length / row.length }, (_, n) =>
    row.reduce(
      (sum, v, k) => sum + v * (weight[n * row.length + k] ?? 0),
      bias?.[n] ?? 0,
    ),
  );
}

function addTo(target: number[] | undefined, values: number[]): void {
  values.forEach((v, i) => {
    if (target) target[i] = (target[i] ?? 0) + v;
  });
}

function rope(head: number[], position: number): number[] {
  const half = head.length / 2;
  return head.map((v, i) => {
    const angle = position * ROPE_BASE ** ((-2 * (i % half)) / head.length);
    const other = i < half ? -(head[i + half] ?? 0) : (head[i - half] ?? 0);
    return v * Math.cos(angle) + other * Math.sin(angle);
  });
}

function attention(
  model: TinyLlama,
  layer: number,
  normed: number[][],
): number[][] {
  const { heads, kvHeads, headDim } = model.shape;
  const weight = (name: string) =>
    model.values.get(name) ?? new Float32Array(0);
  const project = (part: number) =>
    normed.map((row) =>
      linear(
        row,
        weight(`qkv.${layer}.${part}`),
        weight(`qkv.${layer}.${part}.bias`),
      ),
    );
  const head = (rows: number[][], t: number, h: number) =>
    (rows[t] ?? []).slice(h * headDim, (h + 1) * headDim);
  const [q, k, v] = [project(0), project(1), project(2)];
  return normed.map((_, t) => {
    const out: number[] = [];
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads));
      const query = rope(head(q, t, h), t);
      const scores = Array.from(
        { length: t + 1 },
        (_, s) => dot(query, rope(head(k, s, kv), s)) / Math.sqrt(headDim),
      );
      const max = Math.max(...scores);
      const exps = scores.map((score) => Math.exp(score - max));
      const sum = exps.reduce((a, b) => a + b, 0);
      for (let d = 0; d < headDim; d++)
        out.push(
          exps.reduce(
            (acc, e, s) => acc + (e / sum) * (head(v, s, kv)[d] ?? 0),
            0,
          ),
        );
    }
    return out;
  });
}

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, v, i) => sum + v * (b[i] ?? 0), 0);
}
