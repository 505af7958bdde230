/**
 * Rows of the decode graphs up to `largest`, ascending. A step takes the next larger one; the rows that fill it up are
 * computed for nothing: at most 7 of up to 64, and a quarter of more, in tiles that are 16 rows or taller anyway.
 */
export function graphRows(largest: number): Int32Array {
  const rows: number[] = [];
  for (let next = 1; next < largest; next += stepAfter(next)) rows.push(next);
  if (largest > 0) rows.push(largest);
  return Int32Array.from(rows);
}

/** 1, 2, 4, 8, 16, 24 ... 64, 80 ... 128, 160 ... */
function stepAfter(rows: number): number {
  if (rows < 8) return rows;
  if (rows < 64) return 8;
  return rows < 128 ? 16 : 32;
}
