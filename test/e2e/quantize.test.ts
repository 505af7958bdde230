/** `octavo quantize` as a user runs it, and what it made as a server serves it. */
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import OpenAI from "openai";
import { afterAll, describe, expect, it } from "vitest";
import {
  calibrationFile,
  denseModel,
  removeTemporaryFolders,
  temporaryFolder,
} from "../quantize/support.js";
import {
  hasShared,
  MAIN,
  runOctavo,
  SHARED,
  startServer,
  STORIES,
} from "./server-process.js";

afterAll(removeTemporaryFolders);

if (!hasShared)
  it.skip("quantizing stories260k: ../shared is missing", () => undefined);

it.runIf(hasShared)(
  "quantizes a trained model that is then served",
  async () => {
    const out = path.join(temporaryFolder(), "stories-awq");
    const calib = path.join(SHARED, "text/GrimmsFairyTales.txt");
    const { code, stdout, stderr } = await runOctavo([
      ...["quantize", STORIES, "--out", out, "--group-size", "32"],
      // 172 is no multiple of 8 or 32.
      ...["--calib", calib, "--modules-to-not-convert", "mlp"],
    ]);
    expect(stderr).toMatch(/Quantizing 100 %\nMeasuring 0 %/);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^model\.layers\.4 +\d+\.\d\d %/m);
    expect(stdout).toMatch(/Perplexity +\d+\.\d+ -> \d+\.\d+ \([+-]/);
    const report = JSON.parse(
      readFileSync(path.join(out, "quantize-report.json"), "utf8"),
    ) as { perplexity: { before: number; after: number } };
    const { before, after } = report.perplexity;
    expect(Math.abs(after / before - 1)).toBeLessThan(0.1);

    const server = await startServer([out]);
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none" });
    const completion = await client.completions.create({
      model: "stories-awq",
      prompt: "Once upon a time",
      max_tokens: 24,
      temperature: 0,
    });
    expect(completion.choices[0]?.text).toMatch(/^, there was a little/);
    expect(server.stderr()).toContain("awq-int4 g32");
    await server.stop();
  },
);

describe("without ../shared", () => {
  const model = denseModel();
  const calib = calibrationFile();
  const run = (...flags: string[]) => runOctavo(["quantize", ...flags]);

  it("takes the text that lies in the model's directory", async () => {
    const own = denseModel();
    const out = path.join(temporaryFolder(), "out");
    const missing = await run(own, "--out", out, "--group-size", "32");
    expect(missing.code).toBe(1);
    expect(missing.stderr).toMatch(/--calib: expected a text file: .*has no/);
    copyFileSync(calib, path.join(own, "calibration.txt"));
    const { code } = await run(own, "--out", out, "--group-size", "32");
    expect(code).toBe(0);
    expect(existsSync(path.join(out, "config.json"))).toBe(true);
  });

  it.each([
    [["--group-size", "48"], /Expected 32, 64, 128, got "48"/],
    [["--calib-tokens", "1"], /Expected a whole number from 512/],
    [["--group-size", "64"], /mlp\.down_proj\.weight has 96/],
  ])("says what is wrong with %j", async (flags, message) => {
    const out = path.join(temporaryFolder(), "out");
    const all = [model, "--out", out, "--calib", calib, ...flags];
    const { code, stderr } = await run(...all);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect(existsSync(out)).toBe(false);
  });

  it("needs --out", async () => {
    const { code, stderr } = await run(model, "--calib", calib);
    expect(code).toBe(1);
    expect(stderr).toMatch(/required option '--out <dir>'/);
  });
});

it.runIf(hasShared)("cleans up on SIGINT", async () => {
  const folder = temporaryFolder();
  const out = path.join(folder, "out");
  const child = spawn(process.execPath, [
    ...[MAIN, "quantize", path.join(SHARED, "models/tiny-qwen3")],
    ...["--out", out],
    ...["--calib", path.join(SHARED, "text/GrimmsFairyTales.txt")],
  ]);
  const ended = new Promise((resolve) => child.on("exit", resolve));
  child.stderr.once("data", () => child.kill("SIGINT"));
  expect(await ended).toBe(1);
  expect(readdirSync(folder)).toEqual([]);
});
