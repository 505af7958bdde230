/** A server whose workers are real, and what must hold of it after whatever came. */
import { existsSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { expect, vi } from "vitest";
import { GrammarPool } from "../../../src/grammar/grammar-pool.js";
import { tinyEncoder, type TinyModel } from "../../encoder/tiny-models.js";
import { pagedEngine } from "../known-engine.js";
import { serve, TOOL_TEMPLATE, type TestServer } from "../support.js";

export const ROUNDS = process.env.OCTAVO_LONG === undefined ? 1000 : 20_000;
export const ADMIN_KEY = "admin";

export const grammarWorker = fileURLToPath(
  new URL("../../../dist/src/grammar/grammar-worker.js", import.meta.url),
);
export const isBuilt = existsSync(grammarWorker);

export interface FuzzedServer extends TestServer {
  readonly ids: KnownIds;
  /** Nothing is left of what was asked: no request, block, matcher or grammar in use; and it still answers. */
  expectClean(): Promise<void>;
}

/** The real scheduler, KV cache, workers and routes over the fake runner, beside a small encoder. Needs dist/. */
export async function startFuzzed(
  kind: TinyModel["kind"] = "embedding",
): Promise<FuzzedServer> {
  const encoder = await tinyEncoder({ kind, config: { is_matryoshka: true } });
  const engine = pagedEngine({ maxModelLen: 512 });
  const acquire = vi.spyOn(GrammarPool.prototype, "acquire");
  const server = await serve(engine, {
    template: `${TOOL_TEMPLATE}{# </think> #}`,
    trustRequestChatTemplate: true,
    info: {
      maxModelLen: 512,
      maxNumSamples: engine.runner.limits.maxNumSamples,
    },
    encoder: { encoder, names: ["tiny-encoder"] },
    adminApiKey: ADMIN_KEY,
    grammarWorkerUrl: pathToFileURL(grammarWorker),
  });
  const expectClean = async (): Promise<void> => {
    const { client, app, post } = server;
    await expect.poll(() => client.numPending, { timeout: 20_000 }).toBe(0);
    expect([encoder.numPending, encoder.numWaiting]).toEqual([0, 0]);
    await expect.poll(() => engine.idle, { timeout: 20_000 }).toBe(true);
    await client.call("checkIntegrity");
    expect(client.stats.kvCacheUsage).toBe(0);
    expect(engine.numMatchers).toBe(0);
    for (const pool of new Set(acquire.mock.contexts as GrammarPool[])) {
      expect(pool.numLeases).toBe(0);
      expect(pool.numWaiting).toBe(0);
    }
    acquire.mockRestore();
    expect((await app.inject("/health")).statusCode).toBe(200);
    const { statusCode } = await post("/v1/completions", { prompt: "a" });
    expect(statusCode).toBe(200);
  };
  return { ...server, ids: new KnownIds(), expectClean };
}

/** Ids of what the server kept last, in place of those of the seeds. */
export class KnownIds {
  private response = "resp_0";
  private item = "msg_0";

  /** @param answer JSON, or events */
  note(answer: string): void {
    if (!answer.includes('"store":true')) return;
    this.response = /"id":"(resp_\w+)"/.exec(answer)?.[1] ?? this.response;
    this.item = /"id":"(msg_\w+)"/.exec(answer)?.[1] ?? this.item;
  }

  fill(text: string): string {
    return text.replace("resp_0", this.response).replace("msg_0", this.item);
  }
}
