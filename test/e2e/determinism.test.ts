import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Request } from "../../src/core/request.js";
import {
  openEngine,
  type NativeEngine,
  type Outcome,
} from "./native-engine.js";
import { randomRequests, randomSource, requestOf } from "./random-requests.js";
import { hasShared, SHARED, STORIES } from "./server-process.js";

const LONG = process.env["OCTAVO_LONG"] === "1";

interface Setting {
  maxNumSeqs: 8 | 32;
  tinyPool: boolean;
  chunk: 16 | 512;
  enablePrefixCaching: boolean;
  asyncScheduling: boolean;
}

/** Every pair of values of two factors occurs in one of these; [long] takes all 32 combinations. */
const PAIRWISE = ["00000", "01111", "10110", "11001", "10011", "01100"];
const ALL = Array.from({ length: 32 }, (_, i) =>
  i.toString(2).padStart(5, "0"),
);

function settingOf(bits: string): Setting {
  return {
    maxNumSeqs: bits[0] === "1" ? 32 : 8,
    tinyPool: bits[1] === "1",
    chunk: bits[2] === "1" ? 16 : 512,
    enablePrefixCaching: bits[3] === "1",
    asyncScheduling: bits[4] === "1",
  };
}

function open(model: string, setting: Setting): Promise<NativeEngine> {
  return openEngine(model, {
    maxModelLen: 256,
    maxNumSeqs: setting.maxNumSeqs,
    maxNumBatchedTokens: 512,
    longPrefillTokenThreshold: setting.chunk,
    enablePrefixCaching: setting.enablePrefixCaching,
    asyncScheduling: setting.asyncScheduling,
    schedulingPolicy: "priority",
    numGpuBlocksOverride: setting.tinyPool ? 18 : 1024,
  });
}

function shuffled<T>(items: readonly T[], seed: number): T[] {
  const random = randomSource(seed);
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

describe
  .skipIf(!hasShared)
  .each(["stories260k", "tiny-qwen2-awq", "tiny-mistral"])(
  "%s: a request's output does not depend on its company (needs ../shared)",
  (name) => {
    const model = path.join(SHARED, "models", name);
    const count = name === "stories260k" ? (LONG ? 500 : 48) : LONG ? 100 : 48;
    const maxOutput = 40;
    const requests = randomRequests(count, 512, 120, maxOutput, 5);
    let solo: Map<string, Outcome>;

    beforeAll(async () => {
      const alone = await open(model, settingOf("00000"));
      for (const request of requests) alone.run([request], 1);
      solo = alone.outcomes;
      alone.close();
    }, 600_000);

    it.each(LONG ? ALL : PAIRWISE)(
      "seqs, pool, chunk, prefix cache, ahead = %s",
      async (bits) => {
        const setting = settingOf(bits);
        const busy = await open(model, setting);
        busy.run(shuffled<Request>(requests, Number.parseInt(bits, 2)), 3);
        busy.close();
        expect(busy.outcomes.size).toBe(solo.size);
        for (const [key, outcome] of busy.outcomes) {
          const { cachedTokens: _, ...expected } = solo.get(key) as Outcome;
          expect({ key, ...outcome }).toMatchObject({ key, ...expected });
        }
        // A windowed model gives blocks back as it goes: the tiny pool is ample for it.
        if (setting.tinyPool && name !== "tiny-mistral")
          expect(busy.stats?.numPreemptions).toBeGreaterThan(0);
        if (setting.enablePrefixCaching)
          expect(busy.stats?.prefixCacheHits).toBeGreaterThan(0);
      },
      600_000,
    );
  },
);

describe.skipIf(!hasShared)(
  "the prefix cache on tiny-llama3 (needs ../shared)",
  () => {
    const model = path.join(SHARED, "models", "tiny-llama3");
    const random = randomSource(3);
    const ids = (n: number): number[] =>
      Array.from({ length: n }, () => 3 + Math.floor(random() * 509));
    const prefix = ids(980);
    const config = {
      maxNumSeqs: 8,
      maxModelLen: 1024,
      numGpuBlocksOverride: 400,
    };
    let warm: NativeEngine;
    let cold: NativeEngine;
    beforeAll(async () => {
      warm = await openEngine(model, config);
      cold = await openEngine(model, { ...config, enablePrefixCaching: false });
    });
    afterAll(() => {
      warm.close();
      cold.close();
    });

    it("reports the shared full blocks and gives the same output, bitwise", () => {
      const first = requestOf(1, [...prefix, ...ids(20)], { maxTokens: 12 });
      const second = requestOf(2, [...prefix, ...ids(17)], {
        maxTokens: 12,
        temperature: 0.9,
        seedLo: 4,
        repetitionPenalty: 1.2,
      });
      warm.run([first], 1);
      warm.run([second], 1);
      cold.run([second], 1);
      const { cachedTokens, ...outcome } = warm.outcomes.get("2.0") as Outcome;
      const { cachedTokens: none, ...expected } = cold.outcomes.get(
        "2.0",
      ) as Outcome;
      expect(cachedTokens).toBe(Math.floor(980 / 16) * 16);
      expect(none).toBe(0);
      expect(outcome).toEqual(expected);
    });

    it("shares nothing with another salt", () => {
      warm.run(
        [
          requestOf(
            3,
            [...prefix, 7],
            { maxTokens: 1 },
            { cacheSalt: "other" },
          ),
        ],
        1,
      );
      expect(warm.outcomes.get("3.0")?.cachedTokens).toBe(0);
    });

    it("computes the last token of a cached prompt whose length is a multiple of 16", () => {
      const prompt = prefix.slice(0, 64);
      const request = requestOf(4, prompt, { maxTokens: 8 });
      warm.run([request], 1);
      warm.run([{ ...request, handle: 5 }], 1);
      cold.run([request], 1);
      expect(warm.outcomes.get("5.0")?.cachedTokens).toBe(48);
      expect(warm.outcomes.get("5.0")?.tokens).toEqual(
        cold.outcomes.get("4.0")?.tokens,
      );
      expect(warm.outcomes.get("5.0")?.logprobs).toEqual(
        cold.outcomes.get("4.0")?.logprobs,
      );
    });

    it("holds the prompt's blocks once for n = 4", () => {
      const { engine } = cold;
      const free = engine.scheduler.kv.numFreeBlocks;
      engine.add(
        requestOf(6, ids(320), { maxTokens: 16, temperature: 1 }, { n: 4 }),
      );
      let fewest = free;
      while (!engine.idle) {
        engine.step();
        fewest = Math.min(fewest, engine.scheduler.kv.numFreeBlocks);
      }
      // 19 full blocks before the last prompt token, shared; then the 20th and those of the output, one set a choice.
      expect(free - fewest).toBe(19 + 4 * 2);
      expect(engine.scheduler.kv.numFreeBlocks).toBe(free);
    });
  },
);

describe.skipIf(!hasShared)("one step ahead (needs ../shared)", () => {
  it("drops the garbage row of a sequence that ended", async () => {
    const opened = await openEngine(STORIES, { maxNumSeqs: 4 });
    opened.run([requestOf(1, [1], { maxTokens: 64, stopTokenIds: [426] })], 1);
    expect(opened.outcomes.get("1.0")?.tokens.at(-1)).toBe(426);
    expect(opened.outcomes.get("1.0")?.finish).toBe("stop");
    opened.close();
  });
});
