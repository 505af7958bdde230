import { OctavoError } from "../../core/errors.js";
import type { ChatTemplate } from "../chat-template.js";
import { detectToolCalls, printsTools } from "./detect-tool-calls.js";
import {
  detectReasoning,
  REASONING_FORMATS,
  type ReasoningFormat,
} from "./reasoning.js";
import {
  markersOf,
  TOOL_CALL_FORMATS,
  type ToolCallFormat,
} from "./tool-call-format.js";

/** What a model's turns look like: read off its chat template, or named by the operator. */
export interface Dialect {
  readonly calls: ToolCallFormat | null;
  readonly reasoning: ReasoningFormat | null;
  /** Tools of a request reach the model. */
  readonly printsTools: boolean;
}

export interface DialectOptions {
  /** A name of TOOL_CALL_FORMATS, "auto" (the template's) or "none". Default "auto". */
  readonly toolCallParser?: string | undefined;
  /** A name of REASONING_FORMATS, "auto" (the template's) or "none". Default "auto". */
  readonly reasoningParser?: string | undefined;
}

/** Errors: `invalid_config` for a parser that there is not. */
export function dialectOf(
  template: ChatTemplate,
  { toolCallParser = "auto", reasoningParser = "auto" }: DialectOptions = {},
): Dialect {
  const render: Parameters<typeof detectToolCalls>[0] = (
    messages,
    tools,
    addGenerationPrompt,
  ) => template.render(messages, { tools, addGenerationPrompt });
  const detected = template.available ? detectToolCalls(render) : null;
  const calls = choose(
    "--tool-call-parser",
    toolCallParser,
    TOOL_CALL_FORMATS,
    () => detected,
  );
  return {
    calls: isVariant(detected, calls) ? detected : calls,
    reasoning: choose(
      "--reasoning-parser",
      reasoningParser,
      REASONING_FORMATS,
      () => detectReasoning(template.sources),
    ),
    printsTools: template.available && printsTools(render),
  };
}

/**
 * Whether a template's own calls begin as those of the format do and go on otherwise: Mistral's models have written a list
 * behind [TOOL_CALLS], a name and an object, and [ARGS] between the two. A name means the family, as in vLLM.
 */
function isVariant(
  detected: ToolCallFormat | null,
  format: ToolCallFormat | null,
): boolean {
  if (detected === null || format === null) return false;
  const [own, other] = [markersOf(detected), markersOf(format)];
  const holdJson = [detected, format].every(
    ({ payload: { kind } }) => kind === "json" || kind === "named",
  );
  const same =
    JSON.stringify(detected.payload) === JSON.stringify(format.payload);
  return !own.bare && own.all[0] === other.all[0] && holdJson && !same;
}

function choose<T>(
  flag: string,
  name: string,
  known: Readonly<Record<string, T>>,
  detect: () => T | null,
): T | null {
  if (name === "auto") return detect();
  if (name === "none") return null;
  const format = Object.hasOwn(known, name) ? known[name] : undefined;
  if (format !== undefined) return format;
  throw new OctavoError(
    "invalid_config",
    `${flag}: expected one of auto, none, ${Object.keys(known).join(", ")}, got ${name}`,
    flag,
  );
}
