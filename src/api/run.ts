import { OctavoError } from "../core/errors.js";

/** Where what is computed for a run goes. Nothing is heard after `end` or `fail`. */
export interface RunSink<Event, Result> {
  event(event: Event): void;
  end(result: Result): void;
  /** Anything but an OctavoError is a bug of ours, and told as one. */
  fail(error: unknown): void;
}

/** Errors: `invalid_request`. */
export function checkSignal(signal: unknown): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  throw new OctavoError(
    "invalid_request",
    "signal: expected an AbortSignal",
    "signal",
  );
}

/**
 * One request under way. Iterate it for its events as they come, await `result` for the whole, or both. Leaving the
 * loop early, `abort` and the signal that it was given end it at the engine's next step.
 */
export class Run<Event, Result> implements AsyncIterable<Event> {
  /** Rejects with an OctavoError: the reason, or `request_aborted`. */
  readonly result: Promise<Result>;
  private events: Event[] = [];
  private wake: (() => void) | null = null;
  private settled = false;
  private failure: OctavoError | null = null;
  private iterated = false;
  private readonly stop = new AbortController();
  private resolve!: (result: Result) => void;
  private reject!: (error: OctavoError) => void;

  /** @internal @param start begins the work; what it throws fails the run. Its signal says that nobody waits any more. */
  constructor(
    start: (
      sink: RunSink<Event, Result>,
      signal: AbortSignal,
    ) => Promise<unknown>,
    private readonly signal?: AbortSignal,
  ) {
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Who only iterates hears of the failure there.
    this.result.catch(() => undefined);
    try {
      checkSignal(signal);
    } catch (error) {
      this.fail(error);
      return;
    }
    if (signal?.aborted === true) {
      this.abort();
      return;
    }
    signal?.addEventListener("abort", this.abort);
    start(
      {
        event: (event) => this.push(event),
        end: (result) => this.settle(null, result),
        fail: (error) => this.fail(error),
      },
      this.stop.signal,
    ).catch((error: unknown) => this.fail(error));
  }

  /** Ends the request. Does nothing once it has ended. */
  readonly abort = (): void => {
    if (this.settled) return;
    this.fail(new OctavoError("request_aborted", "The request was aborted."));
    this.stop.abort();
  };

  /** The events, once: those that came before the first step of the loop too. Throws what `result` rejects with. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    if (this.iterated)
      throw new OctavoError(
        "invalid_request",
        "The events of a request can be read once; its `result` any number of times.",
      );
    this.iterated = true;
    try {
      while (!this.settled || this.events.length > 0) {
        const { events } = this;
        this.events = [];
        yield* events;
        if (!this.settled && this.events.length === 0)
          await new Promise<void>((resolve) => (this.wake = resolve));
      }
      if (this.failure !== null) throw this.failure;
    } finally {
      this.abort();
    }
  }

  private push(event: Event): void {
    if (this.settled) return;
    this.events.push(event);
    this.rouse();
  }

  private fail(error: unknown): void {
    const known =
      error instanceof OctavoError
        ? error
        : new OctavoError("internal_error", String(error), null, {
            cause: error,
          });
    this.settle(known);
  }

  private settle(failure: null, result: Result): void;
  private settle(failure: OctavoError): void;
  private settle(failure: OctavoError | null, result?: Result): void {
    if (this.settled) return;
    this.settled = true;
    this.failure = failure;
    if (this.signal instanceof AbortSignal)
      this.signal.removeEventListener("abort", this.abort);
    if (failure === null) this.resolve(result as Result);
    else this.reject(failure);
    this.rouse();
  }

  private rouse(): void {
    this.wake?.();
    this.wake = null;
  }
}
