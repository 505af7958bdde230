/** Tools of /v1/messages. */
import type { Dialect } from "../text/turn/dialect.js";
import { invalidField, shown, unsupportedField } from "./errors.js";
import {
  checkDialect,
  checkName,
  checkParameters,
  checkUnique,
  isFields,
  type Fields,
  type Tool,
  type ToolChoice,
  type ToolUse,
} from "./tools.js";

/** Errors: 400 that names the path. */
export function readTools(
  body: {
    readonly tools?: readonly Fields[] | null;
    readonly tool_choice?: unknown;
  },
  dialect: Dialect,
): ToolUse {
  const tools = (body.tools ?? []).map((tool, i) =>
    readTool(tool, `tools[${i}]`),
  );
  checkUnique(tools, (i) => `tools[${i}].name`);
  const asked = body.tool_choice;
  if (asked != null && !isFields(asked))
    throw invalidField("tool_choice", "an object", asked);
  const choice = readChoice(asked ?? null, tools);
  if (choice !== "none") checkDialect(dialect);
  const single = asked?.["disable_parallel_tool_use"];
  checkBoolean(single, "tool_choice.disable_parallel_tool_use");
  return { tools, choice, parallel: single !== true };
}

function readTool(tool: Fields, param: string): Tool {
  const { type, name, input_schema, strict, description } = tool;
  if (type != null && type !== "custom")
    throw unsupportedField(
      `${param}.type`,
      `tools of this server's own are not built; only "custom" is, got ${shown(type)}`,
    );
  checkName(`${param}.name`, name);
  if (!isFields(input_schema))
    throw invalidField(
      `${param}.input_schema`,
      "a JSON Schema of an object",
      input_schema,
    );
  if (description != null && typeof description !== "string")
    throw invalidField(`${param}.description`, "a string", description);
  checkBoolean(strict, `${param}.strict`);
  refuseToolFields(tool, param);
  return {
    name,
    parameters: checkParameters(input_schema, `${param}.input_schema`),
    strict: strict === true,
    param: `${param}.input_schema`,
  };
}

export function checkBoolean(value: unknown, param: string): void {
  if (value != null && typeof value !== "boolean")
    throw invalidField(param, "true or false", value);
}

/** What would change which tools the model sees, and how. */
function refuseToolFields(tool: Fields, param: string): void {
  const { defer_loading, allowed_callers, input_examples } = tool;
  if (defer_loading != null && defer_loading !== false)
    throw unsupportedField(
      `${param}.defer_loading`,
      "searching for tools is not built: the model is told of all of them",
    );
  const direct =
    allowed_callers == null ||
    (Array.isArray(allowed_callers) && allowed_callers.includes("direct"));
  if (!direct)
    throw unsupportedField(
      `${param}.allowed_callers`,
      'only calls by the model ("direct") are built',
    );
  const examples = Array.isArray(input_examples) ? input_examples.length : 1;
  if (input_examples != null && examples > 0)
    throw unsupportedField(
      `${param}.input_examples`,
      "chat templates have no place for examples; put them into the description",
    );
}

function readChoice(choice: Fields | null, tools: readonly Tool[]): ToolChoice {
  if (choice === null) return tools.length > 0 ? "auto" : "none";
  const { type, name } = choice;
  if (type === "none") return "none";
  if (type !== "auto" && type !== "any" && type !== "tool")
    throw invalidField("tool_choice.type", "auto, any, tool or none", type);
  if (tools.length === 0)
    throw invalidField("tool_choice", "nothing without tools", choice);
  if (type === "auto") return "auto";
  if (type === "any") return "required";
  if (typeof name === "string" && tools.some((tool) => tool.name === name))
    return { name };
  throw invalidField(
    "tool_choice.name",
    `one of ${tools.map((tool) => tool.name).join(", ")}`,
    name,
  );
}

/** In the shape that chat templates know. */
export function chatTool({ name, description, input_schema }: Fields): Fields {
  return {
    type: "function",
    function: {
      name,
      ...(description != null && { description }),
      parameters: input_schema,
    },
  };
}
