/**
 * Chat templates: Jinja from the model's files or the operator (from a request only where the operator trusts who sends
 * it: a hostile template could take the process down), parsed once and rendered with what transformers gives a template.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { OctavoError, reasonOf } from "../core/errors.js";
import {
  normalizeMessages,
  partText,
  type ChatMessage,
} from "./chat-messages.js";
import { parseTemplate, renderTemplate, type JinjaNode } from "./jinja.js";
import {
  badFile,
  describe,
  isObject,
  readOptionalJsonObject,
  readOptionalText,
  type JsonObject,
} from "./model-files.js";
import { readSpecialTokens } from "./special-tokens.js";
import {
  analyzeTemplate,
  type TemplateExpectations,
} from "./template-analysis.js";
import { templateGlobals } from "./template-globals.js";

export type { ChatMessage } from "./chat-messages.js";

export interface RenderOptions {
  /** Chooses the template named "tool_use" where there is one. */
  readonly tools?: readonly unknown[] | null;
  readonly documents?: readonly unknown[] | null;
  /** End with what makes the model answer. Default: true, unless the final message is to be continued. */
  readonly addGenerationPrompt?: boolean;
  /** End right after the final message's content, so that the model goes on with it. Default false. */
  readonly continueFinalMessage?: boolean;
  /** Further variables; they win over the ones above, as in vLLM. */
  readonly chatTemplateKwargs?: JsonObject | null;
  /** The clock of strftime_now. Default: the system's. */
  readonly now?: Date;
}

interface ParsedTemplate {
  readonly source: string;
  readonly ast: JinjaNode;
  readonly expects: TemplateExpectations;
}

/** Variables that a request must not replace. */
const RESERVED = ["messages", "chat_template", "tokenize", "namespace"];

export class ChatTemplate {
  /**
   * @param templates by name; "default" is the one without tools. Empty: the model has none.
   * @param variables special tokens, by the names that templates use
   */
  constructor(
    private readonly templates: ReadonlyMap<string, ParsedTemplate>,
    private readonly variables: JsonObject,
  ) {}

  /** False where every `render` fails because the model has no template. */
  get available(): boolean {
    return this.templates.size > 0;
  }

  /** The Jinja texts of its templates. */
  get sources(): readonly string[] {
    return [...this.templates.values()].map(({ source }) => source);
  }

  /**
   * Another template for the same model. Errors: `invalid_request` with param "chat_template" where it cannot be parsed.
   */
  withSource(text: string): ChatTemplate {
    try {
      const template = parse(text);
      return new ChatTemplate(new Map([["default", template]]), this.variables);
    } catch (error) {
      throw new OctavoError(
        "invalid_request",
        `chat_template: cannot be parsed: ${reasonOf(error)}`,
        "chat_template",
        { cause: error },
      );
    }
  }

  /**
   * The prompt of a conversation, special tokens included (encode it without adding any).
   * Errors: `invalid_request` with param "messages" where there is no template or it refuses the messages; with the
   * option's name for options that contradict each other; `unsupported` for content the template cannot take.
   */
  render(
    messages: readonly ChatMessage[],
    options: RenderOptions = {},
  ): string {
    const tools =
      options.tools != null && options.tools.length > 0 ? options.tools : null;
    const template = this.choose(tools !== null);
    const continued = options.continueFinalMessage ?? false;
    if (continued && options.addGenerationPrompt === true)
      throw new OctavoError(
        "invalid_request",
        "continue_final_message: expected add_generation_prompt to be false, got both true",
        "continue_final_message",
      );
    let prepared = normalizeMessages(messages, template.expects);
    const mark = continued ? unusedMark(messages) : null;
    if (mark !== null) prepared = appendToFinal(prepared, mark);
    const kwargs = options.chatTemplateKwargs ?? {};
    const globals = templateGlobals(options.now ?? new Date());
    for (const name of [...RESERVED, ...Object.keys(globals)])
      if (Object.hasOwn(kwargs, name))
        throw new OctavoError(
          "invalid_request",
          `chat_template_kwargs: ${name} cannot be set there`,
          "chat_template_kwargs",
        );
    const text = run(template.ast, {
      ...this.variables,
      tools,
      documents: options.documents ?? null,
      add_generation_prompt: options.addGenerationPrompt ?? !continued,
      ...kwargs,
      ...globals,
      messages: prepared,
    });
    return mark === null ? text : cutAtMark(text, mark);
  }

  private choose(withTools: boolean): ParsedTemplate {
    const template =
      (withTools ? this.templates.get("tool_use") : undefined) ??
      this.templates.get("default");
    if (template !== undefined) return template;
    throw new OctavoError(
      "invalid_request",
      this.templates.size === 0
        ? "messages: this model has no chat template; start the server with --chat-template FILE, or use /v1/completions"
        : `messages: this model has no chat template named "default", only ${[...this.templates.keys()].join(", ")}; ` +
            "start the server with --chat-template FILE",
      "messages",
    );
  }
}

function parse(source: string): ParsedTemplate {
  const ast = parseTemplate(source);
  return { source, ast, expects: analyzeTemplate(ast) };
}

