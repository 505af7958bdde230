import type { Constraint } from "../core/constraint.js";
import { assert, OctavoError } from "../core/errors.js";
import { EventKind, type TokenEvent } from "../core/events.js";
import type { SamplingParams } from "../core/sampling-params.js";
import type {
  ActiveRequest,
  NewRequest,
  RequestListener,
} from "../engine/engine-client.js";
import type {
  AdmittedRequest,
  FinishedChoice,
  PreemptedChoice,
} from "../engine/messages.js";
import type { GrammarLease } from "../grammar/grammar-pool.js";
import type { ServerContext } from "./options.js";
import {
  ChoiceOutput,
  copyLogprobs,
  type Delta,
  type OutputOptions,
  type TokenLogprobs,
} from "./output.js";
import type { RequestOrigin } from "./origin.js";
import type { RequestRecord } from "./request-registry.js";
import type { RequestTimeline, TimelineFacts } from "./request-timeline.js";

/** One prompt of a body and how to go on from it. */
export interface GenerationSpec {
  /** The HTTP request's id, with a number where it has several prompts. */
  id: string;
  requestId: string;
  origin: RequestOrigin;
  promptTokenIds: Int32Array;
  params: SamplingParams;
  n: number;
  priority: number;
  cacheSalt: string;
  /** Null: the output is free. */
  constraint: Constraint | null;
  /** Of the constraint's grammar: released when the prompt's choices have ended. */
  lease: GrammarLease | null;
  arrivalTime: number;
  output: OutputOptions;
  /** Index of its first choice in the answer. */
  firstIndex: number;
}

/** Hears the choices of one HTTP request, by their index in the answer. */
export interface GenerationSink {
  onDelta(index: number, delta: Delta): void;
  /** Every choice has ended; called once, unless onFailure is. */
  onEnd(): void;
  onFailure(error: OctavoError): void;
}

/**
 * All prompts of one HTTP request in the engine: a PromptRun each, whose events become deltas of text. The only path from
 * tokens to answers, streamed or not.
 */
export class Generation {
  readonly prompts: PromptRun[] = [];
  /** What happened to it, and when. */
  readonly record: RequestRecord;
  private pending: number;
  private failed = false;

  /** Submits every prompt, of which there is one at least. Throws what the engine refuses with; none is left running then. */
  constructor(
    context: ServerContext,
    specs: readonly GenerationSpec[],
    private readonly sink: GenerationSink,
  ) {
    const [first] = specs;
    assert(first !== undefined, "a generation has a prompt");
    this.pending = specs.length;
    this.record = context.requests.begin(first.requestId, first.origin);
    try {
      for (const spec of specs) this.submit(context, spec);
      first.origin.quota?.spend(this.promptTokens);
    } catch (error) {
      for (const { lease } of specs.slice(this.prompts.length))
        lease?.release();
      throw error;
    } finally {
      this.record.seal();
    }
  }

  private submit(context: ServerContext, spec: GenerationSpec): void {
    try {
      this.prompts.push(new PromptRun(context, spec, this));
      context.requestLog?.received(spec);
    } catch (error) {
      this.failed = true;
      context.metrics?.refused(error);
      this.record.refused(factsOf(spec), error);
      for (const prompt of this.prompts) prompt.abort();
      throw error;
    }
  }

  get promptTokens(): number {
    return this.prompts.reduce(
      (sum, p) => sum + p.spec.promptTokenIds.length,
      0,
    );
  }

  get completionTokens(): number {
    return this.prompts.reduce((sum, p) => sum + p.completionTokens, 0);
  }

  get cachedTokens(): number {
    return this.prompts.reduce((sum, p) => sum + p.cachedTokens, 0);
  }

  /** The client is gone: nothing is told any more and the engine stops at its next step. */
  abort(): void {
    this.failed = true;
    for (const prompt of this.prompts) prompt.abort();
  }

  /** @internal */
  delta(index: number, delta: Delta): void {
    if (this.failed) return;
    if (delta.finishReason === "error")
      this.fail(
        new OctavoError("internal_error", "The engine failed on this request."),
      );
    else if (delta.finishReason === "stuck")
      this.fail(
        new OctavoError(
          "invalid_request",
          "The constrained output cannot go on: no token of this model spells what must come next, or allowed_token_ids leaves that token out.",
        ),
      );
    else if (delta.finishReason === "slow")
      this.fail(
        new OctavoError(
          "invalid_request",
          "The constrained output cannot go on: its grammar takes too long to say which tokens may come next. Ambiguity and many rules that lead to each other cost most.",
        ),
      );
    else if (delta.finishReason === "lost")
      this.fail(
        new OctavoError(
          "device_error",
          "The device failed twice while it computed this request.",
        ),
      );
    else if (delta.finishReason === "abort")
      this.fail(new OctavoError("request_aborted", "The request was aborted."));
    else this.sink.onDelta(index, delta);
  }

