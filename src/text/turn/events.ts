/**
 * What an assistant's turn is made of, whatever protocol it is told in: reasoning, text and tool calls, in the order in
 * which the model says them.
 *
 *   reasoning*  (text | call-start call-arguments* call-end)*
 */
export type TurnEvent =
  | { readonly type: "reasoning"; readonly text: string }
  | { readonly type: "text"; readonly text: string }
  /** `call` counts the calls of the turn from 0. */
  | {
      readonly type: "call-start";
      readonly call: number;
      readonly name: string;
    }
  /** A piece of the arguments' JSON text, as the model wrote it: not JSON where the model went wrong or was cut off. */
  | {
      readonly type: "call-arguments";
      readonly call: number;
      readonly text: string;
    }
  | { readonly type: "call-end"; readonly call: number };

/** A call put together from its events. */
export interface ToolCall {
  readonly name: string;
  /** JSON text. */
  readonly arguments: string;
}

export interface Turn {
  readonly reasoning: string;
  readonly text: string;
  readonly calls: readonly ToolCall[];
}

/** Where parsers put what they find. */
export interface TurnSink {
  reasoning(text: string): void;
  text(text: string): void;
  callStart(name: string): void;
  callArguments(text: string): void;
  callEnd(): void;
}

/** Gathers what one piece of output gives; neighbours of a kind become one event. Calls beyond `maxCalls` are dropped. */
export class TurnEvents implements TurnSink {
  private events: TurnEvent[] = [];
  /** Calls that have begun, the dropped ones included. */
  private numBegun = 0;

  constructor(private readonly maxCalls = Infinity) {}

  get numCalls(): number {
    return Math.min(this.numBegun, this.maxCalls);
  }

  reasoning(text: string): void {
    this.append("reasoning", text);
  }

  text(text: string): void {
    this.append("text", text);
  }

  callStart(name: string): void {
    this.numBegun++;
    if (this.muted) return;
    this.events.push({ type: "call-start", call: this.numBegun - 1, name });
  }

  callArguments(text: string): void {
    if (text === "" || this.muted) return;
    const call = this.numBegun - 1;
    const last = this.events.at(-1);
    if (last?.type === "call-arguments" && last.call === call)
      this.events[this.events.length - 1] = { ...last, text: last.text + text };
    else this.events.push({ type: "call-arguments", call, text });
  }

  callEnd(): void {
    if (this.muted) return;
    this.events.push({ type: "call-end", call: this.numBegun - 1 });
  }

  /** The events since the last time. */
  take(): TurnEvent[] {
    const { events } = this;
    this.events = [];
    return events;
  }

  private get muted(): boolean {
    return this.numBegun > this.maxCalls;
  }

  private append(type: "reasoning" | "text", text: string): void {
    if (text === "") return;
    const last = this.events.at(-1);
    if (last?.type === type)
      this.events[this.events.length - 1] = { type, text: last.text + text };
    else this.events.push({ type, text });
  }
}

/** The whole turn of its events. */
export function collectTurn(events: Iterable<TurnEvent>): Turn {
  let reasoning = "";
  let text = "";
  const calls: { name: string; arguments: string }[] = [];
  for (const event of events) {
    if (event.type === "reasoning") reasoning += event.text;
    else if (event.type === "text") text += event.text;
    else if (event.type === "call-start")
      calls.push({ name: event.name, arguments: "" });
    else if (event.type === "call-arguments") {
      const call = calls[event.call];
      if (call !== undefined) call.arguments += event.text;
    }
  }
  return { reasoning, text, calls };
}
