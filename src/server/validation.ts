import type { FastifySchemaValidationError } from "fastify/types/schema.js";
import type { TSchema } from "typebox";
import { Errors, Pointer } from "typebox/value";
import { OctavoError } from "../core/errors.js";
import { checkNesting } from "./body.js";
import { shown } from "./errors.js";

/** An ajv error with `verbose`: `data` is the value at fault. */
type VerboseError = FastifySchemaValidationError & { data?: unknown };

/** Turns ajv's first complaint into a 400 that names the field, what was expected and what came. */
export function schemaError(
  errors: FastifySchemaValidationError[],
): OctavoError {
  const error: VerboseError | undefined = errors[0];
  if (error === undefined)
    return new OctavoError("invalid_request", "The request body is not valid.");
  const path = fieldPath(error.instancePath);
  if (error.keyword === "required") {
    const missing = String(error.params["missingProperty"]);
    const param = path === "" ? missing : `${path}.${missing}`;
    return new OctavoError(
      "invalid_request",
      `${param}: expected a value, got nothing; this field is required`,
      param,
    );
  }
  const where = path === "" ? "body" : path;
  return new OctavoError(
    "invalid_request",
    `${where}: expected ${expectation(error)}, got ${shown(error.data)}`,
    path === "" ? null : path,
  );
}

/** Checks a body that came by another way than HTTP: the same error as there. */
export function checkBody(schema: TSchema, body: unknown): void {
  checkNesting(body);
  const [error] = Errors(schema, body);
  if (error === undefined) return;
  const data: unknown = Pointer.Get(body, error.instancePath);
  throw schemaError([{ ...error, data } as VerboseError]);
}

/** "/messages/0/role" -> "messages[0].role" */
function fieldPath(pointer: string): string {
  return pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .reduce((path, part) => {
      if (/^\d+$/.test(part)) return `${path}[${part}]`;
      return path === "" ? part : `${path}.${part}`;
    }, "");
}

function expectation({ keyword, params, message }: VerboseError): string {
  if (keyword === "type") {
    const type: unknown = params["type"];
    const names = (Array.isArray(type) ? type : [type]).map(String);
    return names.filter((name) => name !== "null").join(" or ");
  }
  if (keyword === "enum")
    return `one of ${(params["allowedValues"] as unknown[]).map(shown).join(", ")}`;
  const limit = shown(params["limit"]);
  switch (keyword) {
    case "minimum":
      return `a number of at least ${limit}`;
    case "maximum":
      return `a number of at most ${limit}`;
    case "exclusiveMinimum":
      return `a number above ${limit}`;
    case "minItems":
      return `at least ${limit} entries`;
    case "maxItems":
      return `at most ${limit} entries`;
    case "minLength":
      return `at least ${limit} characters`;
    case "maxLength":
      return `at most ${limit} characters`;
    default:
      return message ?? "a valid value";
  }
}
