/**
 * The whole engine on the CUDA kernels, which a simulator runs on the processor (kernels/cuda/sim): golden models, and
 * outputs that depend on nothing but their request. `npm run build:cuda-sim` builds the library.
 */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import { parseSpeculativeConfig } from "../../src/core/speculative-config.js";
import type { FromEngine } from "../../src/engine/messages.js";
import { graphRows } from "../../src/engine/graph-rows.js";
import { prepareModel } from "../../src/engine/prepare-model.js";
import { startEngine } from "../../src/engine/start-engine.js";
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
import { hasShared, SHARED, startServer, STORIES } from "./server-process.js";

const LONG = process.env["OCTAVO_LONG"] === "1";
const LIBRARY = path.join(path.dirname(addonFile()), "liboctavo_cuda-sim.so");
const built = existsSync(LIBRARY);
const MODELS = path.join(SHARED, "models");
const names = hasShared ? readdirSync(MODELS).sort() : [];

// The simulator is slow, and slower beside other tests; nothing here measures time.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

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
    });

    it.each(Object.keys(SETTINGS))("%s", async (setting) => {
      const busy = await open(name, SETTINGS[setting] ?? {});
      busy.run(requests, 3);
      busy.close();
      expect(busy.outcomes.size).toBe(solo.size);
      for (const [key, outcome] of busy.outcomes) {
        const { cachedTokens: _, ...expected } = solo.get(key) as Outcome;
        expect({ key, ...outcome }).toMatchObject({ key, ...expected });
      }
    });
  },
);

describe.runIf(built && hasShared)("cuda-sim's memory", () => {
  it("that is too small is an error which names the flag and the value", async () => {
    process.env["OCTAVO_SIM_MEMORY"] = "40";
    try {
      await expect(
        open("tiny-llama3", {
          gpuMemoryUtilization: 0.1,
          numGpuBlocksOverride: null,
        }),
      ).rejects.toThrow(/Set --gpu-memory-utilization 0\.\d+ or take/);
      await expect(
        open("tiny-llama3", { maxNumBatchedTokens: 65536, maxModelLen: null }),
      ).rejects.toThrow(/Lower --max-num-batched-tokens \(65536\)/);
    } finally {
      delete process.env["OCTAVO_SIM_MEMORY"];
    }
  });

  it("that others take before it is loaded is an error with a flag too", async () => {
    const model = path.join(MODELS, "tiny-llama3");
    try {
      await expect(
        startEngine(
          { ...ENGINE_DEFAULTS, model, device: "cuda-sim" },
          ({ type }) => {
            if (type === "plan") process.env["OCTAVO_SIM_MEMORY"] = "12";
          },
        ),
      ).rejects.toThrow(
        /^KV cache of layer \d: .* set --gpu-memory-utilization 0\.85 or less\.$/,
      );
    } finally {
      delete process.env["OCTAVO_SIM_MEMORY"];
    }
  });

  it("is planned to what is taken of it", async () => {
    const { info, memory } = await started({ numGpuBlocksOverride: null });
    expect(memory.workspace).toBeLessThanOrEqual(info.workspaceBytes);
    expect(memory.weights).toBe(info.weightBytes);
    expect(memory.kvCache).toBe(info.numBlocks * info.kvBytesPerBlock);
  });

  it("holds an embedding once that the head is tied to", async () => {
    const bytes = async (tied: boolean): Promise<number> => {
      const model = mkdtempSync(path.join(tmpdir(), "octavo-tied-"));
      const source = path.join(MODELS, "tiny-llama3", "config.json");
      const config = JSON.parse(readFileSync(source, "utf8")) as object;
      writeFileSync(
        path.join(model, "config.json"),
        JSON.stringify({ ...config, tie_word_embeddings: tied }),
      );
      const { info, memory } = await started({ model, loadFormat: "dummy" });
      rmSync(model, { recursive: true });
      expect(memory.weights).toBe(info.weightBytes);
      return info.weightBytes;
    };
    const { vocab_size: vocab, hidden_size: width } = JSON.parse(
      readFileSync(path.join(MODELS, "tiny-llama3", "config.json"), "utf8"),
    ) as { vocab_size: number; hidden_size: number };
    expect((await bytes(false)) - (await bytes(true))).toBe(2 * vocab * width);
  });

  it("counts its decode graphs, two for each number of rows", async () => {
    const { memory } = await started({ maxNumSeqs: 12 });
    expect(memory.graphs.count).toBe(2 * graphRows(12).length);
    expect(memory.graphs.seconds).toBeGreaterThan(0);
    const eager = await started({ maxNumSeqs: 12, enforceEager: true });
    expect(eager.memory.graphs.count).toBe(0);
  });

  it("verifies drafts: the output is plain decoding's", async () => {
    const requests = randomRequests(8, 512, 60, 20, 5);
    const config: Partial<EngineConfig> = {
      device: "cuda-sim",
      maxModelLen: 128,
      maxNumSeqs: 4,
      maxNumBatchedTokens: 128,
      numGpuBlocksOverride: 40,
    };
    const plain = await openEngine(STORIES, config);
    plain.run(requests, 3);
    plain.close();
    const drafted = await openEngine(STORIES, {
      ...config,
      speculativeConfig: parseSpeculativeConfig({
        method: "suffix",
        num_speculative_tokens: 6,
        suffix_decoding_max_spec_factor: 4,
        adaptive: false,
      }),
    });
    // The second time the drafter remembers what came the first time.
    for (const _ of [1, 2]) drafted.run(requests, 3);
    drafted.close();
    expect(drafted.stats?.speculation?.numAcceptedTokens).toBeGreaterThan(40);
    for (const [key, { tokens }] of plain.outcomes)
      expect([key, ...(drafted.outcomes.get(key)?.tokens ?? [])]).toEqual([
        key,
        ...tokens,
        ...tokens,
      ]);
  });

  it("refuses pages and activations that it has no kernels for", async () => {
    await expect(open("tiny-llama3", { kvCacheDtype: "f32" })).rejects.toThrow(
      "spec.kvCacheDtype: expected a type that cuda-sim has kernels for",
    );
    await expect(
      open("tiny-llama3", { cpuActivations: "int8" }),
    ).rejects.toThrow("--cpu-activations int8: expected auto on cuda-sim");
    await expect(open("tiny-llama3", { dtype: "float32" })).rejects.toThrow(
      "--dtype float32: cuda-sim computes in float16.",
    );
  });
});

