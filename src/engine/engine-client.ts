import { now } from "../core/config.js";
import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import { readEvents } from "../core/events.js";
import type { Request } from "../core/request.js";
import { MAX_BIAS_PER_ROW } from "../core/sampling-params.js";
import type { ChannelSizes } from "../grammar/channel.js";
import type { RunnerMemory } from "../runner/addon.js";
import { maxBiasEntries } from "../runner/sampling-rows.js";
import { ActiveRequest } from "./active-request.js";
import type { RequestListener } from "./active-request.js";
import type {
  AbortReason,
  EngineCall,
  EngineInfo,
  FromEngine,
  LoadPhase,
  StepMessage,
} from "./messages.js";
import { emptyStats } from "./stats.js";
import type { EngineStats, RunnerHealth } from "./stats.js";
import { WorkerTransport } from "./transport.js";
import type { EngineTransport } from "./transport.js";
import { fromWireError } from "./wire-error.js";

export type { ActiveRequest, RequestListener } from "./active-request.js";
export type { EngineTransport } from "./transport.js";

export type NewRequest = Omit<Request, "handle">;

export interface StartOptions {
  /** What was decided, before anything is loaded. */
  onPlan?: (info: EngineInfo) => void;
  onProgress?: (phase: LoadPhase, done: number, total: number) => void;
  /** One line for people: what was found missing, or chosen. */
  onNotice?: (text: string) => void;
  /** The compiled engine-thread.js; by default the one beside this file. */
  workerUrl?: URL;
}

export interface QueueBounds {
  /** 0: unbounded. Requests waiting (not running). */
  maxNumQueuedReqs: number;
  /** 0: unbounded. Prompt tokens of waiting requests. */
  maxNumQueuedTokens: number;
}

const UNBOUNDED: QueueBounds = { maxNumQueuedReqs: 0, maxNumQueuedTokens: 0 };

/**
 * The main thread's side of the engine. Requests go in by `submit`; what becomes of them is told to their listeners, all
 * in one go per engine step, without a promise per token:
 *
 *   step message -> onAdmitted, onPreempted, onEvent..., onFinished of each request
 *                -> onStep(stats) -> onFlush
 */
export class EngineClient {
  /** Of the last step; totals count from start. */
  stats: EngineStats;
  /** Milliseconds (core/config.ts, now): the last step's end or the arrival of work at an idle engine, if that is later. */
  lastStepTime = now();
  private readonly active = new Map<number, ActiveRequest>();
  private readonly calls = new Map<number, PendingCall>();
  private readonly stepListeners = new Set<(stats: EngineStats) => void>();
  private readonly flushListeners = new Set<() => void>();
  private readonly errorListeners = new Set<(error: unknown) => void>();
  private readonly restartListeners = new Set<(health: RunnerHealth) => void>();
  private readonly fatalListeners = new Set<(error: OctavoError) => void>();
  private readonly drained: (() => void)[] = [];
  private lastHandle = 0;
  private lastCall = 0;
  private queuedReqs = 0;
  private queuedTokens = 0;
  private draining = false;
  /** Why nothing can be submitted any more. */
  private failure: OctavoError | null = null;

  private constructor(
    private readonly transport: EngineTransport,
    readonly info: EngineInfo,
    readonly memory: RunnerMemory,
    private readonly bounds: QueueBounds,
  ) {
    this.stats = emptyStats(info.numBlocks);
  }

  /** Starts the engine in a thread of its own. Rejects with the OctavoError that kept it from loading. */
  static start(
    config: EngineConfig,
    options: StartOptions = {},
  ): Promise<EngineClient> {
    const entry =
      options.workerUrl ?? new URL("./engine-thread.js", import.meta.url);
    const transport = new WorkerTransport(config, entry);
    return EngineClient.connect(transport, config, options);
  }

  /** Waits for the engine behind `transport` to be ready. Rejects with what kept it from it. */
  static connect(
    transport: EngineTransport,
    bounds: QueueBounds = UNBOUNDED,
    options: Pick<StartOptions, "onPlan" | "onProgress" | "onNotice"> = {},
  ): Promise<EngineClient> {
    return new Promise((resolve, reject) => {
      let client: EngineClient | null = null;
      transport.onMessage((message) => {
        if (client) {
          client.receive(message);
        } else if (message.type === "ready") {
          const { info, memory } = message;
          client = new EngineClient(transport, info, memory, bounds);
          resolve(client);
        } else if (message.type === "plan") {
          options.onPlan?.(message.info);
        } else if (message.type === "notice") {
          options.onNotice?.(message.text);
        } else if (message.type === "progress") {
          options.onProgress?.(message.phase, message.done, message.total);
        } else if (message.type === "fatal") {
          const error = fromWireError(message.error);
          void transport.close().then(() => reject(error));
        }
      });
    });
  }

