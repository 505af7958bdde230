import { NO_MEMORY } from "../runner/addon.js";
import type { RunnerMemory } from "../runner/addon.js";
import { EngineHost } from "./engine-host.js";
import type { HostedEngine } from "./engine-host.js";
import type { EngineInfo, FromEngine, ToEngine } from "./messages.js";
import type { EngineTransport } from "./transport.js";
import { toWireError } from "./wire-error.js";

export interface LocalTransportOptions {
  /** What the client is told about the engine; the rest is filled with neutral values. */
  info?: Partial<EngineInfo>;
  memory?: RunnerMemory;
  /** Called once when the transport closes or the engine failed: frees the runner. */
  onClose?: () => void;
}

/**
 * The engine on the caller's own thread, a step per turn of the event loop. Messages are cloned as between threads, so
 * what works here works there.
 */
export function createLocalTransport(
  engine: HostedEngine,
  options: LocalTransportOptions = {},
): EngineTransport {
  return new LocalTransport(engine, options);
}

class LocalTransport implements EngineTransport {
  private readonly host: EngineHost;
  private readonly inbox: ToEngine[] = [];
  private listener: ((message: FromEngine) => void) | null = null;
  private scheduled: NodeJS.Immediate | null = null;
  private ended = false;

  constructor(
    engine: HostedEngine,
    private readonly options: LocalTransportOptions,
  ) {
    this.host = new EngineHost(engine, (message) =>
      this.listener?.(structuredClone(message)),
    );
  }

  onMessage(listener: (message: FromEngine) => void): void {
    this.listener = listener;
    const { info, memory } = this.options;
    setImmediate(() => {
      if (this.ended) return;
      listener({
        type: "ready",
        info: { ...NEUTRAL_INFO, ...info },
        memory: memory ?? NO_MEMORY,
      });
    });
  }

  post(message: ToEngine): void {
    if (this.ended) return;
    this.inbox.push(structuredClone(message));
    this.wake();
  }

  async close(): Promise<void> {
    this.end();
  }

  private wake(): void {
    this.scheduled ??= setImmediate(() => {
      this.scheduled = null;
      this.turn();
    });
  }

  /** One turn of engine-thread.ts's loop. */
  private turn(): void {
    try {
      for (const message of this.inbox.splice(0)) {
        if (message.type === "close") return this.end();
        this.host.receive(message);
      }
      if (!this.host.idle) this.host.step();
    } catch (error) {
      this.listener?.({ type: "fatal", error: toWireError(error) });
      return this.end();
    }
    if (!this.ended && !this.host.idle) this.wake();
  }

  private end(): void {
    if (this.ended) return;
    this.ended = true;
    this.listener = null;
    if (this.scheduled) clearImmediate(this.scheduled);
    this.options.onClose?.();
  }
}

const NEUTRAL_INFO: EngineInfo = {
  architecture: "local",
  device: "local",
  deviceDescription: "the caller's thread",
  isa: "none",
  threads: 1,
  quantization: "none",
  vocabSize: 1,
  maxModelLen: 1,
  numBlocks: 1,
  blockSize: 16,
  kvCacheDtype: "f32",
  maxNumSeqs: 1,
  maxNumSamples: 1,
  maxNumBatchedTokens: 1,
  speculation: null,
  weightBytes: 0,
  kvBytesPerBlock: 0,
  workspaceBytes: 0,
  linearKernels: null,
  availableMemory: 0,
  eosTokenIds: [],
  bosTokenId: null,
  generationDefaults: {},
  draft: null,
};
