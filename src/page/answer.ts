/// <reference lib="dom" />
import { apiKey, errorOf, request, ServerError } from "./api.js";
import { EventReader } from "./event-reader.js";

export interface ToolCall {
  id: string;
  name: string;
  /** JSON, as the model wrote it. */
  arguments: string;
}

interface Chunk {
  choices?: {
    delta?: {
      content?: string | null;
      reasoning_content?: string | null;
      tool_calls?: {
        index: number;
        id?: string;
        function?: { name?: string; arguments?: string };
      }[];
    };
    finish_reason?: string | null;
  }[];
  usage?: Usage | null;
  error?: unknown;
}

interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
}

/** An answer while it comes and when it is there. */
export class Answer {
  readonly role = "assistant";
  text = "";
  reasoning = "";
  readonly toolCalls: ToolCall[] = [];
  state: "waiting" | "streaming" | "done" | "stopped" | "failed" = "waiting";
  finishReason: string | null = null;
  usage: Usage | null = null;
  error: ServerError | null = null;
  /** Milliseconds from sending to the first piece; null: none came. */
  ttft: number | null = null;
  /** Tokens per second after what came with the first piece; null: nothing came after it. */
  tokensPerSecond: number | null = null;
  private pieces = 0;
  private firstPieces = 0;

  /** Something of it can be shown, and sent back as part of the conversation. */
  get hasContent(): boolean {
    return this.text !== "" || this.toolCalls.length > 0;
  }

  /**
   * Asks for a chat completion and fills itself with it; `changed` hears of each piece. Never rejects: what went wrong
   * is in `error`. `signal` stops it, which is no error.
   */
  async receive(
    body: object,
    signal: AbortSignal,
    changed: () => void,
  ): Promise<void> {
    try {
      await this.read(body, signal, changed);
      this.state = "done";
    } catch (error) {
      this.state = signal.aborted ? "stopped" : "failed";
      if (!signal.aborted)
        this.error =
          error instanceof ServerError
            ? error
            : new ServerError(
                `The answer broke off: ${String(error)}`,
                null,
                "",
              );
    }
    changed();
  }

  private async read(
    body: object,
    signal: AbortSignal,
    changed: () => void,
  ): Promise<void> {
    const sent = performance.now();
    const response = await request("v1/chat/completions", apiKey, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    const events = new EventReader((data) => this.event(data));
    const bytes = response.body?.getReader();
    for (;;) {
      const read = await bytes?.read();
      if (read?.value === undefined) break;
      const before = this.pieces;
      events.push(read.value);
      if (this.pieces > before) this.measure(sent, performance.now());
      changed();
    }
    if (this.finishReason === null)
      throw new ServerError(
        "The connection ended in the middle of the answer.",
        null,
        "",
      );
    this.measureRate();
  }

  private event(data: string): void {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error != null) throw errorOf(data, null);
    this.usage = chunk.usage ?? this.usage;
    const choice = chunk.choices?.[0];
    if (choice === undefined) return;
    this.finishReason = choice.finish_reason ?? this.finishReason;
    const { content, reasoning_content, tool_calls } = choice.delta ?? {};
    if (content) this.text += content;
    if (reasoning_content) this.reasoning += reasoning_content;
    for (const { index, id, function: part } of tool_calls ?? []) {
      const call = (this.toolCalls[index] ??= {
        ...{ id: "", name: "", arguments: "" },
      });
      call.id ||= id ?? "";
      call.name += part?.name ?? "";
      call.arguments += part?.arguments ?? "";
    }
    if (content || reasoning_content || tool_calls) this.pieces++;
  }

  private first = 0;
  private last = 0;

  private measure(sent: number, now: number): void {
    if (this.ttft === null) {
      this.ttft = now - sent;
      this.first = now;
      // A read may bring several; those of the first one took no time that could be measured.
      this.firstPieces = this.pieces;
      this.state = "streaming";
    }
    this.last = now;
  }

  private measureRate(): void {
    const { first, last, pieces, firstPieces } = this;
    if (last <= first || pieces === 0) return;
    const tokens = this.usage?.completion_tokens ?? pieces;
    const later = tokens * (1 - firstPieces / pieces);
    this.tokensPerSecond = later / ((last - first) / 1000);
  }
}
