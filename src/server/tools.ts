import { TOOL_NAME } from "../text/turn/payload-reader.js";
import type { KnownTools } from "../text/turn/tool-call-parser.js";
import type { Dialect } from "../text/turn/dialect.js";
import { invalidField, unsupportedField } from "./errors.js";

/** Most tools of a request, as in OpenAI's API. */
export const MAX_TOOLS = 128;

/** A JSON object of a request. */
export type Fields = Readonly<Record<string, unknown>>;

/** A function that the model may call. */
export interface Tool {
  readonly name: string;
  /** JSON Schema of its arguments, an object. */
  readonly parameters: Fields;
  /** The arguments must match the schema. */
  readonly strict: boolean;
  /** Where the request has its schema, for errors: "tools[0].function.parameters". */
  readonly param: string;
}

export type ToolChoice =
  "none" | "auto" | "required" | { readonly name: string };

/** What a request says about tools, checked. */
export interface ToolUse {
  /** Those that may be called: the model is told of no others. */
  readonly tools: readonly Tool[];
  /** "none" where there are no tools. */
  readonly choice: ToolChoice;
  /** Several calls in a turn are welcome. */
  readonly parallel: boolean;
}

/** Errors: 400 that names the path. */
export function checkToolUse(
  body: {
    readonly tools?: readonly unknown[] | null;
    readonly tool_choice?: unknown;
    readonly parallel_tool_calls?: boolean | null;
  },
  dialect: Dialect,
): ToolUse {
  const list = body.tools ?? [];
  if (list.length > MAX_TOOLS)
    throw invalidField("tools", `at most ${MAX_TOOLS} tools`, list.length);
  const tools = list.map((tool, i) => checkTool(tool, `tools[${i}]`));
  checkUnique(tools, (i) => `tools[${i}].function.name`);
  const allowed = checkAllowed(body.tool_choice, tools);
  const choice = allowed?.choice ?? checkChoice(body.tool_choice, tools);
  if (choice !== "none") checkDialect(dialect);
  return {
    tools: allowed?.tools ?? tools,
    choice,
    parallel: body.parallel_tool_calls ?? true,
  };
}

/** {"type":"allowed_tools","allowed_tools":{"mode":...,"tools":[{"type":"function","function":{"name":...}}]}} */
function checkAllowed(
  choice: unknown,
  tools: readonly Tool[],
): AllowedTools | null {
  if (!isFields(choice) || choice["type"] !== "allowed_tools") return null;
  const param = "tool_choice.allowed_tools";
  const allowed = choice["allowed_tools"];
  if (!isFields(allowed)) throw invalidField(param, "an object", allowed);
  return allowedTools(allowed, param, tools, "function.name", nameOf);
}

export interface AllowedTools {
  readonly choice: "auto" | "required";
  readonly tools: readonly Tool[];
}

/**
 * What OpenAI's `allowed_tools` leaves of the tools, and whether one of them must be called. Errors: 400 that names the
 * path below `param`.
 * @param nameOf the name of an entry of its list, found at `path` there; null: it is no entry
 */
export function allowedTools(
  allowed: Fields,
  param: string,
  tools: readonly Tool[],
  path: string,
  nameOf: (entry: Fields) => string | null,
): AllowedTools {
  const { mode, tools: list } = allowed;
  if (mode !== "auto" && mode !== "required")
    throw invalidField(`${param}.mode`, "auto or required", mode);
  if (!Array.isArray(list) || list.length === 0)
    throw invalidField(`${param}.tools`, "a list of at least one tool", list);
  const names = new Set<string>();
  list.forEach((entry: unknown, i) => {
    const name = isFields(entry) ? nameOf(entry) : null;
    if (name === null || !tools.some((tool) => tool.name === name))
      throw invalidField(
        `${param}.tools[${i}].${path}`,
        `one of ${tools.map((tool) => tool.name).join(", ")}`,
        name ?? entry,
      );
    names.add(name);
  });
  return { choice: mode, tools: tools.filter(({ name }) => names.has(name)) };
}

/** Of a request's list of tools, those that the model is told of. */
export function offered<T>(
  list: readonly T[] | null | undefined,
  { tools }: ToolUse,
  nameOf: (entry: T) => unknown,
): T[] {
  const names = new Set<unknown>(tools.map(({ name }) => name));
  return (list ?? []).filter((entry) => names.has(nameOf(entry)));
}