  /** Requests that have not ended. */
  get numPending(): number {
    return this.active.size;
  }

  /** Requests sent to the engine and not admitted yet; their prompt tokens. */
  get numQueuedReqs(): number {
    return this.queuedReqs;
  }
  get numQueuedTokens(): number {
    return this.queuedTokens;
  }

  /** Null while requests are taken; else the error that submit would throw. */
  get unavailable(): OctavoError | null {
    if (this.failure) return this.failure;
    return this.draining
      ? new OctavoError("shutting_down", "The server is shutting down.")
      : null;
  }

  /**
   * Sends a request to the engine. Throws OctavoError: queue_full (`param` says which bound, max_num_queued_reqs or
   * max_num_queued_tokens), shutting_down, invalid_request, or the error that ended the engine.
   */
  submit(request: NewRequest, listener: RequestListener): ActiveRequest {
    const { unavailable } = this;
    if (unavailable) throw unavailable;
    checkBias(request);
    this.checkQueue(request.promptTokenIds.length);
    const handle = this.nextHandle();
    const active = new ActiveRequest(
      handle,
      request.promptTokenIds.length,
      request.n,
      listener,
      this.postAbort,
      this.reportListenerError,
    );
    this.transport.post({ type: "add", request: { ...request, handle } });
    if (this.active.size === 0) this.lastStepTime = now();
    this.active.set(handle, active);
    this.queuedReqs++;
    this.queuedTokens += active.numPromptTokens;
    return active;
  }

  /** Shares a grammar worker's memory with the engine. */
  attachGrammars(
    channel: number,
    memory: SharedArrayBuffer,
    sizes: ChannelSizes,
  ): void {
    if (this.failure) return;
    this.transport.post({ type: "grammars", channel, memory, sizes });
  }

