import type { Random } from "../random.js";

/** Inputs that share a scale: AWQ's group. */
export const GROUP_SIZE = 128;
/** Inputs of a Q4_0 block. */
export const BLOCK_SIZE = 32;
/** What stands for 0 in both formats. */
const ZERO_POINT = 8;
/** AWQ's "gemm" layout: nibble i of a word is column 8c + ORDER[i]. */
const ORDER = [0, 2, 4, 6, 1, 3, 5, 7] as const;

/** weight[n][k] = (values[n][k] - 8) x scales[n][k / 128]. */
export interface Int4Weights {
  outputs: number;
  inputs: number;
  /** Uint8 [outputs x inputs], each 0 to 15. */
  values: Uint8Array;
  /** f16 bits [outputs x inputs / 128]. */
  scales: Uint16Array;
}

/** Weights whose products with inputs of variance 1 have a variance near 1. */
export function randomInt4(
  random: Random,
  outputs: number,
  inputs: number,
): Int4Weights {
  const values = new Uint8Array(outputs * inputs);
  for (let i = 0; i < values.length; i += 8) {
    const word = random.word();
    for (let j = 0; j < 8; j++) values[i + j] = (word >>> (4 * j)) & 15;
  }
  // (q - 8) has a mean square of 21.5; an f16 with this exponent and any mantissa is one to two times the power of two.
  const exponent = 15 + Math.floor(Math.log2(1 / Math.sqrt(21.5 * inputs)));
  const scales = new Uint16Array((outputs * inputs) / GROUP_SIZE);
  for (let i = 0; i < scales.length; i++)
    scales[i] = (exponent << 10) | (random.word() & 0x3ff);
  return { outputs, inputs, values, scales };
}

/** qweight Int32 [inputs, outputs / 8], qzeros Int32 [inputs / 128, outputs / 8], scales f16 [inputs / 128, outputs]. */
export function packAwq({ outputs, inputs, values, scales }: Int4Weights): {
  qweight: Int32Array;
  qzeros: Int32Array;
  scales: Uint16Array;
} {
  const words = outputs / 8;
  const groups = inputs / GROUP_SIZE;
  const qweight = new Int32Array(inputs * words);
  for (let n = 0; n < outputs; n++) {
    const shift = 4 * ORDER.indexOf((n % 8) as 0);
    for (let k = 0, at = n >>> 3; k < inputs; k++, at += words)
      qweight[at] =
        (qweight[at] ?? 0) | ((values[n * inputs + k] ?? 0) << shift);
  }
  const byGroup = new Uint16Array(scales.length);
  for (let n = 0; n < outputs; n++)
    for (let g = 0; g < groups; g++)
      byGroup[g * outputs + n] = scales[n * groups + g] ?? 0;
  const qzeros = new Int32Array(groups * words).fill(0x11111111 * ZERO_POINT);
  return { qweight, qzeros, scales: byGroup };
}

/** Q4_0 blocks [outputs, inputs / 32] of 18 bytes: the f16 scale; byte j has value j low and value j + 16 high. */
export function packQ4({
  outputs,
  inputs,
  values,
  scales,
}: Int4Weights): Uint8Array {
  const blocks = (outputs * inputs) / BLOCK_SIZE;
  const bytes = new Uint8Array(blocks * 18);
  for (let block = 0, at = 0; block < blocks; block++) {
    const scale = scales[Math.floor(block / (GROUP_SIZE / BLOCK_SIZE))] ?? 0;
    bytes[at++] = scale & 0xff;
    bytes[at++] = scale >>> 8;
    const first = block * BLOCK_SIZE;
    for (let j = first; j < first + 16; j++)
      bytes[at++] = (values[j] ?? 0) | ((values[j + 16] ?? 0) << 4);
  }
  return bytes;
}

/**
 * GGUF's Llama rotates neighbours (2i, 2i + 1), the Hugging Face layout halves (i, i + headDim / 2): rows of each head in
 * the order that makes the two the same. 0 heads: nothing is rotated.
 */
export function permuteRope(weights: Int4Weights, heads: number): Int4Weights {
  if (heads === 0) return weights;
  const { outputs, inputs } = weights;
  const half = outputs / heads / 2;
  const groups = inputs / GROUP_SIZE;
  const values = new Uint8Array(weights.values.length);
  const scales = new Uint16Array(weights.scales.length);
  for (let row = 0; row < outputs; row++) {
    const inHead = row % (2 * half);
    const from = row - inHead + (inHead % 2) * half + (inHead >>> 1);
    values.set(
      weights.values.subarray(from * inputs, (from + 1) * inputs),
      row * inputs,
    );
    scales.set(
      weights.scales.subarray(from * groups, (from + 1) * groups),
      row * groups,
    );
  }
  return { ...weights, values, scales };
}
