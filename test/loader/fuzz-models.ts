/**
 * Loads spoilt copies of the test models and computes a step with those that load:
 *
 *   npx tsx test/loader/fuzz-models.ts [count = 2000] [seed = 1]
 *
 * Each must end in a clear error (an OctavoError or one of the addon's codes) or in a load. Anything else, and a crash
 * of the process, is a bug: the exit code is not 0 then, and the last line names the case.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { OctavoError } from "../../src/core/errors.js";
import { prepareModel } from "../../src/engine/prepare-model.js";
import { generate, openModel } from "../e2e/golden-support.js";
import { copyModel, Random, spoil } from "./mutations.js";

const MODELS = path.resolve("../shared/models");
const EXPECTED = new Set([
  "invalid_model",
  "unsupported_model",
  "ERR_OCTAVO_FILE",
]);

async function outcomeOf(directory: string): Promise<string> {
  try {
    const model = await prepareModel({
      model: directory,
      modelFile: null,
      loadFormat: "auto",
    });
    const opened = openModel(model, "cpu");
    generate(opened, [1, 2, 3], 2, 2);
    opened.runner.close();
    return "loaded";
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const named = error instanceof OctavoError && message.includes("undefined");
    if (!EXPECTED.has(code ?? "") || named || message.length > 2000)
      throw error;
    return code ?? "";
  }
}

async function main(): Promise<void> {
  const count = Number(process.argv[2] ?? 2000);
  const seed = Number(process.argv[3] ?? 1);
  if (!existsSync(MODELS)) throw new Error(`${MODELS} is missing`);
  const names = readdirSync(MODELS).sort();
  const folder = mkdtempSync(path.join(tmpdir(), "octavo-fuzz-"));
  const outcomes = new Map<string, number>();
  let current = "";
  try {
    for (let i = 0; i < count; i++) {
      const random = new Random(seed * 1_000_003 + i);
      const name = random.pick(names);
      const directory = path.join(folder, "model");
      copyModel(path.join(MODELS, name), directory);
      const mutation = spoil(directory, random);
      current = `case ${i} (${name}, ${mutation})`;
      const key = `${mutation}: ${await outcomeOf(directory)}`;
      outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
    }
  } catch (error) {
    console.error(error);
    console.error(`${current} of seed ${seed} ended in an unexpected error`);
    process.exitCode = 1;
    return;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  for (const [key, n] of [...outcomes].sort()) console.log(`${key} ${n}`);
  console.log(`${count} spoilt models: a clear error or a load each`);
}

await main();
