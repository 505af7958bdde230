import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import { startEngine } from "../../src/engine/start-engine.js";
import { threadsWarning } from "../../src/engine/threads-warning.js";

const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 100,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  torch_dtype: "float16",
};

describe("more threads than processors", () => {
  let model: string;
  beforeAll(() => {
    model = mkdtempSync(path.join(tmpdir(), "octavo-threads-"));
    writeFileSync(path.join(model, "config.json"), JSON.stringify(CONFIG));
  });
  afterAll(() => rmSync(model, { recursive: true }));

  /** What the start of an engine tells people. */
  async function notices(
    device: EngineConfig["device"],
    threads: number,
  ): Promise<string[]> {
    const texts: string[] = [];
    const started = await startEngine(
      { ...ENGINE_DEFAULTS, model, loadFormat: "dummy", device, threads },
      (message) => {
        if (message.type === "notice") texts.push(message.text);
      },
    );
    started.close();
    return texts;
  }

  it("are told at the start, in one line with what to set", async () => {
    // A quota may leave fewer than the affinity does.
    const threads = availableParallelism() + 1;
    const [text, ...rest] = await notices("cpu", threads);
    expect(rest).toEqual([]);
    expect(text).toMatch(
      /^--threads (\d+): this process may use (\d+) processors? at once, .* Set --threads \2 or less, or 0 /,
    );
    expect(text).toContain(`--threads ${threads}:`);
    expect(text).not.toContain("\n");
  });

  it("are no matter where as many can run, and where no thread computes", async () => {
    expect(await notices("cpu", 0)).toEqual([]);
    expect(await notices("cpu", 1)).toEqual([]);
    expect(await notices("null", availableParallelism() + 1)).toEqual([]);
    const gpu = { device: "cuda", hostMemory: false, processors: 2 };
    expect(threadsWarning(8, gpu)).toBeNull();
    const host = { device: "cpu", hostMemory: true, processors: 2 };
    expect(threadsWarning(2, host)).toBeNull();
    expect(threadsWarning(3, host)).toContain("may use 2 processors at once");
  });
});
