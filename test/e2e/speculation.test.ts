import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { EngineConfig } from "../../src/core/config.js";
import { parseSpeculativeConfig } from "../../src/core/speculative-config.js";
import {
  openEngine,
  type NativeEngine,
  type Outcome,
} from "./native-engine.js";
import { randomRequests } from "./random-requests.js";
import { hasShared, SHARED } from "./server-process.js";

const LONG = process.env["OCTAVO_LONG"] === "1";
const SHARED_MODELS = path.join(SHARED, "models");
const STARTER = path.join(import.meta.dirname, "../../models/starter");

const NGRAM = {
  method: "ngram",
  num_speculative_tokens: 4,
  prompt_lookup_min: 1,
  prompt_lookup_max: 3,
};
const SUFFIX = { method: "suffix", num_speculative_tokens: 6 };
const draftModel = (model: string) => ({
  method: "draft_model",
  model,
  num_speculative_tokens: 3,
});

/** Blocks are few (sequences are preempted) or plenty; lengths adapt or drafts are always made. */
const SETTINGS = [
  { tinyPool: true, adaptive: false, asyncScheduling: true },
  { tinyPool: false, adaptive: false, asyncScheduling: false },
  { tinyPool: true, adaptive: true, asyncScheduling: true },
];

const PAIRS: [model: string, drafters: object[]][] = [
  [
    path.join(SHARED_MODELS, "stories260k"),
    [NGRAM, SUFFIX, draftModel(path.join(SHARED_MODELS, "llama2xs"))],
  ],
  [path.join(SHARED_MODELS, "tiny-qwen2-awq"), [NGRAM, SUFFIX]],
  // Every layer is windowed.
  [path.join(SHARED_MODELS, "tiny-mistral"), [NGRAM, SUFFIX]],
  [STARTER, [SUFFIX, draftModel(path.join(STARTER, "draft"))]],
];

function open(
  model: string,
  config: Partial<EngineConfig>,
): Promise<NativeEngine> {
  return openEngine(model, {
    maxModelLen: 256,
    maxNumSeqs: 8,
    maxNumBatchedTokens: 128,
    schedulingPolicy: "priority",
    numGpuBlocksOverride: 1024,
    ...config,
  });
}

describe.skipIf(!hasShared).each(PAIRS)(
  "%s drafted for (needs ../shared)",
  (model, drafters) => {
    const requests = randomRequests(LONG ? 500 : 100, 512, 100, 40, 11);
    let plain: Map<string, Outcome>;

    beforeAll(async () => {
      const engine = await open(model, {});
      engine.run(requests, 3);
      plain = engine.outcomes;
      engine.close();
    }, 600_000);

    it.each(
      drafters.flatMap((drafter) =>
        SETTINGS.map((setting) => ({ drafter, setting })),
      ),
    )(
      "says the same, bit for bit, with $drafter.method and $setting",
      async ({ drafter, setting: { tinyPool, adaptive, asyncScheduling } }) => {
        const engine = await open(model, {
          numGpuBlocksOverride: tinyPool ? 18 : 1024,
          asyncScheduling,
          speculativeConfig: parseSpeculativeConfig({ ...drafter, adaptive }),
        });
        engine.run(requests, 3);
        engine.close();
        expect(engine.outcomes.size).toBe(plain.size);
        for (const [key, outcome] of engine.outcomes) {
          const { cachedTokens: _, ...expected } = plain.get(key) as Outcome;
          expect({ key, ...outcome }).toMatchObject({ key, ...expected });
        }
        const { speculation, numPreemptions, prefixCacheHits } =
          engine.stats ?? {};
        expect(prefixCacheHits).toBeGreaterThan(0);
        // A windowed model gives blocks back as it goes: the tiny pool is ample for it.
        if (tinyPool && !model.endsWith("mistral"))
          expect(numPreemptions).toBeGreaterThan(0);
        expect(speculation?.failure).toBeNull();
        if (adaptive) return;
        expect(speculation?.numDraftTokens).toBeGreaterThan(100);
        expect(speculation?.numAcceptedTokens).toBeGreaterThan(0);
      },
      600_000,
    );

    it("says the same where most drafts are right", async () => {
      const engine = await open(model, {
        speculativeConfig: parseSpeculativeConfig({
          ...SUFFIX,
          suffix_decoding_max_spec_factor: 4,
          adaptive: false,
        }),
      });
      // The second time the drafter remembers what came the first time.
      engine.run(requests, 3);
      const before = engine.stats?.speculation;
      engine.outcomes.clear();
      engine.run(requests, 3);
      const after = engine.stats?.speculation;
      engine.close();
      for (const [key, outcome] of engine.outcomes) {
        const { cachedTokens: _, ...expected } = plain.get(key) as Outcome;
        expect({ key, ...outcome }).toMatchObject({ key, ...expected });
      }
      const accepted =
        (after?.numAcceptedTokens ?? 0) - (before?.numAcceptedTokens ?? 0);
      const drafts = (after?.numDrafts ?? 0) - (before?.numDrafts ?? 0);
      expect(1 + accepted / drafts).toBeGreaterThan(2.5);
    }, 600_000);
  },
);
