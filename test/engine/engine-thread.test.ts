import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import { FinishReason } from "../../src/core/request.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import type { StartOptions } from "../../src/engine/engine-client.js";
import type { EngineInfo } from "../../src/engine/messages.js";
import { makeRequest } from "../runner/support.js";
import { Recorder } from "./engine-client-support.js";

// A worker can't run TypeScript: it is the compiled one. `npm test` builds it first.
const worker = path.resolve("dist/src/engine/engine-thread.js");
const model = path.resolve("../shared/models/stories260k");
const ready = existsSync(worker) && existsSync(model);

interface Golden {
  cases: { prompt_token_ids: number[]; greedy_token_ids: number[] }[];
}

const clients: EngineClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
});

async function start(
  config: Partial<EngineConfig> = {},
  options: StartOptions = {},
): Promise<EngineClient> {
  const client = await EngineClient.start(
    { ...ENGINE_DEFAULTS, model, threads: 1, maxNumSeqs: 4, ...config },
    { workerUrl: pathToFileURL(worker), ...options },
  );
  clients.push(client);
  return client;
}

describe.skipIf(!ready)(
  "engine thread (needs dist/ and ../shared/models/stories260k)",
  () => {
    it.each([true, false])(
      "continues as golden.json has it (one step ahead: %s)",
      async (asyncScheduling) => {
        const golden = JSON.parse(
          readFileSync(path.join(model, "golden.json"), "utf8"),
        ) as Golden;
        const client = await start({ asyncScheduling });
        const recorders = golden.cases.map((test) => {
          const recorder = new Recorder();
          const maxTokens = Math.min(test.greedy_token_ids.length, 40);
          const request = makeRequest(test.prompt_token_ids, { maxTokens });
          client.submit(request, recorder);
          return recorder;
        });
        for (const [i, recorder] of recorders.entries()) {
          await recorder.ended;
          expect(recorder.errors).toEqual([]);
          expect(recorder.tokens[0]).toEqual(
            golden.cases[i]?.greedy_token_ids.slice(0, 40),
          );
        }
        await client.call("checkIntegrity");
        expect(client.stats).toMatchObject({
          numRunning: 0,
          numWaiting: 0,
          numFreeBlocks: client.info.numBlocks,
        });
      },
    );

    it("tells its plan before, its progress while, and its memory after loading", async () => {
      const plans: EngineInfo[] = [];
      const progress: [number, number][] = [];
      const client = await start(
        { maxModelLen: 128 },
        {
          onPlan: (info) => plans.push(info),
          onProgress: (_, done, total) => progress.push([done, total]),
        },
      );
      expect(plans).toEqual([client.info]);
      expect(client.info).toMatchObject({
        device: "cpu",
        vocabSize: 512,
        maxModelLen: 128,
        numBlocks: 4 * 8,
      });
      expect(progress.at(-1)?.[0]).toBe(progress.at(-1)?.[1]);
      const { info, memory } = client;
      expect(memory.weights).toBe(info.weightBytes);
      expect(memory.kvCache).toBe(info.numBlocks * info.kvBytesPerBlock);
      expect(memory.workspace).toBeLessThanOrEqual(info.workspaceBytes);
    });

    it("frees an aborted request's blocks within a step, and sleeps and wakes", async () => {
      const client = await start();
      for (let round = 0; round < 3; round++) {
        const recorder = new Recorder();
        const prompt = [1, 403, 407];
        const request = makeRequest(prompt, {
          maxTokens: 400,
          temperature: 1,
          logprobs: 2,
        });
        const active = client.submit(request, recorder);
        recorder.onToken = () => {
          if (recorder.tokens[0]?.length === 5) active.abort();
        };
        await recorder.ended;
        expect(recorder.tokens[0]).toHaveLength(5);
        expect(recorder.finished[0]?.finish).toBe(FinishReason.abort);
        await client.call("checkIntegrity");
        expect(client.stats.numFreeBlocks).toBe(client.info.numBlocks);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });

    it("keeps a draw to its seed, whatever else is in the batch", async () => {
      const client = await start({ enablePrefixCaching: false });
      const params = { temperature: 1, seedLo: 7, maxTokens: 24 };
      const alone = new Recorder();
      client.submit(makeRequest([1], params), alone);
      await alone.ended;
      const mates = Array.from({ length: 5 }, (_, i) => {
        const recorder = new Recorder();
        const seed = { ...params, seedLo: i === 3 ? 7 : 100 + i };
        client.submit(makeRequest([1], seed), recorder);
        return recorder;
      });
      await Promise.all(mates.map((recorder) => recorder.ended));
      expect(mates[3]?.tokens).toEqual(alone.tokens);
      expect(mates[0]?.tokens).not.toEqual(alone.tokens);
    });

    it("says what is wrong with a model or a flag", async () => {
      await expect(start({ model: "no-such-model" })).rejects.toMatchObject({
        code: "invalid_config",
        param: "model",
      });
      await expect(start({ maxModelLen: 1 << 20 })).rejects.toMatchObject({
        code: "invalid_config",
        param: "max-model-len",
      });
    });

    it("rejects when the thread dies before it is ready", async () => {
      const workerUrl = pathToFileURL("no-such-thread.js");
      await expect(start({}, { workerUrl })).rejects.toMatchObject({
        code: "internal_error",
      });
    });

    it("closes while requests run", async () => {
      const client = await start();
      const recorder = new Recorder();
      client.submit(makeRequest([1], { maxTokens: 400 }), recorder);
      await client.close();
      expect(recorder.errors[0]).toMatchObject({ code: "shutting_down" });
    });
  },
);
