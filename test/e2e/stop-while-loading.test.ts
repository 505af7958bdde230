/** SIGTERM while a model is loaded, to a server that is process 1 as in a container, where signals have no default action. */
import { spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, it } from "vitest";
import { hasShared, SHARED } from "./server-process.js";

const NAMESPACE = ["--pid", "--fork", "--mount-proc", "--kill-child"];
const permitted =
  process.platform === "linux" &&
  spawnSync("unshare", [...NAMESPACE, "true"]).status === 0;

const model = mkdtempSync(path.join(tmpdir(), "octavo-loading-"));
afterAll(() => rmSync(model, { recursive: true }));

/** Made-up weights of 2 GB: seconds to load. */
const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 2048,
  intermediate_size: 8192,
  num_hidden_layers: 20,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  vocab_size: 512,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  tie_word_embeddings: false,
  torch_dtype: "float16",
};

it.skipIf(!permitted || !hasShared)(
  "ends at once, with the signal's code (needs unshare and ../shared)",
  { timeout: 60_000 },
  async () => {
    for (const file of ["tokenizer.json", "tokenizer_config.json"])
      cpSync(
        path.join(SHARED, "models", "tiny-llama3", file),
        path.join(model, file),
      );
    writeFileSync(path.join(model, "config.json"), JSON.stringify(CONFIG));
    const main = path.resolve("dist/src/cli/main.js");
    const outer = spawn(
      "unshare",
      [
        ...[...NAMESPACE, process.execPath, main, "serve", model],
        ...["--load-format", "dummy", "--device", "cpu", "--port", "0"],
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    const ended = new Promise<number | null>((resolve) =>
      outer.on("exit", resolve),
    );
    let log = "";
    outer.stderr.on("data", (bytes: Buffer) => (log += bytes.toString()));
    try {
      while (!log.includes("Loading weights") && outer.exitCode === null)
        await sleep(20);
      const children = `/proc/${outer.pid}/task/${outer.pid}/children`;
      process.kill(Number(readFileSync(children, "utf8")), "SIGTERM");
      expect(await ended).toBe(143);
      expect(log).toContain("SIGTERM while starting: ending.");
      expect(log).not.toContain("Ready after");
    } finally {
      outer.kill("SIGKILL");
    }
  },
);
