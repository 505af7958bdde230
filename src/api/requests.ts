import { randomUUID } from "node:crypto";
import { now } from "../core/config.js";
import { answeringRole } from "../server/chat-format.js";
import { prepareChat } from "../server/chat.js";
import { prepareCompletion } from "../server/completions.js";
import {
  Generation,
  publicFinish,
  type GenerationSpec,
  type PublicFinish,
} from "../server/generation.js";
import type { ServerContext } from "../server/options.js";
import { NO_KEY, type Sender } from "../server/origin.js";
import type { Delta, TokenLogprobs } from "../server/output.js";
import type { ChatBody, CompletionBody } from "../server/schemas.js";
import { collectTurn, type TurnEvent } from "../text/turn/events.js";
import type { RunSink } from "./run.js";

export interface Usage {
  readonly promptTokens: number;
  /** Of those, found in the prefix cache. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
}

interface Ending {
  /** Null while the choice goes on. */
  readonly finishReason: PublicFinish;
  /** The stop string or token that ended it; null for the model's own end. */
  readonly stopReason: string | number | null;
}

interface Tokens {
  readonly tokenIds: readonly number[];
  /** Of those tokens; empty unless asked for with `logprobs`. */
  readonly logprobs: readonly TokenLogprobs[];
}

/** What a step adds to a choice. Text may lag behind the tokens: code points are never split, nor stop strings shown. */
export interface GenerateEvent extends Ending, Tokens {
  /** Of `n` choices. */
  readonly index: number;
  readonly text: string;
}

export interface GenerateResult {
  /** The first choice's. */
  readonly text: string;
  /** `n` of them. */
  readonly choices: readonly GenerateEvent[];
  /** Of the prompt's second token on; empty unless asked for with `prompt_logprobs`. */
  readonly promptLogprobs: readonly TokenLogprobs[];
  readonly usage: Usage;
}

/** What the model says, in order. A call's events carry its number in the turn; its first one also the call's id. */
export type ChatEvent = { readonly index: number } & (
  | Exclude<TurnEvent, { type: "call-start" }>
  | (Extract<TurnEvent, { type: "call-start" }> & { readonly id: string })
);

/** In OpenAI's shape: to be put behind the messages as it is. */
export interface AssistantMessage {
  readonly role: string;
  /** Null where there is only something else. */
  readonly content: string | null;
  readonly reasoning_content?: string;
  readonly tool_calls?: readonly {
    readonly id: string;
    readonly type: "function";
    /** `arguments` is JSON text, as the model wrote it. */
    readonly function: { readonly name: string; readonly arguments: string };
  }[];
}

export interface ChatChoice extends Tokens {
  readonly index: number;
  readonly message: AssistantMessage;
  readonly finishReason: PublicFinish | "tool_calls";
  readonly stopReason: string | number | null;
}

export interface ChatResult {
  /** The first choice's. */
  readonly message: AssistantMessage;
  readonly choices: readonly ChatChoice[];
  readonly promptLogprobs: readonly TokenLogprobs[];
  readonly usage: Usage;
}

/** Runs a completion's prompt. */
export async function generate(
  context: ServerContext,
  body: CompletionBody,
  sink: RunSink<GenerateEvent, GenerateResult>,
  signal: AbortSignal,
): Promise<void> {
  const { specs } = await prepareCompletion(context, sender("generate"), body);
  const choices = wholes(specs);
  run(context, specs, signal, sink, {
    onDelta(index, delta) {
      choices[index]?.add(delta);
      const { text, tokenIds, logprobs, stopReason } = delta;
      const finishReason = publicFinish(delta);
      sink.event({ index, text, tokenIds, logprobs, finishReason, stopReason });
    },
    result: (generation) => {
      const rendered = choices.map((choice, index) => ({
        index,
        text: choice.text,
        ...choice.ending(),
      }));
      return {
        text: rendered[0]?.text ?? "",
        choices: rendered,
        ...totals(generation),
      };
    },
  });
}