  /** Runs a method of the engine between two steps. */
  async call(method: EngineCall): Promise<unknown> {
    if (this.failure) throw this.failure;
    const id = ++this.lastCall;
    const result = await new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.transport.post({ type: "call", id, method });
    });
    // No step tells of it while nothing runs.
    if (method === "resetPrefixCache") this.stats.numCachedFreeBlocks = 0;
    return result;
  }

  /** After each step's events, with the engine's figures. Returns the function that ends it. */
  onStep(listener: (stats: EngineStats) => void): () => void {
    return subscribe(this.stepListeners, listener);
  }

  /** After everything of a step has been dispatched: the moment to write out what was gathered. */
  onFlush(listener: () => void): () => void {
    return subscribe(this.flushListeners, listener);
  }

  /** What a listener threw, or the error that ended the engine: to be logged. */
  onError(listener: (error: unknown) => void): () => void {
    return subscribe(this.errorListeners, listener);
  }

  /** When the device was lost, at each further failure, and when it is there again. */
  onRestart(listener: (health: RunnerHealth) => void): () => void {
    return subscribe(this.restartListeners, listener);
  }

  /** The engine ended by itself, after every request was told. Nothing brings it back: the process should end. */
  onFatal(listener: (error: OctavoError) => void): () => void {
    return subscribe(this.fatalListeners, listener);
  }

  /** Takes no more requests; resolves when those that are there have ended. */
  drain(): Promise<void> {
    this.draining = true;
    if (this.active.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.drained.push(resolve));
  }

  /** Ends the engine. Requests that have not ended get onError(shutting_down). Idempotent. */
  async close(): Promise<void> {
    const message = "The server shut down before the request had finished.";
    this.fail(new OctavoError("shutting_down", message));
    await this.transport.close();
  }

  private checkQueue(numPromptTokens: number): void {
    const { maxNumQueuedReqs, maxNumQueuedTokens } = this.bounds;
    if (maxNumQueuedReqs > 0 && this.queuedReqs >= maxNumQueuedReqs)
      throw new OctavoError(
        "queue_full",
        `${this.queuedReqs} requests are waiting, the limit is ${maxNumQueuedReqs}. Retry later.`,
        "max_num_queued_reqs",
      );
    // A prompt above the bound by itself is taken when nothing else waits: refusing it would be for ever.
    if (
      maxNumQueuedTokens > 0 &&
      this.queuedTokens > 0 &&
      this.queuedTokens + numPromptTokens > maxNumQueuedTokens
    )
      throw new OctavoError(
        "queue_full",
        `${this.queuedTokens} prompt tokens are waiting and the request has ${numPromptTokens}, the limit is ${maxNumQueuedTokens}. Retry later.`,
        "max_num_queued_tokens",
      );
  }

  /** Positive int32, not in use. */
  private nextHandle(): number {
    do this.lastHandle = (this.lastHandle % 0x7fffffff) + 1;
    while (this.active.has(this.lastHandle));
    return this.lastHandle;
  }

  private readonly postAbort = (
    handle: number,
    choice: number,
    reason: AbortReason,
  ): void => {
    if (this.failure) return;
    this.transport.post({ type: "abort", handle, choice, reason });
  };

  private readonly reportListenerError = (error: unknown): void => {
    this.tell(this.errorListeners, error);
  };

  private receive(message: FromEngine): void {
    switch (message.type) {
      case "step":
        this.dispatch(message);
        break;
      case "rejected":
        this.end(message.handle, fromWireError(message.error));
        break;
      case "reply":
        this.settle(message.id, message.result, message.error);
        break;
      case "fatal": {
        if (this.failure) break;
        const error = fromWireError(message.error);
        this.tell(this.errorListeners, error);
        this.fail(error);
        this.tell(this.fatalListeners, error);
        break;
      }
      case "progress":
        // Weights are read again after a restart: slow, but not stuck.
        this.lastStepTime = now();
        break;
      case "plan":
      case "notice":
      case "ready":
        break;
    }
  }

  private dispatch(message: StepMessage): void {
    const { admitted, preempted, events, finished, stats } = message;
    const before = this.stats.runner;
    this.stats = stats;
    this.lastStepTime = now();
    if (
      stats.runner.restarting !== before.restarting ||
      stats.runner.numFailures !== before.numFailures
    )
      this.tell(this.restartListeners, stats.runner);
    for (const entry of admitted) {
      const request = this.active.get(entry.handle);
      if (!request) continue;
      this.leaveQueue(request);
      request.deliverAdmitted(entry);
    }
    for (const entry of preempted ?? [])
      this.active.get(entry.handle)?.deliverPreempted(entry);
    readEvents(events, (event) =>
      this.active.get(event.handle)?.deliverEvent(event),
    );
    for (const entry of finished) {
      const request = this.active.get(entry.handle);
      if (!request) continue;
      request.deliverFinished(entry);
      if (request.ended) this.remove(request);
    }
    this.tell(this.stepListeners, stats);
    this.tell(this.flushListeners, undefined);
  }

  private end(handle: number, error: OctavoError): void {
    const request = this.active.get(handle);
    if (!request) return;
    request.deliverError(error);
    this.remove(request);
    this.tell(this.flushListeners, undefined);
  }

  private settle(
    id: number,
    result: unknown,
    error: Parameters<typeof fromWireError>[0] | null,
  ): void {
    const call = this.calls.get(id);
    this.calls.delete(id);
    if (error) call?.reject(fromWireError(error));
    else call?.resolve(result);
  }

  private fail(error: OctavoError): void {
    this.failure ??= error;
    for (const request of [...this.active.values()]) {
      request.deliverError(error);
      this.remove(request);
    }
    for (const call of this.calls.values()) call.reject(error);
    this.calls.clear();
    this.tell(this.flushListeners, undefined);
  }

  private remove(request: ActiveRequest): void {
    this.leaveQueue(request);
    this.active.delete(request.handle);
    if (this.active.size > 0) return;
    for (const resolve of this.drained.splice(0)) resolve();
  }

  private leaveQueue(request: ActiveRequest): void {
    if (!request.queued) return;
    request.queued = false;
    this.queuedReqs--;
    this.queuedTokens -= request.numPromptTokens;
  }

  /** What one of these listeners throws is told to the error listeners, and must not reach the others. */
  private tell<T>(listeners: Set<(value: T) => void>, value: T): void {
    for (const listener of listeners) {
      try {
        listener(value);
      } catch (error) {
        if (listeners !== (this.errorListeners as Set<unknown>))
          this.reportListenerError(error);
      }
    }
  }
}

interface PendingCall {
  resolve: (result: unknown) => void;
  reject: (error: OctavoError) => void;
}

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** The server bounds each list by itself; together they must fit the room that a sampled row has. */
function checkBias({ params }: NewRequest): void {
  const entries = maxBiasEntries(params);
  if (entries > MAX_BIAS_PER_ROW)
    throw new OctavoError(
      "invalid_request",
      `logit_bias, bad_words and the stop tokens held back by min_tokens name ${entries} different tokens, at most ${MAX_BIAS_PER_ROW} are supported.`,
      "logit_bias",
    );
}