/** What was planned, and what was taken. */
async function started(config: Partial<EngineConfig>) {
  let ready: Extract<FromEngine, { type: "ready" }> | undefined;
  const { runner } = await startEngine(
    {
      ...ENGINE_DEFAULTS,
      model: path.join(MODELS, "tiny-llama3"),
      device: "cuda-sim",
      ...config,
    },
    (message) => {
      if (message.type === "ready") ready = message;
    },
  );
  runner.close();
  if (!ready) throw new Error("never ready");
  return ready;
}

describe.runIf(built && hasShared)("a kernel that fails on cuda-sim", () => {
  const args = [
    STORIES,
    ...["--device", "cuda-sim", "--max-model-len", "128"],
    ...["--num-gpu-blocks-override", "64", "--seed", "1"],
  ];
  const complete = async (env: NodeJS.ProcessEnv) => {
    const server = await startServer(args, env);
    const response = await fetch(`${server.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ prompt: "Once upon a time", max_tokens: 12 }),
    });
    const { choices } = (await response.json()) as {
      choices: { text: string }[];
    };
    await server.stop();
    return { text: choices[0]?.text, log: server.stderr() };
  };

  it("restarts the device, and the request ends as if nothing had happened", async () => {
    const whole = await complete({});
    const failed = await complete({ OCTAVO_SIM_FAIL_AT_LAUNCH: "300" });
    expect(failed.log).toContain("OCTAVO_SIM_FAIL_AT_LAUNCH");
    expect(failed.text).toBe(whole.text);
  });
});