/** Runs a conversation. */
export async function chat(
  context: ServerContext,
  body: ChatBody,
  sink: RunSink<ChatEvent, ChatResult>,
  signal: AbortSignal,
): Promise<void> {
  const { specs, plan, messages } = await prepareChat(
    context,
    sender("chat"),
    body,
  );
  const choices = wholes(specs);
  const turns = choices.map((_, index) => ({
    index,
    parser: plan.parser(),
    events: [] as TurnEvent[],
    callIds: [] as string[],
  }));
  const role = answeringRole(body, messages);
  const hidden = body.include_reasoning === false;
  run(context, specs, signal, sink, {
    onDelta(index, delta) {
      const turn = turns[index];
      choices[index]?.add(delta);
      if (turn === undefined) return;
      const events = turn.parser.push(delta.text);
      if (delta.finishReason !== null) events.push(...turn.parser.end());
      for (const event of events) {
        if (hidden && event.type === "reasoning") continue;
        turn.events.push(event);
        if (event.type !== "call-start") {
          sink.event({ index, ...event });
          continue;
        }
        const id = plan.callId("call_");
        turn.callIds.push(id);
        sink.event({ index, ...event, id });
      }
    },
    result: (generation) => {
      const rendered = turns.map(({ index, events, callIds, parser }) => {
        const { finishReason, ...rest } = (
          choices[index] ?? new Whole()
        ).ending();
        const called = finishReason === "stop" && parser.numCalls > 0;
        return {
          index,
          message: messageOf(role, events, callIds),
          finishReason: called ? ("tool_calls" as const) : finishReason,
          ...rest,
        };
      });
      const message = rendered[0]?.message ?? messageOf(role, [], []);
      return { message, choices: rendered, ...totals(generation) };
    },
  });
}

function messageOf(
  role: string,
  events: readonly TurnEvent[],
  callIds: readonly string[],
): AssistantMessage {
  const { reasoning, text, calls } = collectTurn(events);
  const other = reasoning !== "" || calls.length > 0;
  return {
    role,
    content: text === "" && other ? null : text,
    ...(reasoning !== "" && { reasoning_content: reasoning }),
    ...(calls.length > 0 && {
      tool_calls: calls.map((call, i) => ({
        id: callIds[i] ?? "",
        type: "function" as const,
        function: call,
      })),
    }),
  };
}

/** A choice's deltas put together. */
class Whole {
  text = "";
  private readonly tokenIds: number[] = [];
  private readonly logprobs: TokenLogprobs[] = [];
  private finishReason: PublicFinish = null;
  private stopReason: string | number | null = null;

  add(delta: Delta): void {
    this.text += delta.text;
    this.tokenIds.push(...delta.tokenIds);
    this.logprobs.push(...delta.logprobs);
    this.finishReason = publicFinish(delta);
    this.stopReason = delta.stopReason;
  }

  ending(): Ending & Tokens {
    const { tokenIds, logprobs, finishReason, stopReason } = this;
    return { tokenIds, logprobs, finishReason, stopReason };
  }
}

function wholes(specs: readonly GenerationSpec[]): Whole[] {
  const numChoices = specs.reduce((sum, { n }) => sum + n, 0);
  return Array.from({ length: numChoices }, () => new Whole());
}

function totals(generation: Generation) {
  const { promptTokens, cachedTokens, completionTokens } = generation;
  return {
    promptLogprobs: generation.prompts[0]?.promptLogprobs ?? [],
    usage: { promptTokens, cachedTokens, completionTokens },
  };
}

interface Reader<Result> {
  onDelta(index: number, delta: Delta): void;
  result(generation: Generation): Result;
}

/** Submits, unless nobody waits any more. Throws what the engine refuses with. */
function run<Event, Result>(
  context: ServerContext,
  specs: readonly GenerationSpec[],
  signal: AbortSignal,
  sink: RunSink<Event, Result>,
  reader: Reader<Result>,
): void {
  if (signal.aborted) {
    for (const { lease } of specs) lease?.release();
    return;
  }
  const generation: Generation = new Generation(context, specs, {
    onDelta: (index, delta) => reader.onDelta(index, delta),
    onEnd: () => sink.end(reader.result(generation)),
    onFailure: (error) => sink.fail(error),
  });
  signal.addEventListener("abort", () => generation.abort(), { once: true });
}

/** A request of this process, where the server has one of its clients. */
function sender(route: string): Sender {
  return {
    id: randomUUID(),
    origin: {
      arrivalTime: now(),
      route,
      key: NO_KEY,
      quota: null,
      traceparent: undefined,
      tracestate: undefined,
      record: null,
    },
  };
}
