import { OctavoError } from "../../core/errors.js";
import type { ChatTemplate } from "../chat-template.js";
import { detectToolCalls, printsTools } from "./detect-tool-calls.js";
import {
  detectReasoning,
  REASONING_FORMATS,
  type ReasoningFormat,
} from "./reasoning.js";
import { TOOL_CALL_FORMATS, type ToolCallFormat } from "./tool-call-format.js";

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
  return {
    calls: choose(
      "--tool-call-parser",
      toolCallParser,
      TOOL_CALL_FORMATS,
      () => (template.available ? detectToolCalls(render) : null),
    ),
    reasoning: choose(
      "--reasoning-parser",
      reasoningParser,
      REASONING_FORMATS,
      () => detectReasoning(template.sources),
    ),
    printsTools: template.available && printsTools(render),
  };
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