function run(ast: JinjaNode, variables: JsonObject): string {
  try {
    return renderTemplate(ast, variables);
  } catch (error) {
    if (error instanceof OctavoError) throw error;
    throw new OctavoError(
      "invalid_request",
      `messages: the chat template cannot render them: ${reasonOf(error)}`,
      "messages",
      { cause: error },
    );
  }
}

/**
 * A text that no message contains, to be found again in the rendered prompt. It ends in a space: whether the space is
 * still there tells whether the template trims contents (transformers finds the place in the same way).
 */
function unusedMark(messages: readonly ChatMessage[]): string {
  const all = JSON.stringify(messages);
  for (let i = 0; ; i++) {
    const mark = `CONTINUE_FROM_HERE_${i}`;
    if (!all.includes(mark)) return `${mark} `;
  }
}

function appendToFinal(
  messages: readonly JsonObject[],
  mark: string,
): JsonObject[] {
  const final = messages.at(-1);
  const content = final?.content;
  const place = Array.isArray(content)
    ? content.findLastIndex((part: unknown) => partText(part) !== null)
    : -1;
  if (typeof content !== "string" && place < 0)
    throw new OctavoError(
      "invalid_request",
      `continue_final_message: expected the final message to have text content, got ${describe(content)}`,
      "continue_final_message",
    );
  const marked =
    typeof content === "string"
      ? content + mark
      : (content as readonly unknown[]).map((part, i) =>
          i === place
            ? {
                ...(isObject(part) ? part : {}),
                text: (partText(part) ?? "") + mark,
              }
            : part,
        );
  return [...messages.slice(0, -1), { ...final, content: marked }];
}

function cutAtMark(text: string, mark: string): string {
  const place = text.lastIndexOf(mark.trimEnd());
  if (place < 0)
    throw new OctavoError(
      "invalid_request",
      "continue_final_message: the model's chat template leaves the final message out of the prompt",
      "continue_final_message",
    );
  const before = text.slice(0, place);
  return text.startsWith(mark, place) ? before : before.trimEnd();
}

/**
 * Finds the model's templates: `override` (the operator's --chat-template), else chat_template.jinja with
 * additional_chat_templates/*.jinja, else chat_template in tokenizer_config.json (a string or a list of named ones).
 * @param override a file, or the text of a template (it contains `{`, `}` or a line break)
 * Errors: `invalid_config` for the override, `invalid_model` for the model's own.
 */
export async function loadChatTemplate(
  modelDir: string,
  override?: string | null,
): Promise<ChatTemplate> {
  const configFile = join(modelDir, "tokenizer_config.json");
  const config = await readOptionalJsonObject(configFile);
  const special = await readSpecialTokens(modelDir, config);
  const variables: Record<string, unknown> = Object.fromEntries(special.named);
  if (special.additional.length > 0)
    variables.additional_special_tokens = special.additional;

  const sources =
    override != null
      ? new Map([["default", await readOverride(override)]])
      : await readModelTemplates(modelDir, configFile, config?.chat_template);
  const templates = new Map<string, ParsedTemplate>();
  for (const [name, source] of sources) {
    try {
      templates.set(name, parse(source.text));
    } catch (error) {
      const problem = `the chat template cannot be parsed: ${reasonOf(error)}`;
      if (override == null) throw badFile(source.from, problem, error);
      throw new OctavoError(
        "invalid_config",
        `${source.from}: ${problem}`,
        "--chat-template",
        {
          cause: error,
        },
      );
    }
  }
  return new ChatTemplate(templates, variables);
}

interface Source {
  readonly from: string;
  readonly text: string;
}

async function readOverride(override: string): Promise<Source> {
  if (/[{}\n]/.test(override))
    return { from: "--chat-template", text: override };
  const text = await readOptionalText(override);
  if (text !== null) return { from: override, text };
  throw new OctavoError(
    "invalid_config",
    `--chat-template: expected a file or the text of a template, but there is no file ${override}`,
    "--chat-template",
  );
}

async function readModelTemplates(
  modelDir: string,
  configFile: string,
  value: unknown,
): Promise<Map<string, Source>> {
  const sources = new Map<string, Source>();
  const file = join(modelDir, "chat_template.jinja");
  const text = await readOptionalText(file);
  if (text !== null) {
    sources.set("default", { from: file, text });
    const folder = join(modelDir, "additional_chat_templates");
    const names = await readdir(folder).catch(() => []);
    for (const name of names.filter((entry) => entry.endsWith(".jinja"))) {
      const from = join(folder, name);
      sources.set(name.slice(0, -".jinja".length), {
        from,
        text: (await readOptionalText(from)) ?? "",
      });
    }
    return sources;
  }
  if (value === undefined || value === null) return sources;
  if (typeof value === "string")
    return sources.set("default", { from: configFile, text: value });
  if (!Array.isArray(value))
    throw badFile(
      configFile,
      `chat_template: expected a string or a list, got ${describe(value)}`,
    );
  value.forEach((entry: unknown, i) => {
    if (
      !isObject(entry) ||
      typeof entry.name !== "string" ||
      typeof entry.template !== "string"
    )
      throw badFile(
        configFile,
        `chat_template[${i}]: expected name and template, got ${describe(entry)}`,
      );
    sources.set(entry.name, { from: configFile, text: entry.template });
  });
  return sources;
}
