import { describeError, describeFailure } from "../../bench/serve/http.js";
import { EventReader } from "../page/event-reader.js";
import { OctavoError, reasonOf } from "../core/errors.js";

/** A server with OpenAI's API. */
export interface ChatTarget {
  /** Ends in /v1. */
  baseUrl: string;
  apiKey: string | null;
}

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Fields of a request that stay the same for the whole chat; undefined: the server's own. */
export interface ChatSettings {
  model: string;
  temperature?: number | undefined;
  top_p?: number | undefined;
  max_tokens?: number | undefined;
  seed?: number | undefined;
}

export interface Answer {
  text: string;
  /** Null where the answer was stopped from this side. */
  finishReason: string | null;
  tokens: number;
  /** Seconds from sending to the first text; null: no text came. */
  ttft: number | null;
  /** Tokens per second after what came with the first text; null: nothing came after it. */
  rate: number | null;
}

/** Why there is no (whole) answer. */
export class ChatFailure extends Error {
  override readonly name = "ChatFailure";
  constructor(
    message: string,
    /** The conversation is longer than the model's context. */
    readonly contextFull = false,
  ) {
    super(message);
  }
}

interface Chunk {
  choices?: {
    delta?: {
      content?: string | null;
      reasoning_content?: string | null;
      reasoning?: string | null;
    } | null;
    finish_reason?: string | null;
  }[];
  usage?: { completion_tokens?: number } | null;
  error?: unknown;
}

/** http(s)://HOST:PORT, with or without /v1. Errors: `invalid_config`. */
export function chatBaseUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol !== "http:" && url?.protocol !== "https:")
    throw new OctavoError(
      "invalid_config",
      `--url: expected http://HOST:PORT or https://HOST:PORT, got "${text}".`,
      "url",
    );
  return `${text.replace(/\/+$/, "").replace(/\/v1$/, "")}/v1`;
}

/** The first model that the server has. Throws ChatFailure. */
export async function firstModel(target: ChatTarget): Promise<string> {
  const response = await send(target, "/models", {});
  const list = (await response.json().catch(() => null)) as {
    data?: { id?: unknown }[];
  } | null;
  const id = list?.data?.[0]?.id;
  if (typeof id === "string") return id;
  throw new ChatFailure(
    `${target.baseUrl}/models: expected a list of models, got something else: name one with --model`,
  );
}

/**
 * Sends a conversation and tells of its answer as it comes. `signal` ends it early, which is no failure.
 * Throws ChatFailure, also in the middle of an answer.
 */
export async function streamChat(
  target: ChatTarget,
  settings: ChatSettings,
  messages: readonly ChatMessage[],
  on: { text: (text: string) => void; reasoning: (text: string) => void },
  signal: AbortSignal,
): Promise<Answer> {
  const reader = new AnswerReader(on);
  try {
    const response = await send(target, "/chat/completions", {
      method: "POST",
      body: JSON.stringify({
        ...settings,
        messages,
        stream: true,
        stream_options: { include_usage: true },
      }),
      signal,
    });
    for await (const bytes of response.body ?? []) reader.push(bytes);
  } catch (error) {
    if (signal.aborted) return reader.answer();
    if (error instanceof ChatFailure) throw error;
    throw new ChatFailure(`The stream broke off: ${reasonOf(error)}`);
  }
  reader.checkEnd();
  return reader.answer();
}

class AnswerReader {
  private readonly sent = performance.now();
  /** performance.now() of the bytes that are being read, of the first text, and of the last. */
  private now = this.sent;
  private first: number | null = null;
  private last = 0;
  private text = "";
  private chunks = 0;
  /** A read may bring several; those of the first one cost no time that could be measured. */
  private firstChunks = 0;
  private usage: number | null = null;
  private finishReason: string | null = null;
  private readonly events = new EventReader((data) => this.event(data));

  constructor(
    private readonly on: {
      text: (text: string) => void;
      reasoning: (text: string) => void;
    },
  ) {}

  push(bytes: Uint8Array): void {
    this.now = performance.now();
    this.events.push(bytes);
  }

  private event(data: string): void {
    if (data === "[DONE]") return;
    let chunk: Chunk;
    try {
      chunk = JSON.parse(data) as Chunk;
    } catch {
      throw new ChatFailure(`Not a chunk in the stream: ${data.slice(0, 200)}`);
    }
    if (chunk.error != null)
      throw failureOf(`The server broke off${describeError(data)}`, data);
    this.usage = chunk.usage?.completion_tokens ?? this.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    this.finishReason = choice.finish_reason ?? this.finishReason;
    const { content, reasoning_content, reasoning } = choice.delta ?? {};
    const thought = reasoning_content ?? reasoning ?? "";
    if (!content && thought === "") return;
    this.last = this.now;
    this.first ??= this.now;
    this.chunks++;
    if (this.first === this.now) this.firstChunks++;
    if (thought !== "") this.on.reasoning(thought);
    if (!content) return;
    this.text += content;
    this.on.text(content);
  }

  /** A connection may end without an error in the middle of an answer. */
  checkEnd(): void {
    if (this.finishReason === null)
      throw new ChatFailure("The stream ended in the middle of the answer.");
  }

  answer(): Answer {
    const { text, finishReason, first, chunks } = this;
    // A server without usage sends about a token a chunk.
    const tokens = this.usage ?? chunks;
    return {
      text,
      finishReason,
      tokens,
      ttft: first === null ? null : (first - this.sent) / 1000,
      rate: this.rate(tokens),
    };
  }

  private rate(tokens: number): number | null {
    const { first, last, chunks, firstChunks } = this;
    if (first === null || last === first) return null;
    const after = tokens * (1 - firstChunks / chunks);
    return after / ((last - first) / 1000);
  }
}

async function send(
  { baseUrl, apiKey }: ChatTarget,
  path: string,
  init: RequestInit,
): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(baseUrl + path, {
      ...init,
      headers: {
        "content-type": "application/json",
        ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
      },
    });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ChatFailure(`Cannot reach ${baseUrl}: ${reasonOf(error)}`);
  }
  if (response.ok) return response;
  const body = await response.text().catch(() => "");
  const { status } = response;
  const hint = status === 401 ? " (--api-key KEY)" : "";
  throw failureOf(describeFailure(status, body) + hint, body);
}

/** OpenAI's code for a conversation that is too long, or what servers without codes say. */
function failureOf(message: string, body: string): ChatFailure {
  return new ChatFailure(
    message,
    /context_length_exceeded|maximum context length|context (size|window|length)/i.test(
      body,
    ),
  );
}
