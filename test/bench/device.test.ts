import {
  cpSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { runDeviceBench } from "../../bench/device/run.js";
import { PUBLISHED_SHAPES, withShape } from "../../bench/device/shapes.js";
import { prepareModel } from "../../src/engine/prepare-model.js";
import { hasShared, STORIES } from "../e2e/server-process.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-device-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const FLAGS = {
  device: "cpu" as const,
  parts: ["models" as const],
  modelsName: "models",
  shapes: [],
  batchSizes: [],
  inputLen: 8,
  outputLen: 2,
  numIters: 1,
};

describe("bench device", () => {
  it("has shapes that lower to INT4 programs of the published size", async () => {
    const sizes: Record<string, number> = {};
    for (const name of PUBLISHED_SHAPES)
      await withShape(name, async (model) => {
        const { program, quantization } = await prepareModel({
          model,
          modelFile: null,
          loadFormat: "dummy",
        });
        expect(quantization).toContain("awq-int4 g128");
        sizes[name] = program.linears
          .filter(({ scheme }) => scheme !== "dense")
          .reduce((sum, { n, k }) => sum + n * k, 0);
      });
    expect(sizes).toEqual({
      "Llama-3.1-8B": 6_979_321_856,
      "Qwen2.5-7B": 6_525_288_448,
    });
  });

  it.skipIf(!hasShared)(
    "compares golden models first (needs ../shared)",
    async () => {
      const models = path.join(scratch, "models");
      cpSync(STORIES, path.join(models, "stories260k"), { recursive: true });
      const lines: string[] = [];
      const print = (line: string): void => void lines.push(line);
      const { models: golden } = await runDeviceBench(
        { ...FLAGS, models },
        print,
      );
      expect(golden).toMatchObject([
        { model: "stories260k", passed: true, wrongTokens: 0 },
      ]);

      const file = path.join(models, "stories260k", "golden.json");
      const changed = JSON.parse(readFileSync(file, "utf8")) as {
        cases: { greedy_token_ids: number[] }[];
      };
      (changed.cases[0]?.greedy_token_ids ?? [])[0] = 5;
      writeFileSync(file, JSON.stringify(changed));
      await expect(runDeviceBench({ ...FLAGS, models }, print)).rejects.toThrow(
        "1 of 1 golden models are wrong on cpu: stories260k",
      );
      expect(lines.at(-1)).toMatch(/^WRONG {2}stories260k: .* 1 wrong/);
    },
  );

  it("refuses a folder without golden models", async () => {
    await expect(
      runDeviceBench({ ...FLAGS, models: scratch }, () => undefined),
    ).rejects.toThrow(/expected folders with a golden.json/);
  });
});
