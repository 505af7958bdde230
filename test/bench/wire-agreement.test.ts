import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  hasShared,
  startServer,
  STORIES,
  type ServerProcess,
} from "../e2e/server-process.js";
import { runBench } from "./flags.js";
import { proxyProcess } from "./recording-proxy-process.js";

/** Large enough that a prompt takes hundreds of milliseconds: 3 % of that is more than two processes' wake-ups. */
const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 512,
  intermediate_size: 1536,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 512,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  torch_dtype: "float32",
};

describe.skipIf(!hasShared)(
  "what the bench measures and what a proxy in between saw (needs ../shared/models/stories260k)",
  () => {
    const model = mkdtempSync(path.join(os.tmpdir(), "octavo-wire-"));
    let server: ServerProcess;
    beforeAll(async () => {
      writeFileSync(path.join(model, "config.json"), JSON.stringify(CONFIG));
      for (const file of ["tokenizer.json", "tokenizer_config.json"])
        copyFileSync(path.join(STORIES, file), path.join(model, file));
      // One thread: the other core is the client's and the proxy's.
      server = await startServer([
        model,
        ...["--load-format", "dummy", "--threads", "1"],
        ...["--max-num-seqs", "8", "--log-level", "warn"],
      ]);
    });
    afterAll(async () => {
      await server.stop("SIGKILL");
      rmSync(model, { recursive: true });
    });

    it("agree within 3 %", { retry: 2 }, async () => {
      const proxy = await proxyProcess(server.url);
      try {
        const { report, outcomes } = await runBench(proxy.url, [
          ...["--random-input-len", "1200", "--random-output-len", "24"],
          ...["--num-prompts", "12", "--request-rate", "4", "--ignore-eos"],
        ]);
        // /tokenize came first.
        const seen = (await proxy.figures()).slice(-12);
        expect(report["completed"]).toBe(12);
        expect(seen.map(({ tokens }) => tokens)).toEqual(Array(12).fill(24));
        const ttft = median(seen.map((one) => one.ttft));
        expect(ttft).toBeGreaterThan(100);
        within(Number(report["median_ttft_ms"]) / ttft, 0.03);
        const mean = seen.reduce((sum, one) => sum + one.ttft, 0) / 12;
        within(Number(report["mean_ttft_ms"]) / mean, 0.03);
        const seconds =
          (Math.max(...seen.map(({ end }) => end)) -
            Math.min(...seen.map(({ asked }) => asked))) /
          1000;
        // The run begins a gap before its first request.
        const start = outcomes[0]?.startTime ?? 0;
        const throughput = Number(report["output_throughput"]);
        within((throughput * (seconds + start)) / (12 * 24), 0.03);
      } finally {
        proxy.close();
      }
    });
  },
);

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (
    ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) /
    2
  );
}

function within(ratio: number, tolerance: number): void {
  expect(Math.abs(ratio - 1)).toBeLessThan(tolerance);
}