  /** @internal */
  promptEnded(): void {
    this.pending--;
    if (this.pending === 0 && !this.failed) this.sink.onEnd();
  }

  /** @internal One prompt failed: the whole answer has. */
  fail(error: OctavoError): void {
    if (this.failed) return;
    this.abort();
    this.sink.onFailure(error);
  }
}

/** One prompt in the engine. */
export class PromptRun implements RequestListener {
  cachedTokens = 0;
  /** Of prompt positions 1, 2, ...; filled before the first token. */
  readonly promptLogprobs: TokenLogprobs[] = [];
  private readonly outputs: ChoiceOutput[];
  private readonly active: ActiveRequest;
  private readonly timeline: RequestTimeline;
  private numFinished = 0;

  constructor(
    private readonly context: ServerContext,
    readonly spec: GenerationSpec,
    private readonly owner: Generation,
  ) {
    const { n, output } = spec;
    this.outputs = Array.from(
      { length: n },
      () => new ChoiceOutput(context.tokenizer, output),
    );
    this.active = context.engine.submit(engineRequest(spec), this);
    this.active.onEnded = () => spec.lease?.release();
    this.timeline = owner.record.submitted(factsOf(spec));
  }

  get completionTokens(): number {
    return this.outputs.reduce((sum, output) => sum + output.numTokens, 0);
  }

  abort(): void {
    this.active.abort();
  }

  onAdmitted(admitted: AdmittedRequest): void {
    this.cachedTokens = admitted.numCachedTokens;
    this.timeline.admitted(admitted);
  }

  onPreempted(preempted: PreemptedChoice): void {
    this.timeline.preempted(preempted);
  }

  onEvent(event: TokenEvent): void {
    if (event.kind === EventKind.promptLogprob) {
      if (event.choice === 0) this.promptLogprobs.push(copyLogprobs(event));
      return;
    }
    const output = this.outputs[event.choice];
    if (output === undefined || output.ended) return;
    const index = this.spec.firstIndex + event.choice;
    if (event.kind === EventKind.finish) {
      this.owner.delta(index, output.finish(event.finish));
      return;
    }
    this.timeline.token(event.choice, this.context.engine.lastStepTime);
    this.spec.origin.quota?.spend(1);
    const delta = output.token(event);
    if (typeof delta.stopReason === "string")
      this.active.abort(event.choice, "stop");
    this.owner.delta(index, delta);
  }

  onFinished(finished: FinishedChoice): void {
    this.timeline.finished(finished);
    const output = this.outputs[finished.choice];
    // Ended without a last event; an abort of ours has no reader any more.
    if (output !== undefined && !output.ended)
      this.owner.delta(
        this.spec.firstIndex + finished.choice,
        output.finish(finished.finish),
      );
    this.numFinished++;
    if (this.numFinished === this.spec.n) this.owner.promptEnded();
  }

  onError(error: OctavoError): void {
    this.context.metrics?.refused(error);
    this.timeline.failed(error);
    this.owner.fail(error);
  }
}

function factsOf(spec: GenerationSpec): TimelineFacts {
  const { id, promptTokenIds, n, params, arrivalTime, origin } = spec;
  const { maxTokens, temperature, topP } = params;
  const numPromptTokens = promptTokenIds.length;
  return {
    id,
    numPromptTokens,
    n,
    maxTokens,
    temperature,
    topP,
    arrivalTime,
    origin,
  };
}

function engineRequest(spec: GenerationSpec): NewRequest {
  const { id, promptTokenIds, params, n, priority, cacheSalt, arrivalTime } =
    spec;
  return {
    id,
    promptTokenIds,
    params,
    n,
    priority,
    cacheSalt,
    arrivalTime,
    bypassPrefixCache: params.promptLogprobs !== null,
    ...(spec.constraint !== null && { constraint: spec.constraint }),
  };
}

/** The finish reasons of OpenAI's answers. */
export type PublicFinish = "stop" | "length" | null;

/** A delta's finish reason as answers have it; the others never get that far. */
export function publicFinish(delta: Pick<Delta, "finishReason">): PublicFinish {
  return delta.finishReason === "stop" || delta.finishReason === "length"
    ? delta.finishReason
    : null;
}
