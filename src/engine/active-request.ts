import type { OctavoError } from "../core/errors.js";
import type { TokenEvent } from "../core/events.js";
import { FinishReason } from "../core/request.js";
import type {
  AbortReason,
  AdmittedRequest,
  FinishedChoice,
  PreemptedChoice,
} from "./messages.js";

/**
 * Hears what becomes of one request. Everything is called synchronously while a step's message is dispatched, so it
 * must be quick; what it throws ends its own request only.
 */
export interface RequestListener {
  /** A token or a prompt position. The event is reused: copy what outlives the call. */
  onEvent(event: TokenEvent): void;
  /** Once for each choice, after its events, also when it was aborted. */
  onFinished(finished: FinishedChoice): void;
  /** Once, when the request is scheduled for the first time, before its events. */
  onAdmitted(admitted: AdmittedRequest): void;
  /** Each time that a choice lost its place to others; it goes on by itself later. */
  onPreempted?(preempted: PreemptedChoice): void;
  /** The request ended without (all of) its onFinished: refused by the engine, or the engine failed or closed. */
  onError(error: OctavoError): void;
}

const ChoiceState = { live: 0, aborted: 1, stopped: 2, finished: 3 } as const;

/** A submitted request, until each of its choices has ended. */
export class ActiveRequest {
  /** [n] ChoiceState */
  private readonly choices: Uint8Array;
  private numUnfinished: number;
  /** The listener has thrown or has been told of an error: it is called no more. */
  private deaf = false;
  /** Waiting for admission; its prompt counts against the queue's bounds. */
  queued = true;
  /** Called once when every choice has ended or the request failed, whether or not its listener hears any more. */
  onEnded: (() => void) | null = null;

  constructor(
    readonly handle: number,
    readonly numPromptTokens: number,
    n: number,
    private readonly listener: RequestListener,
    private readonly postAbort: (
      handle: number,
      choice: number,
      reason: AbortReason,
    ) => void,
    private readonly onListenerError: (error: unknown) => void,
  ) {
    this.choices = new Uint8Array(n);
    this.numUnfinished = n;
  }

  get ended(): boolean {
    return this.numUnfinished === 0;
  }

  /**
   * Ends one choice (all of them without one): none of its events is delivered any more, its blocks are free before the
   * next step, and onFinished follows: with finish "stop" for reason "stop" (a stop string matched), else "abort".
   * Does nothing for what has ended already.
   */
  abort(choice = -1, reason: AbortReason = "abort"): void {
    if (!this.mute(choice, reason)) return;
    this.postAbort(this.handle, choice, reason);
  }

  /** @internal */
  deliverEvent(event: TokenEvent): void {
    if (this.deaf || this.choices[event.choice] !== ChoiceState.live) return;
    // As guarded(), without a closure for each token.
    try {
      this.listener.onEvent(event);
    } catch (error) {
      this.giveUp(error);
    }
  }

  /** @internal */
  deliverAdmitted(admitted: AdmittedRequest): void {
    this.guarded(() => this.listener.onAdmitted(admitted));
  }

  /** @internal */
  deliverPreempted(preempted: PreemptedChoice): void {
    this.guarded(() => this.listener.onPreempted?.(preempted));
  }

  /** @internal */
  deliverFinished(finished: FinishedChoice): void {
    const state = this.choices[finished.choice];
    if (state === undefined || state === ChoiceState.finished) return;
    this.choices[finished.choice] = ChoiceState.finished;
    this.numUnfinished--;
    // The choice may have ended by itself in the step in which its text turned out to hold a stop string.
    if (state === ChoiceState.stopped) finished.finish = FinishReason.stop;
    this.guarded(() => this.listener.onFinished(finished));
    if (this.ended) this.tellEnded();
  }

  /** @internal Ends all choices. */
  deliverError(error: OctavoError): void {
    this.choices.fill(ChoiceState.finished);
    this.numUnfinished = 0;
    this.guarded(() => this.listener.onError(error));
    this.deaf = true;
    this.tellEnded();
  }

  /** Returns whether a live choice was muted. */
  private mute(choice: number, reason: AbortReason): boolean {
    const state = reason === "stop" ? ChoiceState.stopped : ChoiceState.aborted;
    const from = choice < 0 ? 0 : choice;
    const to = choice < 0 ? this.choices.length : choice + 1;
    let muted = false;
    for (let i = from; i < to; i++) {
      if (this.choices[i] !== ChoiceState.live) continue;
      this.choices[i] = state;
      muted = true;
    }
    return muted;
  }

  private tellEnded(): void {
    this.onEnded?.();
    this.onEnded = null;
  }

  private guarded(call: () => void): void {
    if (this.deaf) return;
    try {
      call();
    } catch (error) {
      this.giveUp(error);
    }
  }

  /** The listener threw: its own request ends, and it is called no more. */
  private giveUp(error: unknown): void {
    this.deaf = true;
    this.onListenerError(error);
    this.abort();
  }
}
