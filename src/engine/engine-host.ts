import type { TokenEvents } from "../core/events.js";
import type { Request } from "../core/request.js";
import type { ChannelSizes } from "../grammar/channel.js";
import type {
  AbortReason,
  AdmittedRequest,
  EngineCall,
  FinishedChoice,
  FromEngine,
  PreemptedChoice,
  ToEngine,
} from "./messages.js";
import type { EngineStats } from "./stats.js";
import { toWireError } from "./wire-error.js";

/** What the host needs of an engine; engine.ts implements it. */
export interface HostedEngine {
  readonly idle: boolean;
  /** Throws OctavoError: the request can't be served; others are not touched. */
  add(request: Request): void;
  /** Takes effect before the next step. */
  abort(handle: number, choice: number, reason: AbortReason): void;
  /** One step; null when there was nothing to do or report. The result is valid until the next step. */
  step(): HostedStep | null;
  checkIntegrity(): void;
  resetPrefixCache(): boolean;
  /** From now on requests may be constrained by grammars of this worker. */
  attachGrammars?(
    channel: number,
    memory: SharedArrayBuffer,
    sizes: ChannelSizes,
  ): void;
}

export interface HostedStep {
  events: TokenEvents;
  finished: FinishedChoice[];
  admitted: AdmittedRequest[];
  preempted?: PreemptedChoice[];
  stats: EngineStats;
}

export type PostFromEngine = (
  message: FromEngine,
  transfer: ArrayBuffer[],
) => void;

/** Plays messages to an engine and its steps back as messages. Synchronous; the caller owns the loop. */
export class EngineHost {
  constructor(
    private readonly engine: HostedEngine,
    private readonly post: PostFromEngine,
  ) {}

  get idle(): boolean {
    return this.engine.idle;
  }

  receive(message: Exclude<ToEngine, { type: "close" }>): void {
    switch (message.type) {
      case "add":
        this.add(message.request);
        break;
      case "abort":
        this.engine.abort(message.handle, message.choice, message.reason);
        break;
      case "call":
        this.call(message.id, message.method);
        break;
      case "grammars":
        this.engine.attachGrammars?.(
          message.channel,
          message.memory,
          message.sizes,
        );
        break;
    }
  }

  /** One step and one post. Throws what the engine throws: it can't go on then. */
  step(): void {
    const step = this.engine.step();
    if (!step) return;
    const events = step.events.toMessage();
    const { finished, admitted, preempted, stats } = step;
    this.post({ type: "step", events, finished, admitted, preempted, stats }, [
      events.ints.buffer as ArrayBuffer,
      events.floats.buffer as ArrayBuffer,
    ]);
    if (this.engine.idle) this.engine.checkIntegrity();
  }

  private add(request: Request): void {
    try {
      this.engine.add(request);
    } catch (error) {
      const { handle } = request;
      this.post({ type: "rejected", handle, error: toWireError(error) }, []);
    }
  }

  private call(id: number, method: EngineCall): void {
    try {
      const result = this.run(method);
      this.post({ type: "reply", id, result, error: null }, []);
    } catch (error) {
      const failure = toWireError(error);
      this.post({ type: "reply", id, result: null, error: failure }, []);
    }
  }

  private run(method: EngineCall): unknown {
    switch (method) {
      case "resetPrefixCache":
        return this.engine.resetPrefixCache();
      case "checkIntegrity":
        return this.engine.checkIntegrity();
    }
  }
}
