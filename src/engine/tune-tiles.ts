import type {
  LinearShape,
  LinearTunerHandle,
  TileChoice,
} from "../runner/addon.js";

/** The fastest tile of one shape for one range of rows. */
export interface MeasuredTile {
  tile: string;
  microseconds: number;
}

/** By shape, then by the range's most rows. */
export type TileTable = Map<string, Map<number, MeasuredTile>>;

/** Rows of the smallest tile: what has fewer is one call like another. */
const LEAST_ROWS = 16;

/** The most rows of each range that a tile is chosen for: 16, 32, ... up to the first that covers `maxRows`. */
export function rowRanges(maxRows: number): number[] {
  const ranges = [LEAST_ROWS];
  for (let most = LEAST_ROWS; most < maxRows;) ranges.push((most *= 2));
  return ranges;
}

/** A range of rows of a shape that the table has no tile for. */
interface Open {
  shape: LinearShape;
  mostRows: number;
}

/** What is left to measure, few rows first: decoding is what most time goes to. */
export function openRanges(
  shapes: readonly LinearShape[],
  table: TileTable,
): Open[] {
  const open: Open[] = [];
  for (const shape of shapes)
    for (const mostRows of rowRanges(shape.maxRows))
      if (!table.get(shape.name)?.has(mostRows)) open.push({ shape, mostRows });
  return open.sort((a, b) => a.mostRows - b.mostRows);
}

export interface TuneOptions {
  budgetSeconds: number;
  /** Seconds, ascending. */
  clock: () => number;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface TuneResult {
  /** Ranges measured, and ranges that the budget left to the backend's own choice. */
  measured: number;
  left: number;
  seconds: number;
}

/** Measures what `table` lacks and puts it there, until the budget is spent. Throws what the tuner throws. */
export function tuneTiles(
  tuner: Pick<LinearTunerHandle, "candidates" | "time">,
  shapes: readonly LinearShape[],
  table: TileTable,
  { budgetSeconds, clock, onProgress }: TuneOptions,
): TuneResult {
  const open = openRanges(shapes, table);
  const start = clock();
  let measured = 0;
  for (const { shape, mostRows } of open) {
    if (clock() - start >= budgetSeconds) break;
    const best = fastest(tuner, shape, Math.min(mostRows, shape.maxRows));
    measured++;
    onProgress?.(measured, open.length);
    if (!best) continue;
    const ofShape = table.get(shape.name) ?? new Map<number, MeasuredTile>();
    table.set(shape.name, ofShape);
    ofShape.set(mostRows, best);
  }
  return { measured, left: open.length - measured, seconds: clock() - start };
}

/** Null: the shape has no tiles (the backend has no kernels for it, and says so when it is loaded). */
function fastest(
  tuner: Pick<LinearTunerHandle, "candidates" | "time">,
  shape: LinearShape,
  rows: number,
): MeasuredTile | null {
  let best: MeasuredTile | null = null;
  for (const tile of tuner.candidates(shape.name, rows)) {
    const microseconds = tuner.time(shape.name, rows, tile);
    if (!best || microseconds < best.microseconds)
      best = { tile, microseconds };
  }
  return best;
}

/** What the table has for these shapes, as the runner takes it. */
export function tileChoices(
  shapes: readonly LinearShape[],
  table: TileTable,
): TileChoice[] {
  const choices: TileChoice[] = [];
  for (const { name, maxRows } of shapes)
    for (const mostRows of rowRanges(maxRows)) {
      const measured = table.get(name)?.get(mostRows);
      if (measured)
        choices.push({ shape: name, mostRows, tile: measured.tile });
    }
  return choices;
}
