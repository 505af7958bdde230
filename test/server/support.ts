import type { LightMyRequestResponse } from "fastify";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, afterEach } from "vitest";
import { now } from "../../src/core/config.js";
import { EventKind, TokenEvents } from "../../src/core/events.js";
import { FinishReason, type Request } from "../../src/core/request.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import type { QueueBounds } from "../../src/engine/engine-client.js";
import type { HostedEngine, HostedStep } from "../../src/engine/engine-host.js";
import { createLocalTransport } from "../../src/engine/local-transport.js";
import type {
  AdmittedRequest,
  EngineInfo,
  FinishedChoice,
} from "../../src/engine/messages.js";
import { emptyStats } from "../../src/engine/stats.js";
import { createApp, type App, type AppOptions } from "../../src/server/app.js";
import { loadChatTemplate } from "../../src/text/chat-template.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";

export const END = 257;
export const VOCAB = 260;

/** What choice `choice` of a request says; after its last token it ends by max_tokens or, with END, by itself. */
export type Script = (request: Request, choice: number) => readonly number[];

/** The bytes of a text are its tokens. */
export const bytes = (text: string): number[] => [...Buffer.from(text)];
export const says =
  (text: string): Script =>
  () => [...bytes(text), END];

interface Live {
  request: Request;
  choice: number;
  tokens: readonly number[];
  made: number;
}

/** Says what its script has it say, a token per choice and step. */
export class ScriptedEngine implements HostedEngine {
  /** Requests wait while this is false. */
  running = true;
  failNext = false;
  restarting = false;
  readonly requests: Request[] = [];
  readonly aborts: { choice: number; reason: string }[] = [];
  private live: Live[] = [];
  private readonly admitted = new Set<number>();
  private readonly events = new TokenEvents();
  private ended: FinishedChoice[] = [];

  constructor(public script: Script) {}

  get idle(): boolean {
    return this.ended.length === 0 && (!this.running || this.live.length === 0);
  }
  get numLive(): number {
    return this.live.length;
  }

  add(request: Request): void {
    this.requests.push(request);
    for (let choice = 0; choice < request.n; choice++)
      this.live.push({
        request,
        choice,
        tokens: this.script(request, choice),
        made: 0,
      });
  }

  abort(handle: number, choice: number, reason: "abort" | "stop"): void {
    this.aborts.push({ choice, reason });
    const hit = (entry: Live): boolean =>
      entry.request.handle === handle &&
      (choice < 0 || entry.choice === choice);
    const finish = reason === "stop" ? FinishReason.stop : FinishReason.abort;
    this.ended.push(
      ...this.live.filter(hit).map((entry) => finishedOf(entry, finish)),
    );
    this.live = this.live.filter((entry) => !hit(entry));
  }

  step(): HostedStep | null {
    if (this.failNext) throw new Error("the device is gone");
    this.events.clear();
    const admitted: AdmittedRequest[] = [];
    const finished = this.ended;
    this.ended = [];
    for (const entry of this.running ? [...this.live] : [])
      this.advance(entry, admitted, finished);
    const stats = {
      ...emptyStats(8),
      runner: { ...emptyStats(8).runner, restarting: this.restarting },
      numRunning: this.live.length,
      iterationTokens: 1,
    };
    return { events: this.events, finished, admitted, stats };
  }

  checkIntegrity(): void {}
  resetPrefixCache(): boolean {
    return true;
  }

  private advance(
    entry: Live,
    admitted: AdmittedRequest[],
    finished: FinishedChoice[],
  ): void {
    const { request } = entry;
    const { handle, params } = request;
    if (!this.admitted.has(handle)) {
      this.admitted.add(handle);
      admitted.push({
        handle,
        numCachedTokens: 0,
        missReason: "cold",
        scheduledTime: now(),
      });
      if (params.promptLogprobs !== null)
        for (const token of request.promptTokenIds.subarray(1))
          this.push(entry, EventKind.promptLogprob, token, 0);
    }
    const token = entry.tokens[entry.made++ % entry.tokens.length] ?? 0;
    const stopped =
      params.stopTokenIds.includes(token) && entry.made > params.minTokens;
    const finish = stopped
      ? FinishReason.stop
      : entry.made >= params.maxTokens
        ? FinishReason.length
        : FinishReason.none;
    this.push(entry, EventKind.token, token, finish);
    if (finish === FinishReason.none) return;
    this.live.splice(this.live.indexOf(entry), 1);
    finished.push(finishedOf(entry, finish));
  }

