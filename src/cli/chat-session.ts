import type { ChatInput } from "./chat-input.js";
import {
  ChatFailure,
  streamChat,
  type Answer,
  type ChatMessage,
  type ChatSettings,
  type ChatTarget,
} from "./chat-client.js";

const HELP = `/reset         forget the conversation (the system text stays)
/system TEXT   set the system text; without TEXT there is none
/help          this
/exit          end (also Ctrl-D)
//TEXT         send a text that begins with a slash
A line that ends with a backslash goes on in the next one. Ctrl-C stops an answer.`;

export interface SessionOptions {
  target: ChatTarget;
  settings: ChatSettings;
  system: string | undefined;
  stdout: NodeJS.WriteStream;
  /** Everything that is not the model's: notices and figures. */
  stderr: NodeJS.WriteStream;
}

/** A conversation: what was said, and what the lines of the user do to it. */
export class ChatSession {
  /** True once an answer failed. */
  failed = false;
  private readonly messages: ChatMessage[] = [];
  private system: string | undefined;
  /** Of the answer that is being written. */
  private running: AbortController | null = null;
  /** Ctrl-C came since the last line: the next one ends the chat. */
  private interrupted = false;

  constructor(private readonly options: SessionOptions) {
    this.system = options.system;
  }

  /** Reads and answers until the end of input or /exit. */
  async run(input: ChatInput): Promise<void> {
    for (;;) {
      const text = await input.nextText();
      this.interrupted = false;
      if (text === null || /^\/(exit|quit)\s*$/.test(text)) return;
      if (text.trim() === "") continue;
      if (/^\/(?!\/)/.test(text)) this.command(text);
      else await this.ask(text.replace(/^\/\//, "/"));
    }
  }

  /** Ctrl-C: stops the answer, or ends the chat where there is none or it came before. True: end it. */
  interrupt(): boolean {
    if (this.interrupted) return true;
    this.interrupted = true;
    if (this.running) this.running.abort();
    else this.notice("\n(Ctrl-C again, or Ctrl-D, ends the chat.)");
    return false;
  }

  get answering(): boolean {
    return this.running !== null;
  }

  private command(line: string): void {
    const [, name = "", rest = ""] = /^\/(\S*)\s*([^]*)$/.exec(line) ?? [];
    if (name === "help") this.notice(HELP);
    else if (name === "reset") {
      this.messages.length = 0;
      this.notice("The conversation begins anew.");
    } else if (name === "system") {
      this.system = rest.trim() === "" ? undefined : rest.trim();
      this.notice(
        this.system === undefined
          ? "There is no system text."
          : "The system text is set.",
      );
    } else
      this.notice(
        `There is no command /${name}; /help lists them, and //${name} sends the text.`,
      );
  }

  private async ask(content: string): Promise<void> {
    const { target, settings, stdout } = this.options;
    const system: ChatMessage[] =
      this.system === undefined
        ? []
        : [{ role: "system", content: this.system }];
    const question: ChatMessage = { role: "user", content };
    const running = new AbortController();
    this.running = running;
    let column = "";
    const text = (part: string): void => {
      stdout.write(part);
      column = part;
    };
    const endLine = (): void => {
      if (column !== "" && !column.endsWith("\n")) stdout.write("\n");
    };
    try {
      const answer = await streamChat(
        target,
        settings,
        [...system, ...this.messages, question],
        { text, reasoning: (part) => this.dim(part) },
        running.signal,
      );
      endLine();
      this.keep(question, answer);
      this.report(answer);
    } catch (error) {
      if (!(error instanceof ChatFailure)) throw error;
      endLine();
      this.failed = true;
      this.notice(explain(error));
    } finally {
      this.running = null;
    }
  }

  /** An answer that was stopped counts as far as it came; a question without any is as if never asked. */
  private keep(question: ChatMessage, { text }: Answer): void {
    if (text === "") return;
    this.messages.push(question, { role: "assistant", content: text });
  }

  private report(answer: Answer): void {
    const { tokens, rate, ttft, finishReason } = answer;
    const parts = [`${tokens} tokens`];
    if (rate !== null) parts.push(`${rate.toFixed(1)} tokens/s`);
    if (ttft !== null) parts.push(`TTFT ${ttft.toFixed(3)} s`);
    this.dim(`(${parts.join(", ")})\n`);
    if (finishReason === null) this.notice("Stopped.");
    else if (finishReason === "length") this.notice(this.whyCutOff(tokens));
    else if (answer.text === "")
      this.notice("The model answered nothing; the question was not kept.");
  }

  private whyCutOff(tokens: number): string {
    const { max_tokens } = this.options.settings;
    return max_tokens !== undefined && tokens >= max_tokens
      ? `Cut off at --max-tokens ${max_tokens}.`
      : "Cut off: the context is full. /reset begins a new conversation.";
  }

  private dim(text: string): void {
    const { stderr } = this.options;
    const plain = !stderr.isTTY || process.env["NO_COLOR"] !== undefined;
    stderr.write(plain ? text : `\x1b[2m${text}\x1b[22m`);
  }

  private notice(text: string): void {
    this.options.stderr.write(`${text}\n`);
  }
}

function explain(error: ChatFailure): string {
  return error.contextFull
    ? `The conversation does not fit the model's context any more (${error.message}). /reset begins a new one; the last question was not kept, so a shorter one may fit.`
    : `${error.message} (The question was not kept.)`;
}
