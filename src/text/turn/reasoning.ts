/** How models mark what they think before they answer, and the reader of it. */
import { StopStringMatcher } from "../stop-strings.js";
import type { TurnSink } from "./events.js";

export interface ReasoningFormat {
  readonly start: string;
  readonly end: string;
  /** The output begins inside of the reasoning even where the prompt does not end with `start`. */
  readonly implicit: boolean;
}

const THINK = { start: "<think>", end: "</think>", implicit: false } as const;

/** What --reasoning-parser takes; the names are vLLM's. */
export const REASONING_FORMATS: Readonly<Record<string, ReasoningFormat>> = {
  qwen3: THINK,
  deepseek_r1: { ...THINK, implicit: true },
  glm45: THINK,
  kimi_k2: THINK,
  mistral: { start: "[THINK]", end: "[/THINK]", implicit: false },
  cohere: {
    start: "<|START_THINKING|>",
    end: "<|END_THINKING|>",
    implicit: false,
  },
};

/** The markers that a chat template speaks of, or null. */
export function detectReasoning(
  templateTexts: readonly string[],
): ReasoningFormat | null {
  const { qwen3, mistral, cohere } = REASONING_FORMATS;
  return (
    [qwen3, mistral, cohere].find(
      (format) =>
        format !== undefined &&
        templateTexts.some((text) => text.includes(format.end)),
    ) ?? null
  );
}

/** Whether the answer to `prompt` begins inside of reasoning. */
export function beginsReasoning(
  format: ReasoningFormat,
  prompt: string,
): boolean {
  const text = prompt.trimEnd();
  if (text.endsWith(format.start)) return true;
  return format.implicit && !text.endsWith(format.end);
}

type State = "before" | "inside" | "gap" | "after";

/**
 * Divides the output into reasoning and the rest. Reasoning can only come first; white space around the markers is no
 * part of either. The same for every way of cutting the text.
 */
export class ReasoningSplitter {
  private state: State;
  private matcher: StopStringMatcher;
  /** White space that is told only if more follows. */
  private space = "";
  private begun = false;

  /**
   * @param inside the output begins inside of the reasoning
   * @param rest takes the text that is no reasoning
   */
  constructor(
    private readonly format: ReasoningFormat,
    inside: boolean,
    private readonly sink: Pick<TurnSink, "reasoning">,
    private readonly rest: (text: string) => void,
  ) {
    this.state = inside ? "inside" : "before";
    this.matcher = new StopStringMatcher([inside ? format.end : format.start]);
  }

  /** The next text belongs to the reasoning, as far as can be told. */
  get inside(): boolean {
    return this.state === "inside";
  }

  push(text: string): void {
    for (let i = 0; i < text.length; i++) {
      if (this.state === "after") return this.rest(text.slice(i));
      this.step(text.charAt(i));
    }
  }

  end(): void {
    const held = this.matcher.flush();
    if (this.state === "inside") this.think(held);
    else if (this.state === "before") this.rest(this.space + held);
    this.space = "";
  }

  private step(unit: string): void {
    switch (this.state) {
      case "before":
        return this.beforeMarker(unit);
      case "inside":
        return this.within(unit);
      case "gap":
        if (/\s/.test(unit)) return;
        this.state = "after";
        return this.rest(unit);
      case "after":
        return this.rest(unit);
    }
  }

  private beforeMarker(unit: string): void {
    if (!this.matcher.holding && /\s/.test(unit)) {
      this.space += unit;
      return;
    }
    const { text, stopped } = this.matcher.push(unit);
    if (stopped !== null) {
      this.space = "";
      this.state = "inside";
      this.matcher = new StopStringMatcher([this.format.end]);
    } else if (text !== "") {
      this.state = "after";
      this.rest(this.space + text + this.matcher.flush());
      this.space = "";
    }
  }

  private within(unit: string): void {
    const { text, stopped } = this.matcher.push(unit);
    this.think(text);
    if (stopped === null) return;
    this.space = "";
    this.state = "gap";
  }

  private think(text: string): void {
    const from = this.begun ? text : text.trimStart();
    if (from === "") return;
    const end = from.trimEnd().length;
    if (end > 0) {
      this.sink.reasoning(this.space + from.slice(0, end));
      this.space = "";
      this.begun = true;
    }
    this.space += from.slice(end);
  }
}