function checkTool(tool: unknown, param: string): Tool {
  if (!isFields(tool)) throw invalidField(param, "an object", tool);
  if (tool["type"] === "custom")
    throw unsupportedField(
      `${param}.type`,
      'custom tools are not built; only "function" is',
    );
  if (tool["type"] !== "function")
    throw invalidField(`${param}.type`, '"function"', tool["type"]);
  const fn = tool["function"];
  if (!isFields(fn)) throw invalidField(`${param}.function`, "an object", fn);
  const { name, description, parameters, strict } = fn;
  checkName(`${param}.function.name`, name);
  if (description != null && typeof description !== "string")
    throw invalidField(
      `${param}.function.description`,
      "a string",
      description,
    );
  if (strict != null && typeof strict !== "boolean")
    throw invalidField(`${param}.function.strict`, "true or false", strict);
  return {
    name,
    parameters: checkParameters(parameters, `${param}.function.parameters`),
    strict: strict === true,
    param: `${param}.function.parameters`,
  };
}

export function checkName(
  param: string,
  name: unknown,
): asserts name is string {
  if (typeof name !== "string" || !TOOL_NAME.test(name))
    throw invalidField(
      param,
      "1 to 128 letters, digits, dots, colons, underscores or dashes",
      name,
    );
}

/** A function without parameters takes none. */
export function checkParameters(parameters: unknown, param: string): Fields {
  if (parameters == null) return { type: "object", properties: {} };
  if (!isFields(parameters))
    throw invalidField(param, "a JSON Schema of an object", parameters);
  const { type, properties } = parameters;
  if (type !== undefined && type !== "object")
    throw invalidField(`${param}.type`, '"object"', type);
  if (properties !== undefined && !isFields(properties))
    throw invalidField(`${param}.properties`, "an object", properties);
  for (const [key, schema] of Object.entries(properties ?? {}))
    if (!isFields(schema) && typeof schema !== "boolean")
      throw invalidField(`${param}.properties.${key}`, "a schema", schema);
  return { type: "object", ...parameters };
}

export function checkUnique(
  tools: readonly Tool[],
  paramOf: (index: number) => string,
): void {
  const seen = new Set<string>();
  tools.forEach(({ name }, i) => {
    if (seen.has(name))
      throw invalidField(paramOf(i), "a name that no other tool has", name);
    seen.add(name);
  });
}

function checkChoice(choice: unknown, tools: readonly Tool[]): ToolChoice {
  if (choice == null) return tools.length > 0 ? "auto" : "none";
  if (choice === "none" || (choice === "auto" && tools.length === 0))
    return "none";
  const named = isFields(choice) ? nameOf(choice) : null;
  if (choice !== "auto" && choice !== "required" && named === null)
    throw invalidField(
      "tool_choice",
      'none, auto, required, {"type":"function","function":{"name":...}} or {"type":"allowed_tools","allowed_tools":...}',
      choice,
    );
  if (tools.length === 0)
    throw invalidField("tool_choice", "none or auto without tools", choice);
  if (named === null) return choice as "auto" | "required";
  if (!tools.some((tool) => tool.name === named))
    throw invalidField(
      "tool_choice.function.name",
      `one of ${tools.map((tool) => tool.name).join(", ")}`,
      named,
    );
  return { name: named };
}

function nameOf(choice: Fields): string | null {
  const fn = choice["function"];
  if (choice["type"] !== "function" || !isFields(fn)) return null;
  return typeof fn["name"] === "string" ? fn["name"] : null;
}

/** A model that is not told of its tools, or whose calls nobody understands, cannot use them. */
export function checkDialect(dialect: Dialect): void {
  if (dialect.calls === null)
    throw unsupportedField(
      "tools",
      "this model's chat template does not show how it writes tool calls; start the server with --tool-call-parser NAME",
    );
  if (!dialect.printsTools)
    throw unsupportedField(
      "tools",
      "this model's chat template has no place for tools; start the server with --chat-template FILE",
    );
}

export function knownTools(tools: readonly Tool[]): KnownTools {
  const byName = new Map(tools.map((tool) => [tool.name, tool.parameters]));
  return {
    names: new Set(byName.keys()),
    isString: (name, argument) => {
      const properties = byName.get(name)?.["properties"];
      const schema = isFields(properties) ? properties[argument] : undefined;
      return isFields(schema) && schema["type"] === "string";
    },
  };
}

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
