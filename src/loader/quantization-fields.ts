import { OctavoError } from "../core/errors.js";
import type { Fields } from "./fields.js";

/** An `unsupported_model` error about `field`, with the reason. */
export function unsupportedField(
  fields: Fields,
  field: string,
  reason: string,
): OctavoError {
  const name = fields.prefix + field;
  return new OctavoError(
    "unsupported_model",
    `${fields.file}: ${name}: ${reason}`,
    name,
  );
}

export function requireFourBits(fields: Fields, field: string): void {
  const bits = fields.int(field, 1, 64);
  if (bits !== 4)
    throw unsupportedField(
      fields,
      field,
      `${bits}-bit weights are not built. Built: 4.`,
    );
}
