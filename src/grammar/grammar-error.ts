import { OctavoError } from "../core/errors.js";

/** A constraint that can't be built: names the place (`schema.properties.a`), what was expected, and what came. */
export function refused(param: string, message: string): OctavoError {
  return new OctavoError("invalid_request", `${param}: ${message}`, param);
}
