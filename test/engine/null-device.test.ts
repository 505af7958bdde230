import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it } from "vitest";
import type { EngineConfig } from "../../src/core/config.js";
import type { EngineInfo } from "../../src/engine/messages.js";
import type { Request } from "../../src/core/request.js";
import { openEngine } from "../e2e/native-engine.js";
import type { Outcome } from "../e2e/native-engine.js";
import { startEngine } from "../../src/engine/start-engine.js";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { makeRequest } from "../runner/support.js";

/** The shapes of Llama-3.1-8B: nothing of that size is ever taken. */
const model = mkdtempSync(path.join(tmpdir(), "octavo-null-"));
afterAll(() => rmSync(model, { recursive: true, force: true }));
writeFileSync(
  path.join(model, "config.json"),
  JSON.stringify({
    architectures: ["LlamaForCausalLM"],
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 128256,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    torch_dtype: "bfloat16",
  }),
);

async function run(
  requests: Request[],
  perStep: number,
  config: Partial<EngineConfig> = {},
): Promise<Map<string, Outcome>> {
  const opened = await openEngine(model, {
    device: "null",
    loadFormat: "dummy",
    ...config,
  });
  opened.run(requests, perStep);
  opened.close();
  return opened.outcomes;
}

const requests = Array.from({ length: 12 }, (_, i) =>
  makeRequest(
    Array.from({ length: 5 + 17 * i }, (_, k) => (k * 31 + (i % 3)) % 1000),
    { maxTokens: 40, seedLo: i, temperature: 1, logprobs: 2 },
    { handle: i + 1, id: `r${i}` },
  ),
);

it("gives a request the same tokens alone, in a batch, preempted, and in either loop", async () => {
  const together = await run(requests, 5);
  expect(together.size).toBe(requests.length);
  for (const [i, request] of requests.entries()) {
    const alone = await run([request], 1, { asyncScheduling: false });
    const outcome = together.get(`${i + 1}.0`);
    expect(outcome?.tokens).toHaveLength(40);
    expect(outcome?.tokens).toEqual(alone.get(`${i + 1}.0`)?.tokens);
    expect(outcome?.logprobs[0]).toBeCloseTo(-Math.log(128256), 5);
  }
  const tight = await run(requests, 5, {
    maxModelLen: 256,
    numGpuBlocksOverride: 20,
    maxNumBatchedTokens: 64,
  });
  for (const [key, { tokens }] of tight)
    expect(tokens).toEqual(together.get(key)?.tokens);
  // A stuck token would hide most mistakes.
  expect(new Set(together.get("1.0")?.tokens).size).toBeGreaterThan(30);
});

it("takes no memory, and has room for every sequence at the model's full length", async () => {
  let info: EngineInfo | undefined;
  const { runner } = await startEngine(
    { ...ENGINE_DEFAULTS, model, device: "null", loadFormat: "dummy" },
    (message) => {
      if (message.type === "ready") info = message.info;
    },
  );
  runner.close();
  expect(info).toMatchObject({
    device: "null",
    weightBytes: 0,
    kvBytesPerBlock: 0,
    maxModelLen: 131072,
    numBlocks: (64 * 131072) / 16,
  });
});
