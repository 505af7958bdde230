/** The output of a chat model, in pieces of text -> the events of an assistant's turn. */
import { TurnEvents, type TurnEvent } from "./events.js";
import { ReasoningSplitter, type ReasoningFormat } from "./reasoning.js";
import { markersOf, type ToolCallFormat } from "./tool-call-format.js";
import { ToolCallParser, type KnownTools } from "./tool-call-parser.js";

export interface TurnOptions {
  /** Null: reasoning is not looked for. */
  readonly reasoning: {
    readonly format: ReasoningFormat;
    /** The prompt ends inside of the reasoning. */
    readonly begun: boolean;
  } | null;
  /** Null: calls are not looked for. */
  readonly calls: {
    readonly format: ToolCallFormat;
    readonly tools: KnownTools;
    /** Further calls are dropped. */
    readonly maxCalls: number;
  } | null;
}

export class TurnParser {
  private readonly events: TurnEvents;
  private readonly calls: ToolCallParser | null;
  private readonly splitter: ReasoningSplitter | null;

  constructor({ reasoning, calls }: TurnOptions) {
    const events = new TurnEvents(calls?.maxCalls);
    this.events = events;
    this.calls =
      calls === null
        ? null
        : new ToolCallParser(calls.format, calls.tools, events);
    const rest = (text: string): void => this.rest(text);
    this.splitter =
      reasoning === null
        ? null
        : new ReasoningSplitter(
            reasoning.format,
            reasoning.begun,
            events,
            rest,
          );
  }

  /** Calls told of so far. */
  get numCalls(): number {
    return this.events.numCalls;
  }

  /** What comes next is reasoning, as far as can be told. */
  get reasoning(): boolean {
    return this.splitter?.inside ?? false;
  }

  push(text: string): TurnEvent[] {
    if (this.splitter === null) this.rest(text);
    else this.splitter.push(text);
    return this.events.take();
  }

  /** The output has ended. */
  end(): TurnEvent[] {
    this.splitter?.end();
    this.calls?.end();
    return this.events.take();
  }

  private rest(text: string): void {
    if (this.calls === null) this.events.text(text);
    else this.calls.push(text);
  }
}

/** The strings that a parser with these options must see even if they are special tokens. */
export function markersNeeded({ reasoning, calls }: TurnOptions): string[] {
  return [
    ...(reasoning === null
      ? []
      : [reasoning.format.start, reasoning.format.end]),
    ...(calls === null ? [] : markersOf(calls.format).all),
  ];
}
