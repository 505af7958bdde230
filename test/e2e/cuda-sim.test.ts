/**
 * The whole engine on the CUDA kernels, which a simulator runs on the processor (kernels/cuda/sim): golden models, and
 * outputs that depend on nothing but their request. `npm run build:cuda-sim` builds the library.
 */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EngineConfig } from "../../src/core/config.js";
import { prepareModel } from "../../src/engine/prepare-model.js";
import { addonFile } from "../../src/runner/addon.js";
import type { Open } from "../native/support.js";
import {
  expectContinuation,
  generate,
  goldenCases,
  goldenLogits,
  openModel,
  relativeRms,
} from "./golden-support.js";
import type { GoldenCase } from "./golden-support.js";
import { openEngine } from "./native-engine.js";
import type { NativeEngine, Outcome } from "./native-engine.js";
import { randomRequests } from "./random-requests.js";
import { hasShared, SHARED } from "./server-process.js";

const LONG = process.env["OCTAVO_LONG"] === "1";
const LIBRARY = path.join(path.dirname(addonFile()), "liboctavo_cuda-sim.so");
const built = existsSync(LIBRARY);
const MODELS = path.join(SHARED, "models");
const names = hasShared ? readdirSync(MODELS).sort() : [];

if (!built)
  it.skip("cuda-sim: npm run build:cuda-sim has not been run", () => undefined);
if (!hasShared) it.skip("cuda-sim: ../shared is missing", () => undefined);

describe.runIf(built && hasShared)("golden models on cuda-sim", () => {
  describe.each(names)("%s", (name) => {
    const directory = path.join(MODELS, name);
    const cases = hasShared ? goldenCases(directory) : [];
    const length = (golden: GoldenCase): number =>
      LONG ? golden.greedy_token_ids.length : 8;
    let opened: Open;
    beforeAll(async () => {
      const model = await prepareModel({
        model: directory,
        modelFile: null,
        loadFormat: "auto",
      });
      opened = openModel(model, "cuda-sim", "f16");
    });
    afterAll(() => opened.runner.close());

    it.each(LONG ? [64, 7] : [64])(
      "equals its goldens in chunks of %i",
      (chunk) => {
        for (const golden of LONG ? cases : cases.slice(0, 2)) {
          const came = generate(
            opened,
            golden.prompt_token_ids,
            length(golden),
            chunk,
          );
          expectContinuation(came, golden, { margin: 0.05, tolerance: 3e-2 });
        }
      },
    );

    it.runIf(goldenLogits(directory))("has its prompt logits", () => {
      const expected = goldenLogits(directory) as Float32Array;
      const [golden] = cases as [GoldenCase];
      const { promptLogits } = generate(opened, golden.prompt_token_ids, 1, 64);
      expect(relativeRms(promptLogits, expected)).toBeLessThan(5e-3);
    });
  });
});

/** Engine settings that may change how an output is computed and never what it is. */
const SETTINGS: Record<string, Partial<EngineConfig>> = {
  "graphs, one step ahead": {},
  "eager, plain loop, chunks of 16": {
    enforceEager: true,
    asyncScheduling: false,
    longPrefillTokenThreshold: 16,
  },
  "a pool that preempts, no prefix cache": {
    numGpuBlocksOverride: 18,
    enablePrefixCaching: false,
  },
};

function open(
  model: string,
  config: Partial<EngineConfig>,
): Promise<NativeEngine> {
  return openEngine(path.join(MODELS, model), {
    device: "cuda-sim",
    maxModelLen: 256,
    maxNumSeqs: 12,
    maxNumBatchedTokens: 128,
    numGpuBlocksOverride: 512,
    ...config,
  });
}

describe
  .runIf(built && hasShared)
  .each(
    LONG ? ["stories260k", "tiny-qwen2-awq", "tiny-mistral"] : ["stories260k"],
  )(
  "%s on cuda-sim: a request's output does not depend on its company",
  (name) => {
    const requests = randomRequests(24, 512, 100, LONG ? 40 : 10, 5);
    let solo: Map<string, Outcome>;
    beforeAll(async () => {
      const alone = await open(name, {
        enforceEager: true,
        asyncScheduling: false,
      });
      for (const request of requests) alone.run([request], 1);
      solo = alone.outcomes;
      alone.close();
    }, 600_000);

    it.each(Object.keys(SETTINGS))(
      "%s",
      async (setting) => {
        const busy = await open(name, SETTINGS[setting] ?? {});
        busy.run(requests, 3);
        busy.close();
        expect(busy.outcomes.size).toBe(solo.size);
        for (const [key, outcome] of busy.outcomes) {
          const { cachedTokens: _, ...expected } = solo.get(key) as Outcome;
          expect({ key, ...outcome }).toMatchObject({ key, ...expected });
        }
      },
      600_000,
    );
  },
);