  /** Log-probability of token t: -t / 100; alternatives t, t + 1, ... */
  private push(
    { request, choice }: Live,
    kind: EventKind,
    token: number,
    finish: FinishReason,
  ): void {
    const { params, handle } = request;
    const top =
      kind === EventKind.promptLogprob
        ? params.promptLogprobs
        : params.logprobs;
    const reported =
      finish === FinishReason.stop && !params.eosTokenIds.includes(token)
        ? token
        : -1;
    if (top === null)
      this.events.push(handle, choice, kind, token, finish, reported);
    else
      this.events.pushWithLogprobs(
        handle,
        choice,
        kind,
        token,
        finish,
        reported,
        -token / 100,
        1,
        top,
        Int32Array.from({ length: top }, (_, i) => token + i),
        Float32Array.from({ length: top }, (_, i) => -(token + i) / 100),
        0,
      );
  }
}

function finishedOf(
  { request, choice, made }: Live,
  finish: FinishReason,
): FinishedChoice {
  const time = made > 0 ? now() : 0;
  return {
    handle: request.handle,
    choice,
    finish,
    numOutputTokens: made,
    numComputedPromptTokens: request.promptTokenIds.length,
    numPreemptions: 0,
    firstScheduledTime: time,
    firstTokenTime: time,
    lastTokenTime: time,
  };
}

/** Has the tokenizer. */
export const directory = mkdtempSync(path.join(os.tmpdir(), "octavo-server-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A token per byte, and special tokens: <|begin|> (256), <|end|> (257), <tool_call> (258), </tool_call> (259). */
function writeTokenizer(): void {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) ||
    (byte >= 0xa1 && byte <= 0xac) ||
    byte >= 0xae;
  const vocab: Record<string, number> = {};
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++)
    vocab[String.fromCharCode(printable(byte) ? byte : next++)] = byte;
  const special = (id: number, content: string) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  const level = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: false,
  };
  writeFileSync(
    path.join(directory, "tokenizer.json"),
    JSON.stringify({
      version: "1.0",
      added_tokens: [
        special(256, "<|begin|>"),
        special(257, "<|end|>"),
        special(258, "<tool_call>"),
        special(259, "</tool_call>"),
      ],
      normalizer: null,
      pre_tokenizer: level,
      post_processor: null,
      decoder: level,
      model: { type: "BPE", vocab, merges: [] },
    }),
  );
}
writeTokenizer();

export const TEMPLATE =
  "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

/** ChatML with tools and calls as Hermes and Qwen write them. */
export const TOOL_TEMPLATE =
  "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}" +
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}{% for c in m.tool_calls or [] %}" +
  '{% if not loop.first %}{{ "\n" }}{% endif %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>' +
  "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

export interface TestServer {
  app: App;
  client: EngineClient;
  post: (url: string, body: unknown) => Promise<LightMyRequestResponse>;
}

/** An app over an engine in this thread, closed after the test. */
export async function serve(
  engine: HostedEngine,
  options: Partial<AppOptions> & {
    template?: string | null;
    info?: Partial<EngineInfo>;
    bounds?: QueueBounds;
  } = {},
): Promise<TestServer> {
  const { template = TEMPLATE, info, bounds, ...rest } = options;
  const client = await EngineClient.connect(
    createLocalTransport(engine, {
      info: {
        vocabSize: VOCAB,
        maxModelLen: 128,
        eosTokenIds: [END],
        ...info,
      },
    }),
    bounds,
  );
  const app = createApp({
    engine: client,
    tokenizer: await loadTokenizer(directory),
    chatTemplate: await loadChatTemplate(directory, template),
    servedModelNames: ["tiny", "org/tiny"],
    modelPath: "/models/tiny",
    logLevel: "silent",
    ...rest,
  });
  closing.push(
    () => app.close(),
    () => client.close(),
  );
  const post = (url: string, body: unknown): Promise<LightMyRequestResponse> =>
    app.inject({ method: "POST", url, payload: body as object });
  return { app, client, post };
}

/** What JSON.parse gives: tests look into it and fail where it is not as expected. */
export type Json = ReturnType<typeof JSON.parse>;

/** The data of an SSE body, parsed; checks that it ends with [DONE]. */
export function sseEvents(body: string): Json[] {
  const events = body.split("\n\n");
  if (events.pop() !== "") throw new Error("no blank line at the end");
  const data = events.map((event) => {
    if (!event.startsWith("data: ")) throw new Error(`not data: ${event}`);
    return event.slice("data: ".length);
  });
  if (data.pop() !== "[DONE]") throw new Error("no [DONE] at the end");
  return data.map((json) => JSON.parse(json) as unknown);
}
