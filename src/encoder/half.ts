/** Every half-precision number as float32, Float32 [65536]; made when it is first needed. */
let table: Float32Array | null = null;

/**
 * Numbers of IEEE 754's binary16.
 * @param bits Uint16 [n]
 * @returns Float32 [n]
 */
export function widen(bits: Uint16Array): Float32Array<ArrayBuffer> {
  table ??= Float32Array.from({ length: 1 << 16 }, (_, half) => valueOf(half));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++)
    out[i] = table[bits[i] as number] as number;
  return out;
}

function valueOf(half: number): number {
  const sign = half >> 15 === 0 ? 1 : -1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  // Subnormal numbers have no hidden one, and the exponent of the smallest normal ones.
  return exponent === 0
    ? sign * fraction * 2 ** -24
    : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
