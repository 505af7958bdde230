import type {
  LinearQuantization,
  Quantization,
} from "../../models/checkpoint.js";
import type { Fields } from "./fields.js";
import { isObject } from "./fields.js";
import { requireFourBits, unsupportedField } from "./quantization-fields.js";

/** Modules that a config group is for, or that are left as they are. */
type Matcher = (module: string) => boolean;

interface Group {
  matches: Matcher;
  scheme: LinearQuantization;
}

/**
 * The config of compressed-tensors, format pack-quantized: config_groups with targets, and modules to ignore; both are
 * class names ("Linear" is the only class here), module names or, after "re:", patterns from the name's start.
 */
export function compressedTensors(fields: Fields): Quantization {
  requireFormat(fields);
  for (const field of [
    "kv_cache_scheme",
    "sparsity_config",
    "transform_config",
  ])
    requireEmpty(fields, field);
  const container = fields.object("config_groups");
  if (!container || Object.keys(container.values).length === 0)
    throw fields.fail("config_groups", "at least one group");
  const groups = Object.keys(container.values).map((name) => {
    const group = container.object(name);
    if (!group) throw container.fail(name, "an object");
    return parseGroup(group);
  });
  const ignored = fields
    .strings("ignore", [])
    .map((pattern) => matcher(fields, "ignore", pattern));
  return {
    method: "compressed-tensors",
    schemeOf: (module) =>
      ignored.some((matches) => matches(module))
        ? null
        : (groups.find((group) => group.matches(module))?.scheme ?? null),
  };
}

function requireFormat(fields: Fields): void {
  const format = fields.string("format", "pack-quantized");
  if (format !== "pack-quantized")
    throw unsupportedField(
      fields,
      "format",
      `${format} is not built. Built: pack-quantized.`,
    );
}

/** What changes the result and is not built must not be there. */
function requireEmpty(fields: Fields, field: string): void {
  const value = fields.raw(field) ?? null;
  if (value === null || (isObject(value) && Object.keys(value).length === 0))
    return;
  throw unsupportedField(fields, field, "is not built");
}

function parseGroup(group: Fields): Group {
  requireFormat(group);
  requireEmpty(group, "input_activations");
  requireEmpty(group, "output_activations");
  const weights = group.object("weights");
  if (!weights) throw group.fail("weights", "an object");
  const targets = group
    .strings("targets")
    .map((target) => matcher(group, "targets", target));
  return {
    matches: (module) => targets.some((matches) => matches(module)),
    scheme: parseWeights(weights),
  };
}

function parseWeights(weights: Fields): LinearQuantization {
  requireFourBits(weights, "num_bits");
  const type = weights.string("type", "int");
  if (type !== "int")
    throw unsupportedField(
      weights,
      "type",
      `${type} is not built. Built: int.`,
    );
  if (weights.boolean("dynamic", false))
    throw unsupportedField(weights, "dynamic", "dynamic weights are not built");
  requireStoredOrder(weights);
  return {
    scheme: "compressed-int4",
    groupSize: groupSizeOf(weights),
    zeroOffset: 0,
    symmetric: weights.boolean("symmetric", true),
  };
}

/** "weight" (also called "static") quantizes in another order but stores plain groups; the others need an index. */
function requireStoredOrder(weights: Fields): void {
  const order = weights.raw("actorder") ?? false;
  if (order !== false && order !== "weight" && order !== "static")
    throw unsupportedField(
      weights,
      "actorder",
      `${JSON.stringify(order)}: groups in the order of activations are not built`,
    );
}

function groupSizeOf(weights: Fields): number {
  const grouped = (weights.raw("group_size") ?? -1) !== -1;
  const strategy = weights.string("strategy", grouped ? "group" : "tensor");
  if (strategy === "group") return weights.int("group_size", 1, 1 << 20);
  if (strategy === "channel") return 0;
  throw unsupportedField(
    weights,
    "strategy",
    `${strategy} is not built. Built: group, channel.`,
  );
}

function matcher(fields: Fields, field: string, pattern: string): Matcher {
  if (!pattern.startsWith("re:"))
    return (module) => pattern === "Linear" || module === pattern;
  let expression: RegExp;
  try {
    expression = new RegExp(`^(?:${pattern.slice(3)})`);
  } catch (error) {
    throw fields.fail(
      field,
      `patterns that can be read (${(error as Error).message})`,
    );
  }
  return (module) => expression.test(module);
}
