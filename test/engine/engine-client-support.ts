import { EventKind, TokenEvents } from "../../src/core/events.js";
import type { TokenEvent } from "../../src/core/events.js";
import { OctavoError } from "../../src/core/errors.js";
import { FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import type { RequestListener } from "../../src/engine/engine-client.js";
import type { HostedEngine, HostedStep } from "../../src/engine/engine-host.js";
import type {
  AdmittedRequest,
  FinishedChoice,
} from "../../src/engine/messages.js";
import { emptyStats } from "../../src/engine/stats.js";

interface Live {
  request: Request;
  choice: number;
  made: number;
}

/** Counts up: choice c's k-th token is 100 c + k. At most `maxRunning` choices run at once. Keeps the engine's contract. */
export class CountingEngine implements HostedEngine {
  maxRunning = Infinity;
  failAt = Infinity;
  numIntegrityChecks = 0;
  private steps = 0;
  private readonly live: Live[] = [];
  private readonly admitted = new Set<number>();
  private readonly events = new TokenEvents();
  private aborted: FinishedChoice[] = [];

  get idle(): boolean {
    return this.live.length === 0 && this.aborted.length === 0;
  }

  add(request: Request): void {
    if (request.promptTokenIds.length === 0)
      throw new OctavoError("invalid_request", "an empty prompt", "prompt");
    for (let choice = 0; choice < request.n; choice++)
      this.live.push({ request, choice, made: 0 });
  }

  abort(handle: number, choice: number, reason: "abort" | "stop"): void {
    const finish = reason === "stop" ? FinishReason.stop : FinishReason.abort;
    for (const entry of [...this.live])
      if (
        entry.request.handle === handle &&
        (choice < 0 || entry.choice === choice)
      ) {
        this.live.splice(this.live.indexOf(entry), 1);
        this.aborted.push(finishedOf(entry, finish));
      }
  }

  step(): HostedStep | null {
    if (this.idle) return null;
    if (++this.steps >= this.failAt)
      throw new OctavoError("device_error", "the device is gone");
    this.events.clear();
    const admitted: AdmittedRequest[] = [];
    const finished = this.aborted;
    this.aborted = [];
    for (const entry of this.live.slice(0, this.maxRunning))
      this.advance(entry, admitted, finished);
    const stats = { ...emptyStats(8), numSteps: this.steps };
    return { events: this.events, finished, admitted, stats };
  }

  checkIntegrity(): void {
    this.numIntegrityChecks++;
  }

  resetPrefixCache(): boolean {
    return true;
  }

  private advance(
    entry: Live,
    admitted: AdmittedRequest[],
    finished: FinishedChoice[],
  ): void {
    const { request, choice } = entry;
    const { handle } = request;
    if (!this.admitted.has(handle)) {
      this.admitted.add(handle);
      admitted.push({
        handle,
        numCachedTokens: 0,
        missReason: null,
        scheduledTime: 1,
      });
    }
    const last = ++entry.made === request.params.maxTokens;
    const finish = last ? FinishReason.length : FinishReason.none;
    const token = 100 * choice + entry.made;
    this.events.push(handle, choice, EventKind.token, token, finish, -1);
    if (!last) return;
    this.live.splice(this.live.indexOf(entry), 1);
    finished.push(finishedOf(entry, finish));
  }
}

function finishedOf(
  { request, choice, made }: Live,
  finish: FinishReason,
): FinishedChoice {
  return {
    handle: request.handle,
    choice,
    finish,
    numOutputTokens: made,
    numComputedPromptTokens: request.promptTokenIds.length,
    numPreemptions: 0,
    firstScheduledTime: 0,
    firstTokenTime: 0,
    lastTokenTime: 0,
  };
}

/** Writes down what it hears, and resolves `ended` when all choices have finished or an error came. */
export class Recorder implements RequestListener {
  readonly tokens: number[][] = [];
  readonly finished: FinishedChoice[] = [];
  readonly errors: OctavoError[] = [];
  readonly log: string[] = [];
  readonly ended: Promise<void>;
  onToken: (event: TokenEvent) => void = () => {};
  private end: () => void = () => {};

  constructor(private readonly n = 1) {
    this.ended = new Promise((resolve) => (this.end = resolve));
  }

  onEvent(event: TokenEvent): void {
    (this.tokens[event.choice] ??= []).push(event.token);
    this.log.push("event");
    this.onToken(event);
  }

  onAdmitted(): void {
    this.log.push("admitted");
  }

  onFinished(finished: FinishedChoice): void {
    this.finished.push(finished);
    this.log.push("finished");
    if (this.finished.length === this.n) this.end();
  }

  onError(error: OctavoError): void {
    this.errors.push(error);
    this.end();
  }
}
