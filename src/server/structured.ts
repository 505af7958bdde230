import { MAX_NESTING, nestsTooDeep } from "../core/nesting.js";
import type { GrammarSpec } from "../grammar/spec.js";
import { invalidField, unsupportedField } from "./errors.js";

/** Fields of a body that constrain its output. */
export interface StructuredBody {
  response_format?: unknown;
  structured_outputs?: unknown;
  guided_json?: unknown;
  guided_regex?: unknown;
  guided_choice?: unknown;
  guided_grammar?: unknown;
  guided_json_object?: unknown;
  guided_whitespace_pattern?: unknown;
}

type Fields = Readonly<Record<string, unknown>>;

const MAX_CHOICES = 4096;

const FIXED_WHITE_SPACE = "white space is fixed";

/**
 * What the output must be, or null: anything. vLLM's `guided_*` say the same as `structured_outputs`. Errors: 400 that
 * names the field; whether a schema or a grammar can be had is found out when it is compiled.
 */
export function structuredSpec(body: StructuredBody): GrammarSpec | null {
  if (!isAbsent(body.guided_whitespace_pattern))
    throw unsupportedField("guided_whitespace_pattern", FIXED_WHITE_SPACE);
  const found = [
    responseFormat(body.response_format),
    structuredOutputs(body.structured_outputs),
    jsonSpec(body.guided_json, "guided_json"),
    regexSpec(body.guided_regex, "guided_regex"),
    choiceSpec(body.guided_choice, "guided_choice"),
    grammarSpec(body.guided_grammar, "guided_grammar"),
    objectSpec(body.guided_json_object, "guided_json_object"),
  ].filter((entry) => entry !== null);
  const [first, second] = found;
  if (first && second)
    throw invalidField(
      second.param,
      `nothing beside ${first.param}: an output has one constraint`,
      body[second.param.split(".")[0] as keyof StructuredBody],
    );
  return first?.spec ?? null;
}

interface Found {
  param: string;
  spec: GrammarSpec;
}

function responseFormat(value: unknown): Found | null {
  const param = "response_format";
  if (isAbsent(value)) return null;
  const format = fieldsOf(value, param);
  switch (format["type"]) {
    case "text":
      return null;
    case "json_object": {
      // llama.cpp's server and others take a schema here.
      const schema = jsonSpec(format["schema"], `${param}.schema`);
      return { param, spec: schema?.spec ?? { kind: "json_object" } };
    }
    case "json_schema":
      return schemaFormat(format["json_schema"], `${param}.json_schema`);
    default:
      throw invalidField(
        `${param}.type`,
        "one of text, json_object, json_schema",
        format["type"],
      );
  }
}

function schemaFormat(value: unknown, param: string): Found {
  const { name, strict, schema } = fieldsOf(value, param);
  if (!isAbsent(name) && typeof name !== "string")
    throw invalidField(`${param}.name`, "a string", name);
  if (!isAbsent(strict) && typeof strict !== "boolean")
    throw invalidField(`${param}.strict`, "true or false", strict);
  const place = `${param}.schema`;
  // With strict or without, what comes out is valid.
  return {
    param: "response_format",
    spec: {
      kind: "json_schema",
      schema: fieldsOf(schema, place),
      param: place,
    },
  };
}

/** Options of vLLM's that choose among things which are fixed here: the values that change nothing. */
const FIXED_OPTIONS: readonly [field: string, harmless: unknown[], string][] = [
  ["disable_fallback", [true, false], "there is no other backend"],
  ["disable_any_whitespace", [true, false], "white space is always fixed"],
  ["disable_additional_properties", [false], "say so in the schema"],
  ["whitespace_pattern", [], FIXED_WHITE_SPACE],
  ["structural_tag", [], "not built"],
];

function structuredOutputs(value: unknown): Found | null {
  const param = "structured_outputs";
  if (isAbsent(value)) return null;
  const options = fieldsOf(value, param);
  for (const [field, harmless, why] of FIXED_OPTIONS)
    if (!isAbsent(options[field]) && !harmless.includes(options[field]))
      throw unsupportedField(`${param}.${field}`, why);
  const found = [
    jsonSpec(options["json"], `${param}.json`),
    regexSpec(options["regex"], `${param}.regex`),
    choiceSpec(options["choice"], `${param}.choice`),
    grammarSpec(options["grammar"], `${param}.grammar`),
    objectSpec(options["json_object"], `${param}.json_object`),
  ].filter((entry) => entry !== null);
  const [only, second] = found;
  if (!only || second)
    throw invalidField(
      param,
      "exactly one of json, regex, choice, grammar, json_object",
      value,
    );
  return { param, spec: only.spec };
}

/** A schema, or its text. */
function jsonSpec(value: unknown, param: string): Found | null {
  if (isAbsent(value)) return null;
  const schema = typeof value === "string" ? parsed(value, param) : value;
  if (typeof schema !== "boolean") fieldsOf(schema, param);
  return { param, spec: { kind: "json_schema", schema, param } };
}

function parsed(text: string, param: string): unknown {
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch {
    throw invalidField(param, "a JSON schema, or one as JSON text", text);
  }
  if (nestsTooDeep(schema))
    throw invalidField(
      param,
      `at most ${MAX_NESTING} levels of lists and objects`,
      text,
    );
  return schema;
}

function regexSpec(value: unknown, param: string): Found | null {
  const pattern = textOf(value, param);
  if (pattern === null) return null;
  return { param, spec: { kind: "regex", pattern, param } };
}

function grammarSpec(value: unknown, param: string): Found | null {
  const grammar = textOf(value, param);
  if (grammar === null) return null;
  return { param, spec: { kind: "ebnf", grammar, param } };
}

function choiceSpec(value: unknown, param: string): Found | null {
  if (isAbsent(value)) return null;
  const strings =
    Array.isArray(value) &&
    value.length > 0 &&
    value.length <= MAX_CHOICES &&
    value.every((entry) => typeof entry === "string" && entry !== "");
  if (!strings)
    throw invalidField(
      param,
      `a list of 1 to ${MAX_CHOICES} strings that are not empty`,
      value,
    );
  const parts = (value as string[]).map((entry): GrammarSpec => ({
    kind: "text",
    text: entry,
  }));
  return { param, spec: { kind: "choice", parts } };
}

function objectSpec(value: unknown, param: string): Found | null {
  if (isAbsent(value) || value === false) return null;
  if (value !== true) throw invalidField(param, "true or false", value);
  return { param, spec: { kind: "json_object" } };
}

function isAbsent(value: unknown): boolean {
  return value === null || value === undefined;
}

function textOf(value: unknown, param: string): string | null {
  if (isAbsent(value)) return null;
  if (typeof value === "string" && value !== "") return value;
  throw invalidField(param, "a string that is not empty", value);
}

function fieldsOf(value: unknown, param: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Fields;
  throw invalidField(param, "an object", value);
}
