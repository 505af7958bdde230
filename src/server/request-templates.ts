import type { ChatTemplate } from "../text/chat-template.js";
import {
  dialectOf,
  type Dialect,
  type DialectOptions,
} from "../text/turn/dialect.js";
import { unsupportedField } from "./errors.js";

/** How a prompt is written, and how the answer to it is read. */
export interface Turns {
  readonly chatTemplate: ChatTemplate;
  readonly dialect: Dialect;
}

const MAX_KEPT = 16;

/**
 * Chat templates that requests bring (`chat_template`), where the operator trusts who sends them: a template is a program,
 * which may run for ever. Those used last are kept, parsed.
 */
export class RequestTemplates {
  private readonly kept = new Map<string, Turns>();

  /** @param own the model's, for requests without one */
  constructor(
    private readonly own: Turns,
    private readonly options: DialectOptions,
    private readonly trusted: boolean,
  ) {}

  /** Errors: 400 where requests may bring none, and for one that cannot be parsed. */
  of(source: string | null | undefined): Turns {
    if (source == null) return this.own;
    if (!this.trusted)
      throw unsupportedField(
        "chat_template",
        "this server takes no templates of requests; start it with --trust-request-chat-template, or set the template with --chat-template",
      );
    const turns = this.kept.get(source) ?? this.read(source);
    // The order of a Map is that of use.
    this.kept.delete(source);
    this.kept.set(source, turns);
    const [oldest] = this.kept.keys();
    if (this.kept.size > MAX_KEPT && oldest !== undefined)
      this.kept.delete(oldest);
    return turns;
  }

  private read(source: string): Turns {
    const chatTemplate = this.own.chatTemplate.withSource(source);
    return { chatTemplate, dialect: dialectOf(chatTemplate, this.options) };
  }
}
