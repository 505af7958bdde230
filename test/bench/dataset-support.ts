import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect } from "vitest";
import { loadDataset } from "../../bench/serve/dataset.js";
import type { PromptContext } from "../../bench/serve/dataset-settings.js";
import { datasetSettings } from "../../bench/serve/dataset-flags.js";
import type { Sample } from "../../bench/serve/outcome.js";
import type { Vocabulary } from "../../bench/serve/vocabulary.js";
import { parseFlags } from "./flags.js";

const SHARED = path.resolve(
  path.dirname(fileURLToPath(import.meta.url)),
  "../../../shared",
);
export const shared = (file: string): string => path.join(SHARED, file);
const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-datasets-"));
afterAll(() => rmSync(scratch, { recursive: true }));

/** A file of this content, gone after the tests. */
export function file(name: string, content: string): string {
  const where = path.join(scratch, name);
  writeFileSync(where, content);
  return where;
}

/** A token per word; ids 100 to 199 are plain. */
export const WORDS: Vocabulary = {
  plainIds: async () => Int32Array.from({ length: 100 }, (_, i) => 100 + i),
  encode: async (text, special) => {
    const words = text.split(" ").filter((word) => word !== "");
    const ids = words.map((word) => (/^\d+$/.test(word) ? Number(word) : 7));
    return Int32Array.from(special ? [1, ...ids] : ids);
  },
  decode: async (ids) => ids.join(" "),
};

/** The data set that these flags name. */
export function load(
  args: string[],
  context: Partial<PromptContext> = {},
): Promise<Sample[]> {
  return loadDataset(datasetSettings(parseFlags(args)), {
    backend: "openai",
    vocabulary: WORDS,
    asText: false,
    ...context,
  });
}

/** A prompt that has to be token ids. */
export const ids = ({ prompt }: Sample): number[] => {
  expect(prompt).toBeInstanceOf(Int32Array);
  return Array.from(prompt as Int32Array);
};
