/** Ranges of code points as ranges of the bytes that UTF-8 writes them in. */
export type ByteRange = readonly [low: number, high: number];

/** Last code points of one to four bytes. */
const LENGTH_ENDS = [0x7f, 0x7ff, 0xffff, 0x10ffff];

/** Byte ranges whose products are the UTF-8 forms of [low, high], surrogates left out. */
export function utf8Sequences(low: number, high: number): ByteRange[][] {
  if (low > high) return [];
  if (low <= 0xdfff && high >= 0xd800)
    return [
      ...utf8Sequences(low, 0xd7ff),
      ...utf8Sequences(0xe000, high),
    ].filter((bytes) => bytes.length > 0);
  for (const end of LENGTH_ENDS)
    if (low <= end && end < high)
      return [...utf8Sequences(low, end), ...utf8Sequences(end + 1, high)];
  return alignedSequences(low, high);
}

/** The same for code points of one length: split until all but one leading part run over whole blocks of 64. */
function alignedSequences(low: number, high: number): ByteRange[][] {
  const length = LENGTH_ENDS.findIndex((end) => high <= end) + 1;
  for (let i = 1; i < length; i++) {
    const block = (1 << (6 * i)) - 1;
    if ((low & ~block) === (high & ~block)) continue;
    if ((low & block) !== 0)
      return [
        ...alignedSequences(low, low | block),
        ...alignedSequences((low | block) + 1, high),
      ];
    if ((high & block) !== block)
      return [
        ...alignedSequences(low, (high & ~block) - 1),
        ...alignedSequences(high & ~block, high),
      ];
  }
  const from = Buffer.from(String.fromCodePoint(low), "utf8");
  const to = Buffer.from(String.fromCodePoint(high), "utf8");
  return [Array.from(from, (byte, i) => [byte, to[i] as number] as const)];
}
