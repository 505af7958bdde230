import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { removeTemporaryFolders, temporaryFolder } from "./support.js";

const here = (file: string): string =>
  fileURLToPath(new URL(file, import.meta.url));

/** Whether allocations can be counted here: the library stands in for glibc's functions. */
const glibc =
  existsSync("/proc/self/task") &&
  process.report.getReport !== undefined &&
  JSON.stringify(process.report.getReport()).includes("glibcVersionRuntime");

const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 1000,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  torch_dtype: "float16",
};
const AWQ = {
  quant_method: "awq",
  bits: 4,
  group_size: 128,
  zero_point: true,
  version: "gemm",
};

interface Counted {
  nativeThreads: number;
  everywhere: number;
  steps: number;
  allocations: number;
}

describe.runIf(glibc)("decode steps", () => {
  let folder: string;
  let library: string;
  beforeAll(() => {
    folder = temporaryFolder();
    library = path.join(folder, "count-allocations.so");
    execFileSync(process.env["CXX"] ?? "c++", [
      ...["-std=c++17", "-O1", "-shared", "-fPIC", "-o", library],
      here("count-allocations.cc"),
    ]);
  });
  afterAll(removeTemporaryFolders);

  function decode(config: object, sequences: number, temperature: number) {
    const counts = path.join(folder, "counts");
    writeFileSync(counts, Buffer.alloc(256 * 16));
    writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
    const out = execFileSync(
      process.execPath,
      [
        here("decode-steps-process.cjs"),
        folder,
        String(sequences),
        String(temperature),
        counts,
      ],
      {
        env: {
          ...process.env,
          LD_PRELOAD: library,
          OCTAVO_ALLOCATION_COUNTS: counts,
        },
        encoding: "utf8",
      },
    );
    return JSON.parse(out) as Counted;
  }

  it.each([
    ["f16 weights, one greedy sequence", CONFIG, 1, 0],
    [
      "INT4 weights, 16 sampled",
      { ...CONFIG, quantization_config: AWQ },
      16,
      1,
    ],
  ] as const)(
    "allocate nothing on the runner's threads: %s",
    (_, config, sequences, temperature) => {
      const counted = decode(config, sequences, temperature);
      // The compute thread and the pool's second.
      expect(counted.nativeThreads).toBeGreaterThanOrEqual(2);
      expect(counted.everywhere).toBeGreaterThan(1000);
      expect(counted.steps).toBeGreaterThan(50);
      expect(counted.allocations).toBe(0);
    },
  );
});
