import { now, type EngineConfig } from "../../src/core/config.js";
import { OctavoError } from "../../src/core/errors.js";
import { FINISH_REASON_NAMES } from "../../src/core/request.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import type { FinishedChoice } from "../../src/engine/messages.js";
import type { EngineStats } from "../../src/engine/stats.js";
import {
  GrammarPool,
  type GrammarLease,
} from "../../src/grammar/grammar-pool.js";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import { loadAddon } from "../../src/runner/addon.js";
import {
  vocabularyOf,
  type TokenSource,
} from "../../src/grammar/vocabulary.js";

export interface StreamRequest {
  promptTokenIds: Int32Array;
  /** Generated whatever the model says, as long as the grammar leaves something else than the end. */
  outputLen: number;
  /** Null: free. */
  lease: GrammarLease | null;
  seed: number;
  /** Called on this thread for each token. */
  onToken?: () => void;
}

export interface Stream {
  /** Rejects where it ended by something else than its length, its grammar or `abort`. */
  readonly finished: Promise<FinishedChoice>;
  abort(): void;
}

/** The engine in its thread and grammars in their workers, wired as the server does it, without HTTP and text. */
export class GrammarEngine {
  private pool: GrammarPool;
  private lastId = 0;

  private constructor(
    private readonly client: EngineClient,
    private readonly tokens: TokenSource,
    private readonly eosTokenIds: readonly number[],
    private readonly temperature: number,
  ) {
    this.pool = this.createPool();
  }

  get info(): EngineClient["info"] {
    return this.client.info;
  }

  /**
   * Errors: as EngineClient.start's.
   * @param tokensOf what the tokens are, by the size of the vocabulary
   */
  static async start(
    config: EngineConfig,
    tokensOf: (vocabSize: number) => Promise<TokenSource>,
    temperature: number,
    onProgress: (done: number, total: number) => void,
  ): Promise<GrammarEngine> {
    const client = await EngineClient.start(config, {
      onProgress: (_phase, done, total) => onProgress(done, total),
    });
    try {
      loadAddon().shortenTimeSlice();
      const { vocabSize, eosTokenIds } = client.info;
      const tokens = await tokensOf(vocabSize);
      // A config without one will do for made-up weights: nothing here ends by itself.
      const ends = eosTokenIds.length > 0 ? eosTokenIds : [vocabSize - 1];
      return new GrammarEngine(client, tokens, ends, temperature);
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /** Throws the workers and what they hold away for a pool as a server has it once it is ready. */
  async renewPool(): Promise<void> {
    await this.pool.close();
    this.pool = this.createPool();
    await this.pool.warmUp();
  }

  acquire(spec: GrammarSpec): Promise<GrammarLease> {
    return this.pool.acquire(spec);
  }

  onStep(listener: (stats: EngineStats) => void): () => void {
    return this.client.onStep(listener);
  }

  /** The lease is released when the stream ends. */
  submit(request: StreamRequest): Stream {
    const { promptTokenIds, outputLen, lease, seed, onToken } = request;
    let end: () => void = () => undefined;
    const finished = new Promise<FinishedChoice>((resolve, reject) => {
      const active = this.client.submit(
        {
          id: `bench-${++this.lastId}`,
          promptTokenIds,
          n: 1,
          priority: 0,
          cacheSalt: "",
          arrivalTime: now(),
          bypassPrefixCache: false,
          params: {
            ...NEUTRAL_SAMPLING,
            temperature: this.temperature,
            seedLo: seed | 0,
            seedHi: this.lastId,
            maxTokens: outputLen,
            ignoreEos: true,
            eosTokenIds: [...this.eosTokenIds],
          },
          ...(lease && {
            constraint: {
              grammar: lease.ref,
              startAfter: [],
              freeTokens: null,
            },
          }),
        },
        {
          onAdmitted: () => undefined,
          onEvent: () => onToken?.(),
          onFinished: (choice) => {
            const reason = FINISH_REASON_NAMES[choice.finish];
            if (["length", "stop", "abort"].includes(reason)) resolve(choice);
            else
              reject(
                new OctavoError(
                  "internal_error",
                  `a request ended with ${reason || "nothing"}`,
                ),
              );
          },
          onError: reject,
        },
      );
      end = () => active.abort();
    }).finally(() => lease?.release());
    return { finished, abort: () => end() };
  }

  async close(): Promise<void> {
    // In this order: the engine may be waiting for a mask.
    await this.client.close();
    await this.pool.close();
  }

  private createPool(): GrammarPool {
    const { client, tokens, eosTokenIds } = this;
    const { vocabSize, maxNumSamples } = client.info;
    return new GrammarPool({
      vocabulary: () => vocabularyOf(tokens, vocabSize, eosTokenIds),
      words: Math.ceil(vocabSize / 32),
      maxRows: maxNumSamples,
      canEnd: true,
      attach: (channel, memory, sizes) =>
        client.attachGrammars(channel, memory, sizes),
    });
  }
}
