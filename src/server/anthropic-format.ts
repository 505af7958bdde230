import { randomUUID } from "node:crypto";
import type { OctavoError } from "../core/errors.js";
import type { TurnEvent } from "../text/turn/events.js";
import type { TurnParser } from "../text/turn/turn-parser.js";
import { anthropicError } from "./anthropic-errors.js";
import type { AnswerFormat, WholeChoice } from "./answer.js";
import { publicFinish, type Generation } from "./generation.js";
import type { Delta } from "./output.js";
import type { Chunk } from "./sse.js";
import type { TurnPlan } from "./turn-plan.js";

type Block =
  | { type: "thinking"; thinking: string; signature: string }
  | { type: "text"; text: string }
  | { type: "tool_use"; id: string; name: string; input: unknown };

/** Answers in the shape of Anthropic's /v1/messages: a message of blocks, or the events that build it up. */
export class MessagesFormat implements AnswerFormat {
  /** Streams end with an event of their own. */
  readonly terminator = null;
  private readonly id = `msg_${randomUUID().replaceAll("-", "")}`;
  private readonly parser: TurnParser;
  private readonly blocks = new BlockStream();

  constructor(
    private readonly model: string,
    private readonly plan: TurnPlan,
    /** False: blocks of thinking come without their text. */
    private readonly showsThinking: boolean,
  ) {
    this.parser = plan.parser();
  }

  whole(generation: Generation, choices: readonly WholeChoice[]): unknown {
    const choice = choices[0];
    const text = choice?.text ?? "";
    const events = this.visible([
      ...this.parser.push(text),
      ...this.parser.end(),
    ]);
    return {
      ...this.head(),
      content: this.content(events),
      ...(choice !== undefined && this.stop(choice)),
      usage: usage(generation),
    };
  }

  opening(generation: Generation): Chunk[] {
    const message = {
      ...this.head(),
      content: [],
      stop_reason: null,
      stop_sequence: null,
      usage: { ...usage(generation), output_tokens: 0 },
    };
    return [chunk({ type: "message_start", message }), chunk({ type: "ping" })];
  }

  chunk(generation: Generation, _index: number, delta: Delta): Chunk[] {
    const ended = delta.finishReason !== null;
    const events = this.parser.push(delta.text);
    if (ended) events.push(...this.parser.end());
    const chunks = this.visible(events).flatMap((event) =>
      this.blocks.tell(event, () => this.plan.callId("toolu_")),
    );
    if (!ended) return chunks;
    return [
      ...chunks,
      ...this.blocks.end(),
      chunk({
        type: "message_delta",
        delta: this.stop(delta),
        usage: usage(generation),
      }),
      chunk({ type: "message_stop" }),
    ];
  }

  usage(): null {
    return null;
  }

  failure(error: OctavoError): Chunk {
    return { event: "error", data: JSON.stringify(anthropicError(error).body) };
  }

  private visible(events: readonly TurnEvent[]): readonly TurnEvent[] {
    if (this.showsThinking) return events;
    return events.map((event) =>
      event.type === "reasoning" ? { ...event, text: "" } : event,
    );
  }

  private head() {
    return {
      id: this.id,
      type: "message",
      role: "assistant",
      model: this.model,
    };
  }

  private stop(delta: Delta | WholeChoice) {
    const sequence =
      typeof delta.stopReason === "string" ? delta.stopReason : null;
    const length = publicFinish(delta) === "length";
    const reason = length
      ? "max_tokens"
      : sequence !== null
        ? "stop_sequence"
        : this.parser.numCalls > 0
          ? "tool_use"
          : "end_turn";
    return { stop_reason: reason, stop_sequence: sequence };
  }

  private content(events: readonly TurnEvent[]): Block[] {
    const blocks: Block[] = [];
    let json = "";
    for (const event of events) {
      const last = blocks.at(-1);
      if (event.type === "reasoning")
        blocks.push({ type: "thinking", thinking: event.text, signature: "" });
      else if (event.type === "text") blocks.push(textBlock(event.text));
      else if (event.type === "call-start") {
        json = "";
        const id = this.plan.callId("toolu_");
        blocks.push({ type: "tool_use", id, name: event.name, input: {} });
      } else if (event.type === "call-arguments") json += event.text;
      else if (last?.type === "tool_use") {
        const input = parseObject(json);
        // Nobody should run a tool with arguments that the model did not mean.
        if (input === null) blocks[blocks.length - 1] = textBlock(json);
        else last.input = input;
      }
    }
    return blocks;
  }
}

function textBlock(text: string): Block {
  return { type: "text", text };
}

function parseObject(json: string): object | null {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** Prompt tokens that came out of the prefix cache are counted apart, as Anthropic's are. */
function usage(generation: Generation) {
  const { promptTokens, cachedTokens, completionTokens } = generation;
  return {
    input_tokens: promptTokens - cachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
    output_tokens: completionTokens,
  };
}

function chunk(data: {
  readonly type: string;
  readonly [field: string]: unknown;
}): Chunk {
  return { event: data.type, data: JSON.stringify(data) };
}

/** Events of a turn as events of blocks: each is started, grows and stops before the next one starts. */
class BlockStream {
  private index = -1;
  private open: TurnEvent["type"] | null = null;

  tell(event: TurnEvent, newId: () => string): Chunk[] {
    switch (event.type) {
      case "text":
        return [
          ...this.within("text", { type: "text", text: "" }),
          this.delta({ type: "text_delta", text: event.text }),
        ];
      case "reasoning":
        return [
          ...this.within("reasoning", {
            type: "thinking",
            thinking: "",
            signature: "",
          }),
          ...(event.text === ""
            ? []
            : [this.delta({ type: "thinking_delta", thinking: event.text })]),
        ];
      case "call-start": {
        const { name } = event;
        const block = { type: "tool_use", id: newId(), name, input: {} };
        return [...this.end(), ...this.within("call-start", block)];
      }
      case "call-arguments":
        return [
          this.delta({ type: "input_json_delta", partial_json: event.text }),
        ];
      case "call-end":
        return this.end();
    }
  }

  /** Stops the block that is open. */
  end(): Chunk[] {
    if (this.open === null) return [];
    this.open = null;
    return [chunk({ type: "content_block_stop", index: this.index })];
  }

  private within(kind: TurnEvent["type"], block: object): Chunk[] {
    if (this.open === kind) return [];
    const chunks = this.end();
    this.open = kind;
    this.index++;
    const { index } = this;
    chunks.push(
      chunk({ type: "content_block_start", index, content_block: block }),
    );
    return chunks;
  }

  private delta(delta: object): Chunk {
    return chunk({ type: "content_block_delta", index: this.index, delta });
  }
}
