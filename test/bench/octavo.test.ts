import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  hasShared,
  runOctavo,
  SHARED,
  startServer,
  STORIES,
  type ServerProcess,
} from "../e2e/server-process.js";

type Report = Record<string, number> & {
  ttfts: number[];
  itls: number[][];
  output_lens: number[];
  errors: string[];
};

const SHAREGPT = path.join(SHARED, "prompts/sharegpt_like.json");

describe.skipIf(!hasShared)(
  "octavo bench serve against octavo serve (needs ../shared/models/stories260k)",
  () => {
    const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-bench-e2e-"));
    let server: ServerProcess;
    beforeAll(async () => {
      const template = path.join(scratch, "template.jinja");
      writeFileSync(
        template,
        "{% for message in messages %}{{ message.content }}{% endfor %}",
      );
      server = await startServer([
        STORIES,
        "--max-num-seqs",
        "8",
        "--chat-template",
        template,
        "--log-level",
        "warn",
      ]);
    });
    afterAll(async () => {
      await server.stop("SIGKILL");
      rmSync(scratch, { recursive: true, force: true });
    });

    let runs = 0;
    async function bench(
      args: string,
      url = server.url,
    ): Promise<{
      report: Report;
      stdout: string;
      stderr: string;
      file: string;
    }> {
      const name = `run-${runs++}.json`;
      const { code, stdout, stderr } = await runOctavo([
        ...`bench serve --base-url ${url} ${args}`.split(" "),
        ...["--save-detailed", "--result-dir", scratch],
        ...["--result-filename", name],
      ]);
      expect(stderr).not.toMatch(/failed|octavo:/);
      expect(code).toBe(0);
      const file = path.join(scratch, name);
      const report = JSON.parse(readFileSync(file, "utf8")) as Report;
      return { report, stdout, stderr, file };
    }

    async function counter(name: string): Promise<number> {
      const text = await (await fetch(`${server.url}/metrics`)).text();
      const line = text.split("\n").find((one) => one.startsWith(`${name}{`));
      return Number(line?.split(" ").at(-1));
    }

    it("counts what the server counted", async () => {
      const names = ["prompt_tokens", "generation_tokens"].map(
        (name) => `vllm:${name}_total`,
      );
      const before = await Promise.all(names.map(counter));
      const { report, stdout, stderr } = await bench(
        "--num-prompts 16 --random-input-len 32 --random-output-len 12 --random-range-ratio 0.5 --request-rate 50 --ignore-eos",
      );
      const after = await Promise.all(names.map(counter));
      const counted = after.map((value, i) => value - (before[i] ?? 0));
      expect(counted).toEqual([
        report["total_input_tokens"],
        report["total_output_tokens"],
      ]);
      expect(report["completed"]).toBe(16);
      expect(stdout.startsWith("============ Serving Benchmark Result")).toBe(
        true,
      );
      expect(stdout).toContain(
        "Request rate configured (RPS):           50.00",
      );
      expect(stderr).toContain("Requests 100 %");
      expect(stderr).toMatch(/stories260k at http.*16 requests of random/);
    });

    it("gives a trace's shared prefixes to the prefix cache", async () => {
      const trace = path.join(scratch, "trace.jsonl");
      const row = (timestamp: number, input_length: number, ids: number[]) =>
        JSON.stringify({
          timestamp,
          input_length,
          output_length: 20,
          hash_ids: ids,
        });
      // At a tenth a block of 512 is 51 tokens, two are 102 and three 154: 3, 6 and 9 full blocks of the cache's 16.
      writeFileSync(
        trace,
        [
          row(0, 1500, [50, 51, 52]),
          row(100, 1000, [50, 53]),
          row(200, 1700, [50, 51, 52, 54]),
          row(300, 1700, [55, 56, 57, 58]),
        ].join("\n"),
      );
      const before = await counter("vllm:prefix_cache_hits_total");
      const { report } = await bench(
        `--dataset-name trace --dataset-path ${trace} --length-scale 0.1 --seed 5 --max-concurrency 1`,
      );
      expect(report["total_input_tokens"]).toBe(150 + 100 + 170 + 170);
      const hits = (await counter("vllm:prefix_cache_hits_total")) - before;
      // The second finds 51 tokens, the third all 150 of the first (its last block was cut there).
      expect(hits).toBe(3 * 16 + 9 * 16);
    });

    it("repeats prefixes that the cache then has", async () => {
      const before = await counter("vllm:prefix_cache_hits_total");
      await bench(
        "--dataset-name prefix_repetition --prefix-repetition-prefix-len 64 --prefix-repetition-suffix-len 16 --prefix-repetition-num-prefixes 2 --prefix-repetition-output-len 2 --num-prompts 10 --seed 6 --max-concurrency 1",
      );
      // All but the first of each prefix find its four blocks.
      const hits = (await counter("vllm:prefix_cache_hits_total")) - before;
      expect(hits).toBe(8 * 64);
    });

    it("speaks chat, and text of a tokenizer's length", async () => {
      const chat = await bench(
        `--backend openai-chat --dataset-name sharegpt --dataset-path ${SHAREGPT} --sharegpt-output-len 4 --num-prompts 4 --tokenizer ${STORIES}`,
      );
      expect(chat.report["completed"]).toBe(4);
      const text = await bench(
        `--num-prompts 3 --random-input-len 30 --random-output-len 2 --tokenizer ${STORIES}`,
      );
      expect(text.report["total_input_tokens"]).toBe(90);
    });

    it("compares two results, and ends with 2 where the second is worse", async () => {
      const { report, file } = await bench(
        "--num-prompts 2 --random-input-len 8 --random-output-len 4",
      );
      const slower = path.join(scratch, "slower.json");
      const mean = (report["mean_ttft_ms"] ?? 0) * 1.5;
      writeFileSync(slower, JSON.stringify({ ...report, mean_ttft_ms: mean }));
      const compare = (...args: string[]) =>
        runOctavo(["bench", "serve", "--compare", ...args]);
      expect((await compare(file, file)).code).toBe(0);
      const { code, stdout } = await compare(file, slower);
      expect(code).toBe(2);
      expect(stdout).toMatch(/^mean_ttft_ms .* 1\.500 {2}worse$/m);
      const one = await compare(file);
      expect(one).toMatchObject({ code: 1, stdout: "" });
      expect(one.stderr).toContain("--compare: expected two files, got 1");
    });

    it("ends with 1 where every request failed, with the table and the reason", async () => {
      const { code, stdout, stderr } = await runOctavo([
        ...`bench serve --base-url ${server.url} --model nobody --num-prompts 2 --random-input-len 4 --tokenizer ${STORIES}`.split(
          " ",
        ),
      ]);
      expect(code).toBe(1);
      expect(stdout).toMatch(/^Failed requests: +2 *$/m);
      expect(stderr).toMatch(/^2 failed: HTTP 404 .*nobody/m);
    });
  },
);
