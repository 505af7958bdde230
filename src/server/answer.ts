import type { FastifyReply } from "fastify";
import type { OctavoError } from "../core/errors.js";
import { DeltaBuffer } from "./delta-buffer.js";
import { errorAnswer } from "./errors.js";
import {
  Generation,
  type GenerationSink,
  type GenerationSpec,
} from "./generation.js";
import type { HttpContext, ServerContext } from "./options.js";
import type { Delta, TokenLogprobs } from "./output.js";
import type { CommonBody } from "./schemas.js";
import type { Chunk, EventStream } from "./sse.js";
import { serverTiming, streamTiming } from "./timing.js";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** @param hiddenTokens generated only because the engine computes nothing without one (max_tokens 0) */
export function usageOf(generation: Generation, hiddenTokens = 0): Usage {
  const prompt = generation.promptTokens;
  const completion = generation.completionTokens - hiddenTokens;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: generation.cachedTokens },
  };
}

/** A whole choice: its deltas put together. */
export interface WholeChoice extends Omit<Delta, "logprobs"> {
  logprobs: TokenLogprobs[];
}

/** What a route makes of choices. */
export interface AnswerFormat {
  /** The body of an answer that is not streamed. */
  whole(generation: Generation, choices: readonly WholeChoice[]): unknown;
  /** Chunks that open a stream, serialized. */
  opening(generation: Generation): Chunk[];
  /** The chunks of a delta, serialized; null where there is nothing to say. */
  chunk(
    generation: Generation,
    index: number,
    delta: Delta,
  ): string | readonly Chunk[] | null;
  /** The chunk with the usage that ends a stream, or null. */
  usage(generation: Generation): string | null;
  /** How a stream tells that it failed. Default: the body of an error answer. */
  failure?(error: OctavoError): Chunk;
  /** The data that ends a stream, or null. Default: "[DONE]". */
  readonly terminator?: string | null;
}

/** Runs `specs` and answers, streamed or whole. A connection that closes early aborts the engine's requests at once. */
export function answer(
  context: ServerContext,
  reply: FastifyReply,
  body: Pick<CommonBody, "stream">,
  specs: readonly GenerationSpec[],
  format: AnswerFormat,
): Promise<unknown> {
  return body.stream === true
    ? answerStream(context, reply, specs, format)
    : answerWhole(context, reply, specs, format);
}

async function answerWhole(
  context: ServerContext,
  reply: FastifyReply,
  specs: readonly GenerationSpec[],
  format: AnswerFormat,
): Promise<unknown> {
  const numChoices = specs.reduce((sum, spec) => sum + spec.n, 0);
  const choices = Array.from({ length: numChoices }, emptyChoice);
  const generation = await new Promise<Generation | null>((resolve, reject) => {
    const sink: GenerationSink = {
      onDelta: (index, delta) => append(choices[index], delta),
      onEnd: () => resolve(started),
      onFailure: reject,
    };
    const gone = (): void => resolve(null);
    // Nothing is told before this turn of the event loop ends, so it is set when it is.
    const started = start(context, reply, specs, sink, gone);
  });
  if (generation === null || reply.raw.destroyed) {
    // Nobody is there to be answered.
    reply.hijack();
    return reply;
  }
  reply.header("server-timing", serverTiming(generation.record));
  return format.whole(generation, choices);
}

async function answerStream(
  context: ServerContext,
  reply: FastifyReply,
  specs: readonly GenerationSpec[],
  format: AnswerFormat,
): Promise<unknown> {
  const { terminator = "[DONE]" } = format;
  let stream: EventStream | null = null;
  const interval =
    context.streamInterval > 1 ? new DeltaBuffer(context.streamInterval) : null;
  const sink: GenerationSink = {
    onDelta: (index, delta) => {
      const due = interval === null ? delta : interval.add(index, delta);
      if (due === null) return;
      const chunks = format.chunk(generation, index, due);
      if (typeof chunks === "string") stream?.event(chunks);
      else for (const chunk of chunks ?? []) stream?.event(chunk);
    },
    onEnd: () => {
      const usage = format.usage(generation);
      if (usage !== null) stream?.event(usage);
      stream?.done(terminator, trailers());
    },
    onFailure: (error) => {
      stream?.event(
        format.failure?.(error) ?? JSON.stringify(errorAnswer(error).body),
      );
      stream?.done(terminator, trailers());
    },
  };
  // Nothing is told before this turn of the event loop ends, so the stream is there when it is.
  const generation = start(context, reply, specs, sink, () => undefined);
  const trailers = streamTiming(reply, generation.record);
  stream = context.streams.open(reply);
  for (const chunk of format.opening(generation)) stream.event(chunk);
  stream.flush();
  return reply;
}

/** Submits and ties the engine's requests to the connection. Throws what the engine refuses with. */
function start(
  context: ServerContext,
  reply: FastifyReply,
  specs: readonly GenerationSpec[],
  sink: GenerationSink,
  onGone: () => void,
): Generation {
  const generation = new Generation(context, specs, sink);
  watchConnection(context, reply, () => {
    generation.abort();
    onGone();
  });
  return generation;
}

/** Counts a generation for /load until its connection closes; `onGone` hears of one that closes before the answer is complete. */
export function watchConnection(
  context: HttpContext,
  { raw }: FastifyReply,
  onGone: () => void,
): void {
  context.serverLoad++;
  const closed = (): void => {
    context.serverLoad--;
    if (!raw.writableFinished) onGone();
  };
  if (raw.destroyed || raw.socket?.destroyed === true) closed();
  else raw.once("close", closed);
}

function emptyChoice(): WholeChoice {
  return {
    text: "",
    tokenIds: [],
    logprobs: [],
    finishReason: null,
    stopReason: null,
  };
}

function append(choice: WholeChoice | undefined, delta: Delta): void {
  if (choice === undefined) return;
  choice.text += delta.text;
  choice.tokenIds.push(...delta.tokenIds);
  choice.logprobs.push(...delta.logprobs);
  choice.finishReason = delta.finishReason;
  choice.stopReason = delta.stopReason;
}
