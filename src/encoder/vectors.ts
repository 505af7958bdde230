import { OctavoError } from "../core/errors.js";

/** The vector cut to its first `dimensions` numbers, then, if asked, brought to length 1. Errors: `internal_error` for NaN. */
export function finishVector(
  raw: Float32Array,
  dimensions: number | null,
  normalize: boolean,
): Float32Array {
  const vector = dimensions === null ? raw.slice() : raw.slice(0, dimensions);
  let squares = 0;
  for (const value of vector) squares += value * value;
  if (!Number.isFinite(squares))
    throw new OctavoError(
      "internal_error",
      "The embedding model gave a number that is none (NaN or infinity).",
    );
  if (normalize && squares > 0) {
    const scale = 1 / Math.sqrt(squares);
    for (let i = 0; i < vector.length; i++)
      vector[i] = (vector[i] ?? 0) * scale;
  }
  return vector;
}

/** Cosine of the angle between two vectors of the same width, -1 to 1; 0 where one of them is 0. */
export function cosine(a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let squaresA = 0;
  let squaresB = 0;
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    dot += x * y;
    squaresA += x * x;
    squaresB += y * y;
  }
  const scale = Math.sqrt(squaresA) * Math.sqrt(squaresB);
  return scale === 0 ? 0 : Math.max(-1, Math.min(1, dot / scale));
}

export const sigmoid = (logit: number): number => 1 / (1 + Math.exp(-logit));
