import readline from "node:readline";

/**
 * Lines from a terminal (with editing and history) or from a pipe. Lines that come while an answer is being written wait
 * their turn.
 */
export class ChatInput {
  readonly interactive: boolean;
  private readonly reader: readline.Interface;
  private readonly lines: string[] = [];
  private waiting: ((line: string | null) => void) | null = null;
  private closed = false;

  /** @param onInterrupt Ctrl-C, from the keyboard or as a signal */
  constructor(onInterrupt: () => void) {
    const { stdin, stdout, stderr } = process;
    this.interactive = stdin.isTTY && (stdout.isTTY || stderr.isTTY);
    this.reader = this.interactive
      ? readline.createInterface({
          input: stdin,
          // Answers alone may go to a file.
          output: stdout.isTTY ? stdout : stderr,
        })
      : readline.createInterface({ input: stdin, terminal: false });
    this.reader.on("line", (line) => this.give(line));
    this.reader.on("close", () => {
      this.closed = true;
      if (this.lines.length === 0) this.give(null);
    });
    // In a terminal the keyboard's Ctrl-C arrives as input, not as a signal.
    this.reader.on("SIGINT", onInterrupt);
    process.on("SIGINT", onInterrupt);
  }

  /** The next line, or null at the end (Ctrl-D). */
  next(prompt: string): Promise<string | null> {
    if (this.interactive && !this.closed) {
      this.reader.setPrompt(prompt);
      this.reader.prompt();
    }
    const line = this.lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.closed) return Promise.resolve(null);
    return new Promise((resolve) => (this.waiting = resolve));
  }

  /**
   * The next text: a line, and the ones after it while they end in a backslash. Null at the end.
   */
  async nextText(): Promise<string | null> {
    let text = "";
    for (let prompt = "> "; ; prompt = "… ") {
      const line = await this.next(prompt);
      if (line === null) return text === "" ? null : text;
      if (!line.endsWith("\\")) return text + line;
      text += `${line.slice(0, -1)}\n`;
    }
  }

  /** Throws away what has been typed of a line. False: nothing had been. */
  clearLine(): boolean {
    if (!this.interactive || this.reader.line === "") return false;
    this.reader.write(null, { ctrl: true, name: "e" });
    this.reader.write(null, { ctrl: true, name: "u" });
    return true;
  }

  /** Shows the prompt anew, after something was written below it. */
  showPrompt(): void {
    if (this.interactive) this.reader.prompt();
  }

  close(): void {
    this.reader.close();
  }

  private give(line: string | null): void {
    const { waiting } = this;
    this.waiting = null;
    if (waiting) waiting(line);
    else if (line !== null) this.lines.push(line);
  }
}
