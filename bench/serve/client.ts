import type { ClientRequest, IncomingMessage } from "node:http";
import { describeError, describeFailure, type HttpClient } from "./http.js";
import type { Outcome, Sample } from "./outcome.js";
import { EventReader } from "../../src/page/event-reader.js";

export type Backend = "openai" | "openai-chat";

export interface RequestSettings {
  backend: Backend;
  endpoint: string;
  model: string;
  ignoreEos: boolean;
  temperature: number;
  /** A request at a temperature above 0 gets this + its index. */
  seed: number;
  /** Seconds after which a request counts as failed. */
  timeout: number;
}

/** The body of request `index`, serialized before the run: nothing is left to do when its time comes. */
export function requestBody(
  sample: Sample,
  index: number,
  settings: RequestSettings,
): Buffer {
  const { prompt, outputLen } = sample;
  const chat = settings.backend === "openai-chat";
  return Buffer.from(
    JSON.stringify({
      model: settings.model,
      ...(chat
        ? {
            messages: [{ role: "user", content: prompt }],
            max_completion_tokens: outputLen,
          }
        : {
            prompt: typeof prompt === "string" ? prompt : Array.from(prompt),
            max_tokens: outputLen,
          }),
      temperature: settings.temperature,
      ...(settings.temperature > 0 && { seed: settings.seed + index }),
      ...(settings.ignoreEos && { ignore_eos: true }),
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
}

/**
 * Sends one request and reads its stream. Never rejects: whatever goes wrong is the outcome's `error`.
 * @param origin performance.now() at the start of the run
 */
export function sendRequest(
  http: HttpClient,
  body: Buffer,
  promptLen: number | null,
  settings: RequestSettings,
  origin: number,
): Promise<Outcome> {
  return new Promise((resolve) => {
    new Exchange(http, body, promptLen, settings, origin, resolve).start();
  });
}

interface Choice {
  text?: string | null;
  delta?: Record<string, unknown> | null;
  finish_reason?: string | null;
}

/** The parts of a chunk that count. */
interface Chunk {
  choices?: (Choice | null)[] | null;
  usage?: { prompt_tokens?: number; completion_tokens?: number } | null;
  error?: unknown;
}

/** One request from send to end. */
class Exchange {
  private readonly sent = performance.now();
  private timer: NodeJS.Timeout | undefined;
  /** performance.now() of the bytes that are being read, and of the last chunk. */
  private now = this.sent;
  private lastChunk = 0;
  private done = false;
  private settled = false;
  private readonly outcome: Outcome;
  private request: ClientRequest | undefined;

  constructor(
    private readonly http: HttpClient,
    private readonly body: Buffer,
    promptLen: number | null,
    private readonly settings: RequestSettings,
    origin: number,
    private readonly resolve: (outcome: Outcome) => void,
  ) {
    this.outcome = {
      error: null,
      promptLen: promptLen ?? 0,
      outputLen: 0,
      startTime: (this.sent - origin) / 1000,
      ttft: 0,
      itls: [],
      latency: 0,
      text: "",
      usageReported: false,
    };
  }

  start(): void {
    const { timeout } = this.settings;
    this.timer = setTimeout(
      () => this.fail(`no end of the answer after ${timeout} s`),
      timeout * 1000,
    );
    this.attempt();
  }

  private attempt(retried = false): void {
    const { endpoint } = this.settings;
    const request = this.http.open("POST", endpoint, this.body);
    this.request = request;
    let answered = false;
    request.on("error", (error: NodeJS.ErrnoException) => {
      if (this.settled) return;
      const stale = request.reusedSocket && error.code === "ECONNRESET";
      // The server closed an idle connection just when we reused it. Once may be that; twice is a server that refuses.
      if (stale && !answered && !retried) this.attempt(true);
      else if (answered) this.breakOff(error);
      else this.fail(describeNetworkError(error));
    });
    request.on("response", (response) => {
      answered = true;
      if (response.statusCode === 200) this.readStream(response);
      else this.readRefusal(response);
    });
    request.end(this.body);
  }

  private readRefusal(response: IncomingMessage): void {
    const parts: Buffer[] = [];
    const end = (): void =>
      this.fail(
        describeFailure(
          response.statusCode ?? 0,
          Buffer.concat(parts).toString("utf8"),
        ),
      );
    response.on("data", (part: Buffer) => parts.push(part));
    response.on("end", end);
    response.on("error", end);
  }

  private readStream(response: IncomingMessage): void {
    const events = new EventReader((data) => this.event(data));
    response.on("data", (bytes: Buffer) => {
      this.now = performance.now();
      events.push(bytes);
    });
    response.on("end", () => this.end());
    response.on("error", (error) => this.breakOff(error));
  }

  private breakOff(error: NodeJS.ErrnoException): void {
    this.fail(`the stream broke off: ${describeNetworkError(error)}`);
  }

  private event(data: string): void {
    if (this.settled) return;
    if (data === "[DONE]") {
      this.done = true;
      return;
    }
    const chunk = parseChunk(data);
    if (chunk === null)
      return this.fail(`not a chunk in the stream: ${data.slice(0, 200)}`);
    if (chunk.error != null)
      return this.fail(`error in the stream${describeError(data)}`);
    this.count(chunk);
    if (chunk.usage == null) return;
    const { prompt_tokens: prompt, completion_tokens: output } = chunk.usage;
    if (typeof prompt === "number") this.outcome.promptLen = prompt;
    if (typeof output !== "number") return;
    this.outcome.outputLen = output;
    this.outcome.usageReported = true;
  }

  private count({ choices }: Chunk): void {
    const choice = choices?.[0];
    if (choice == null || opensOnly(choice)) return;
    const { outcome } = this;
    if (this.lastChunk === 0) outcome.ttft = (this.now - this.sent) / 1000;
    else outcome.itls.push((this.now - this.lastChunk) / 1000);
    this.lastChunk = this.now;
    const text = choice.text ?? choice.delta?.["content"];
    if (typeof text === "string") outcome.text += text;
  }

  private end(): void {
    if (this.settled) return;
    if (this.lastChunk === 0)
      return this.fail("the stream ended without a chunk of output");
    if (!this.done) return this.fail("the stream ended before [DONE]");
    const { outcome } = this;
    if (!outcome.usageReported) outcome.outputLen = outcome.itls.length + 1;
    outcome.latency = (this.lastChunk - this.sent) / 1000;
    this.settle();
  }

  private fail(reason: string): void {
    if (this.settled) return;
    this.outcome.error = reason;
    this.outcome.latency = (performance.now() - this.sent) / 1000;
    this.settle();
    this.request?.destroy();
  }

  private settle(): void {
    this.settled = true;
    clearTimeout(this.timer);
    this.resolve(this.outcome);
  }
}

/**
 * A chat's first chunk may carry nothing but the role. Servers differ in when they send it (at once, or with the first
 * token), so it is no output yet.
 */
function opensOnly({ delta, finish_reason: finish }: Choice): boolean {
  if (
    delta == null ||
    typeof delta !== "object" ||
    finish != null ||
    !("role" in delta)
  )
    return false;
  return Object.entries(delta).every(
    ([key, value]) => key === "role" || value === "" || value == null,
  );
}

/** Null where it is no JSON object. */
function parseChunk(data: string): Chunk | null {
  try {
    const chunk: unknown = JSON.parse(data);
    return typeof chunk === "object" ? chunk : null;
  } catch {
    return null;
  }
}

function describeNetworkError(error: NodeJS.ErrnoException): string {
  // A refused connection to a name with several addresses has an empty message; its parts have them.
  if (error instanceof AggregateError && error.errors.length > 0)
    return describeNetworkError(error.errors[0] as NodeJS.ErrnoException);
  return error.message || (error.code ?? "unknown network error");
}
