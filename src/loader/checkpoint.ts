import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import type { Checkpoint, CheckpointTensor } from "../../models/checkpoint.js";
import type { OctavoError } from "../core/errors.js";
import { Fields, invalidModel, readJsonFile } from "./fields.js";
import { readSafetensorsHeader } from "./safetensors.js";

export const SINGLE = "model.safetensors";
export const INDEX = "model.safetensors.index.json";

/**
 * The tensors of a model directory: model.safetensors, or the shards that model.safetensors.index.json names. Reads
 * headers only. Errors: `invalid_model` naming the file, shard or tensor.
 */
export function readCheckpoint(directory: string): Checkpoint {
  // The reference implementation prefers the single file too.
  if (existsSync(path.join(directory, SINGLE)))
    return readShards(directory, [SINGLE], null);
  const index = readJsonFile(path.join(directory, INDEX), INDEX);
  if (!index) throw noWeights(directory);
  const shardOf = parseWeightMap(index);
  return readShards(directory, [...new Set(shardOf.values())].sort(), shardOf);
}

function readShards(
  directory: string,
  names: string[],
  shardOf: Map<string, string> | null,
): Checkpoint {
  const tensors = new Map<string, CheckpointTensor>();
  const files: string[] = [];
  let fileBytes = 0;
  for (const name of names) {
    const file = path.join(directory, name);
    if (!existsSync(file))
      throw invalidModel(INDEX, `shard ${name} is missing`, name);
    const header = readSafetensorsHeader(file, name);
    for (const { name: tensor, dtype, shape, offset } of header.tensors)
      // What the index doesn't name in this shard is not part of the model.
      if (!shardOf || shardOf.get(tensor) === name)
        tensors.set(tensor, {
          name: tensor,
          file: files.length,
          offset,
          dtype,
          shape,
        });
    files.push(file);
    fileBytes += header.fileBytes;
  }
  for (const [tensor, shard] of shardOf ?? [])
    if (!tensors.has(tensor))
      throw invalidModel(INDEX, `tensor ${tensor} is not in ${shard}`, tensor);
  return { files, fileBytes, tensors };
}

/** Tensor -> shard of an index of shards. Errors: `invalid_model` naming the tensor. */
export function parseWeightMap(
  index: Readonly<Record<string, unknown>>,
): Map<string, string> {
  const map = new Fields(INDEX, index).object("weight_map");
  if (!map || Object.keys(map.values).length === 0)
    throw invalidModel(INDEX, "expected a weight_map", "weight_map");
  const shardOf = new Map<string, string>();
  for (const tensor of Object.keys(map.values)) {
    const shard = map.string(tensor);
    // A name with folders in it could lead out of the model's directory.
    if (
      !shard.endsWith(".safetensors") ||
      shard !== path.basename(shard) ||
      shard.includes("\0")
    )
      throw map.fail(tensor, "the name of a .safetensors file beside it");
    shardOf.set(tensor, shard);
  }
  return shardOf;
}

function noWeights(directory: string): OctavoError {
  const others = readdirSync(directory).filter((name) =>
    /\.(gguf|bin|pth|pt|onnx|safetensors)$/.test(name),
  );
  const came =
    others.length === 0
      ? "no weights"
      : others.slice(0, 3).join(", ") + (others.length > 3 ? ", ..." : "");
  return invalidModel(
    directory,
    `expected ${SINGLE} or ${INDEX}, got ${came}. (--load-format dummy needs no weights.)`,
  );
}
