/** Many short byte strings back to back: string i is bytes[starts[i], starts[i + 1]). */
export interface PackedBytes {
  readonly bytes: Uint8Array;
  /** Int32 [strings + 1] */
  readonly starts: Int32Array;
}

export function packBytes(strings: readonly Uint8Array[]): PackedBytes {
  const starts = new Int32Array(strings.length + 1);
  let end = 0;
  for (const [i, { length }] of strings.entries())
    starts[i + 1] = end += length;
  return { bytes: Buffer.concat(strings, end), starts };
}
