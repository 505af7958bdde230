import type {
  LinearQuantization,
  Quantization,
} from "../../models/checkpoint.js";
import { compressedTensors } from "./compressed-tensors.js";
import { Fields } from "./fields.js";
import { requireFourBits, unsupportedField } from "./quantization-fields.js";

export const SUPPORTED_QUANTIZATIONS = [
  "awq (gemm)",
  "gptq",
  "compressed-tensors (pack-quantized)",
];

const DENSE: Quantization = { method: "none", schemeOf: () => null };

/**
 * Reads quantization_config (or compression_config, its older name) of a config.json.
 * Errors: `unsupported_model` naming what is not built and why; `invalid_model` for fields of wrong types.
 */
export function parseQuantization(
  values: Readonly<Record<string, unknown>>,
  file = "config.json",
): Quantization {
  const config = new Fields(file, values);
  const fields =
    config.object("quantization_config") ?? config.object("compression_config");
  if (!fields) return DENSE;
  const method = fields.string("quant_method").toLowerCase();
  switch (method) {
    case "awq":
      return awq(fields);
    case "gptq":
      return gptq(fields);
    case "compressed-tensors":
      return compressedTensors(fields);
    default:
      throw unsupportedField(
        fields,
        "quant_method",
        `${method} is not built. Built: ${SUPPORTED_QUANTIZATIONS.join(", ")}.`,
      );
  }
}

/** The field under its name in config.json, or its older one. */
function spelling(fields: Fields, name: string, older: string): string {
  return !fields.has(name) && fields.has(older) ? older : name;
}

/** -1 (one group for all inputs) becomes 0. */
function groupSizeOf(fields: Fields, field: string): number {
  const size = fields.int(field, -1, 1 << 20);
  if (size === 0) throw fields.fail(field, "-1 or a number above 0");
  return Math.max(size, 0);
}

/** AutoAWQ's config; modules_to_not_convert match by substring. */
function awq(fields: Fields): Quantization {
  requireFourBits(fields, spelling(fields, "bits", "w_bit"));
  const version = fields.string("version", "gemm").toLowerCase();
  if (version !== "gemm")
    throw unsupportedField(
      fields,
      "version",
      `${version} packs its weights in another order than gemm, the one that is built`,
    );
  if (!fields.boolean("zero_point", true))
    throw unsupportedField(
      fields,
      "zero_point",
      "AWQ without zero points is not built",
    );
  const scheme: LinearQuantization = {
    scheme: "awq-int4",
    groupSize: groupSizeOf(
      fields,
      spelling(fields, "group_size", "q_group_size"),
    ),
    zeroOffset: 0,
    symmetric: false,
  };
  const dense = ["lm_head", ...fields.strings("modules_to_not_convert", [])];
  return {
    method: "awq",
    schemeOf: (module) =>
      dense.some((part) => module.includes(part)) ? null : scheme,
  };
}

/** AutoGPTQ's and GPTQModel's config. */
function gptq(fields: Fields): Quantization {
  requireFourBits(fields, "bits");
  const groupSize = groupSizeOf(fields, "group_size");
  // With one group the order of activations decides nothing.
  if (fields.boolean("desc_act", false) && groupSize !== 0)
    throw unsupportedField(
      fields,
      "desc_act",
      "groups in the order of activations (act-order) are not built",
    );
  const { values: dynamic } = fields.object("dynamic") ?? { values: {} };
  if (Object.keys(dynamic).length > 0)
    throw unsupportedField(
      fields,
      "dynamic",
      "settings per module are not built",
    );
  if (fields.string("pack_dtype", "int32") !== "int32")
    throw unsupportedField(fields, "pack_dtype", "only int32 is built");
  const zeroOffset = gptqZeroOffset(fields);
  const scheme: LinearQuantization = {
    scheme: "gptq-int4",
    groupSize,
    zeroOffset,
    symmetric: fields.boolean("sym", true),
  };
  const quantizedHead = fields.boolean("lm_head", false);
  const dense = fields.strings("modules_to_not_convert", []);
  return {
    method: "gptq",
    schemeOf: (module) =>
      (module === "lm_head" && !quantizedHead) ||
      dense.some((part) => module.includes(part))
        ? null
        : scheme,
  };
}

/** The first format stores z - 1, the second z. */
function gptqZeroOffset(fields: Fields): number {
  const format = fields.boolean("is_marlin_format", false)
    ? "marlin"
    : fields.string("checkpoint_format", "gptq").toLowerCase();
  if (format === "gptq") return 1;
  if (format === "gptq_v2") return 0;
  throw unsupportedField(
    fields,
    "checkpoint_format",
    `${format} is packed for other kernels. Built: gptq, gptq_v2.`,
  );
}
