import { OctavoError } from "../core/errors.js";
import type { TensorSource } from "../program/program.js";
import type { NativeQuantizer } from "../runner/addon.js";
import { readFloats, scaleMatrix } from "./layer-quantizer.js";
import type { LayerQuantizer } from "./layer-quantizer.js";
import type { DenseTensor } from "./output-tensors.js";
import type { SafetensorsWriter } from "./safetensors-writer.js";
import { breathe } from "./walk.js";

/** Values that are converted at a time: an embedding can be gigabytes. */
const PIECE = 1 << 24;

/**
 * Writes what stays dense, in f16, with the scales of the groups that it belongs to folded in.
 * Errors: `invalid_model` naming a tensor whose numbers f16 cannot hold.
 */
export async function writeDenseTensors(
  tensors: readonly DenseTensor[],
  layers: LayerQuantizer,
  native: NativeQuantizer,
  writer: SafetensorsWriter,
  signal: AbortSignal,
): Promise<void> {
  for (const tensor of tensors) {
    let firstRow = 0;
    for (const piece of piecesOf(tensor.source)) {
      const values = readFloats(native, piece);
      fold(values, tensor, layers, firstRow);
      const halves = new Uint16Array(values.length);
      const bad = native.toHalf(values, halves);
      if (bad >= 0)
        throw new OctavoError(
          "invalid_model",
          `tensor ${tensor.name}: expected numbers that f16 can hold, got ${values[bad]}`,
          tensor.name,
        );
      writer.write(tensor.name, halves);
      firstRow += piece.shape[0] ?? 0;
      await breathe(signal);
    }
  }
}

/** The tensor cut along its rows. */
function piecesOf(source: TensorSource): TensorSource[] {
  const [numRows = 1, width] = source.shape;
  if (width === undefined) return [source];
  const rowsAtOnce = Math.max(1, Math.floor(PIECE / width));
  const elementBytes = source.dtype === "f32" ? 4 : 2;
  const pieces: TensorSource[] = [];
  for (let row = 0; row < numRows; row += rowsAtOnce)
    pieces.push({
      ...source,
      offset: source.offset + row * width * elementBytes,
      shape: [Math.min(rowsAtOnce, numRows - row), width],
    });
  return pieces;
}

/** Rows [firstRow, ...) of a linear, or a whole norm or bias, take up the scales of their groups. */
function fold(
  values: Float32Array,
  { node, source }: DenseTensor,
  layers: LayerQuantizer,
  firstRow: number,
): void {
  if (node.op !== "linear" && node.op !== "rmsNorm") return;
  // A tied head's weight is the embedding's, which no group touches.
  const producer = layers.producerScale(node.module);
  if (source.shape.length === 1) {
    // [width] is [width, 1]: a row of the linear for each value.
    scaleMatrix(values, 1, null, producer);
    return;
  }
  const columns = node.op === "linear" ? layers.columnScale(node) : null;
  const rows = producer?.subarray(firstRow) ?? null;
  scaleMatrix(values, source.shape[1] ?? 1, columns, rows);
}
