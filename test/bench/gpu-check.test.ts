/** The command that checks and measures a GPU (kernels/cuda/gpu_check.sh), on the simulator. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  decodeFloorSeconds,
  prefillFlop,
  workOf,
} from "../../bench/device/floors.js";
import { shapeConfig } from "../../bench/device/shapes.js";
import { summarizeResults } from "../../bench/device/summary.js";
import { addonFile } from "../../src/runner/addon.js";
import { hasShared, STORIES } from "../e2e/server-process.js";

const scratch = mkdtempSync(path.join(tmpdir(), "octavo-gpu-check-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const SCRIPT = path.resolve("kernels/cuda/gpu_check.sh");
const simulator = path.join(path.dirname(addonFile()), "liboctavo_cuda-sim.so");
const runs =
  hasShared && existsSync(simulator) && existsSync("dist/src/cli/main.js");

function check(
  args: string[],
  env: NodeJS.ProcessEnv = {},
): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync("sh", [SCRIPT, ...args], {
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  return { status, output: stdout + stderr };
}

function hasTorch(): boolean {
  try {
    execFileSync("/usr/bin/python3", ["-c", "import torch"], {
      stdio: "ignore",
    });
    return true;
  } catch {
    return false;
  }
}

const readJson = (file: string): unknown =>
  JSON.parse(readFileSync(file, "utf8"));

describe("gpu:check", () => {
  it("names the parts that it knows", () => {
    const { status, output } = check(["--part", "kernels,foo"]);
    expect(status).toBe(2);
    expect(output).toContain("--part: expected kernels, models, logits, bench");
    expect(output).toContain("got foo");
  });

  it.skipIf(!runs)(
    "runs on the simulator: golden models, measurements, summary (needs ../shared, cuda-sim, dist)",
    { timeout: 300_000 },
    () => {
      const out = path.join(scratch, "out");
      const golden = path.join(scratch, "models");
      cpSync(STORIES, path.join(golden, "stories260k"), { recursive: true });
      const { status, output } = check(
        ["--tiny", "--part", "models,bench,idle,summary", "--out", out],
        { OCTAVO_GOLDEN: golden },
      );
      expect(output).toContain("| golden models | ");
      expect(status).toBe(0);
      expect(readJson(path.join(out, "models.json"))).toMatchObject([
        { model: "stories260k", passed: true },
      ]);
      expect(readJson(path.join(out, "latency.json"))).toMatchObject([
        { shape: "tiny", batches: [{ batchSize: 1 }, { batchSize: 4 }] },
      ]);
      expect(readJson(path.join(out, "prefill.json"))).toMatchObject([
        { device: "cuda-sim", shape: "tiny", batchSize: 4 },
      ]);
      const idle = readJson(path.join(out, "idle.json")) as object[];
      expect(idle).toHaveLength(4);
      for (const one of idle) expect(one).toMatchObject({ steps: 4 });
    },
  );

  it.skipIf(!runs || !hasTorch())(
    "compares a checkpoint that PyTorch wrote and computed (needs python3-torch)",
    { timeout: 300_000 },
    () => {
      const out = path.join(scratch, "logits");
      const { status, output } = check([
        ...["--tiny", "--part", "logits,summary", "--out", out],
      ]);
      expect(output).toContain("| logits against the reference | ");
      expect(status).toBe(0);
      expect(readJson(path.join(out, "logits.json"))).toMatchObject([
        { model: "tiny", promptPositions: 766, passed: true },
      ]);
    },
  );
});

describe("floors", () => {
  /** As measured on an H200: the floors of the design, which take these. */
  const h200 = { copyBytesPerSecond: 4.3e12, matrixFlopPerSecond: 800e12 };
  const work = workOf(shapeConfig("Llama-3.1-8B"));
  /** INT4 with groups of 128, fp16 head and embedding. */
  const weightBytes =
    (6_979_321_856 * (4 + 16 / 128 + 8 / 128)) / 8 + 2 * 2 * 525_336_576;

  it("are what a step reads over the bandwidth", () => {
    expect(work.kvBytesPerToken).toBe(128 * 1024);
    const ms = (batch: number): number =>
      decodeFloorSeconds(work, weightBytes, batch, 1024, h200) * 1e3;
    expect(ms(1)).toBeCloseTo(1.12, 1);
    expect(ms(64)).toBeCloseTo(3.1, 0);
  });

  it("count the work of a prompt", () => {
    // 2 FLOP a parameter and token, and some for attention and the head.
    const flop = prefillFlop(work, 1, 1024);
    expect(flop / (2 * 6_979_321_856 * 1024)).toBeCloseTo(1.02, 1);
    expect(prefillFlop(work, 4, 1024)).toBe(4 * flop);
  });
});

describe("the summary", () => {
  const folder = (files: Record<string, unknown>): string => {
    const directory = mkdtempSync(path.join(scratch, "summary-"));
    for (const [name, value] of Object.entries(files))
      writeFileSync(
        path.join(directory, `${name}.json`),
        JSON.stringify(value),
      );
    return directory;
  };
  const latency = (device: string, decode: number, prefill: number) => [
    {
      shape: "Llama-3.1-8B",
      startSeconds: 3,
      machine: { device },
      batches: [1, 64].map((batchSize) => ({
        ...{ batchSize, decodeSeconds: 0.002, decodeFloorSeconds: 0.001 },
        ...{ decodeTokensPerSecond: 500, prefillTokensPerSecond: 1e4 },
        ...{ decodeFloorShare: decode, prefillMatrixShare: prefill },
      })),
    },
  ];
  const verdicts = (directory: string): Record<string, boolean | null> =>
    Object.fromEntries(
      summarizeResults(directory).targets.map(({ name, passed }) => [
        name,
        passed,
      ]),
    );

  it("judges shares of the floors", () => {
    expect(
      verdicts(folder({ latency: latency("cuda", 0.68, 0.41) })),
    ).toMatchObject({
      "Llama-3.1-8B, decode at batch 1": false,
      "Llama-3.1-8B, decode at batch 64": true,
      "Llama-3.1-8B, prefill at its best batch": true,
      "golden models": null,
    });
  });

  it("judges idle time of what runs one step ahead, and wrong kernels", () => {
    const one = { device: "cuda", shape: "Qwen2.5-7B", batchSize: 16 };
    const idle = [
      { ...one, oneStepAhead: true, idleShare: 0.019 },
      { ...one, oneStepAhead: false, idleShare: 0.3 },
    ];
    const kernels = { steps: { golden: "passed", tests: "failed (1)" } };
    expect(verdicts(folder({ idle, kernels }))).toMatchObject({
      "Qwen2.5-7B, idle between steps at batch 16": true,
      "kernels against simulator and reference": false,
    });
  });

  it("judges prefill that may depend on the batch by a target of its own", () => {
    const one = { device: "cuda", batchSize: 16, linearKernels: "cuBLASLt" };
    const prefill = [
      { ...one, shape: "Qwen2.5-7B", prefillMatrixShare: 0.59 },
      { ...one, shape: "Llama-3.1-8B", prefillMatrixShare: 0.61 },
    ];
    expect(verdicts(folder({ prefill }))).toMatchObject({
      "Qwen2.5-7B, prefill at batch 16, not batch-invariant (cuBLASLt)": false,
      "Llama-3.1-8B, prefill at batch 16, not batch-invariant (cuBLASLt)": true,
    });
  });

  it("judges no times of the simulator", () => {
    const names = Object.keys(
      verdicts(folder({ latency: latency("cuda-sim", 0.1, 0.1) })),
    );
    expect(names.filter((name) => name.includes("decode"))).toEqual([]);
  });
});
