/** Whole models through the native runner against float64 forward passes that are independent of this project. */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { prepareModel } from "../../src/engine/prepare-model.js";
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

const MODELS = path.resolve("../shared/models");
const present = existsSync(MODELS);
const names = present ? readdirSync(MODELS).sort() : [];

if (!present) it.skip("goldens: ../shared/models is missing", () => undefined);

describe.each(["reference", "cpu"])("on %s", (device) => {
  describe.each(names)("%s", (name) => {
    const directory = path.join(MODELS, name);
    let opened: Open;
    let int4 = false;
    beforeAll(async () => {
      const model = await prepareModel({
        model: directory,
        modelFile: null,
        loadFormat: "auto",
      });
      int4 = model.program.linears.some((l) => l.scheme !== "dense");
      opened = openModel(model, device);
    });
    afterAll(() => opened.runner.close());

    it.each([64, 7])("equals its goldens in chunks of %i", (chunk) => {
      for (const golden of goldenCases(directory)) {
        const length = golden.greedy_token_ids.length;
        const came = generate(opened, golden.prompt_token_ids, length, chunk);
        expectContinuation(came, golden, {
          margin: 0.01,
          tolerance: int4 ? 4e-3 : 2e-3,
        });
      }
    });

    it.runIf(goldenLogits(directory))("has its prompt logits", () => {
      const expected = goldenLogits(directory) as Float32Array;
      const [golden] = goldenCases(directory) as [GoldenCase];
      for (const chunk of [64, 7]) {
        const { promptLogits } = generate(
          opened,
          golden.prompt_token_ids,
          1,
          chunk,
        );
        expect(promptLogits.length).toBe(expected.length);
        const error = relativeRms(promptLogits, expected);
        expect(error).toBeLessThan(int4 ? 2e-3 : 1e-3);
      }
    });
  });
});

/**
 * Pages of fewer bits: the relative RMS of the prompt's logits against f32 pages. Seen: f16 up to 6e-4, int8 up to
 * 1.5e-2 with random weights and 1.3e-3 with trained ones (stories260k).
 */
describe.each(["f16", "int8"] as const)("%s pages", (kvCacheDtype) => {
  const bound = { f16: 1e-3, int8: 3e-2 }[kvCacheDtype];
  it.runIf(present).each(["stories260k", "tiny-llama3", "tiny-qwen3"])(
    "of %s: logits near those of f32 pages, and cpu near reference",
    async (name) => {
      const directory = path.join(MODELS, name);
      const model = await prepareModel({
        model: directory,
        modelFile: null,
        loadFormat: "auto",
      });
      const [golden] = goldenCases(directory) as [GoldenCase];
      const [exact, reference, cpu] = (
        [
          ["reference", "f32"],
          ["reference", kvCacheDtype],
          ["cpu", kvCacheDtype],
        ] as const
      ).map(([device, type]) => {
        const opened = openModel(model, device, type);
        const prompt = golden.prompt_token_ids;
        const { promptLogits } = generate(opened, prompt, 1, 7);
        opened.runner.close();
        return promptLogits;
      }) as [Float32Array, Float32Array, Float32Array];
      const error = relativeRms(cpu, exact);
      expect(error).toBeLessThan(bound);
      // Fewer bits do show: the type was not ignored.
      expect(error).toBeGreaterThan(1e-6);
      expect(relativeRms(cpu, reference)).toBeLessThan(bound / 2);
    },
  );
});
