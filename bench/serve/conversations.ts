import { OctavoError } from "../../src/core/errors.js";
import {
  countOf,
  requirePath,
  type DatasetSettings,
  type PromptContext,
} from "./dataset-settings.js";
import { badDataset, parseJsonLines, readDatasetFile } from "./files.js";
import type { Sample } from "./outcome.js";
import { Random } from "../random.js";

/** What vLLM's client keeps of ShareGPT, so that figures compare: tokens. */
const MIN_LEN = 4;
const MAX_PROMPT_LEN = 1024;
const MAX_TOTAL_LEN = 2048;
/** Output tokens of a custom prompt that says nothing else. */
const CUSTOM_OUTPUT_LEN = 256;

/** First question and answer of each conversation, in random order; the answer only says how long the output is. */
export async function shareGpt(
  settings: DatasetSettings,
  { vocabulary }: PromptContext,
): Promise<Sample[]> {
  const path = requirePath(settings);
  const fixed = settings.shareGptOutputLen;
  const pairs = parseShareGpt(path, await readDatasetFile(settings));
  const samples: Sample[] = [];
  for (const [prompt, answer] of new Random(settings.seed).shuffle(pairs)) {
    if (samples.length === countOf(settings)) break;
    const promptLen = (await vocabulary.encode(prompt, true)).length;
    const outputLen = fixed ?? (await vocabulary.encode(answer, false)).length;
    const usable =
      promptLen >= MIN_LEN &&
      promptLen <= MAX_PROMPT_LEN &&
      promptLen + outputLen <= MAX_TOTAL_LEN &&
      (fixed !== null || outputLen >= MIN_LEN);
    if (usable) samples.push({ prompt, promptLen, outputLen });
  }
  return repeatTo(countOf(settings), samples, path);
}

function parseShareGpt(path: string, text: string): [string, string][] {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw badDataset(path, null, (error as Error).message);
  }
  if (!Array.isArray(content))
    throw badDataset(path, null, "expected a list of conversations");
  const pairs: [string, string][] = [];
  (content as unknown[]).forEach((entry, i) => {
    const turns = (entry as { conversations?: unknown } | null)?.conversations;
    if (!Array.isArray(turns))
      throw badDataset(path, null, `[${i}].conversations: expected a list`);
    if (turns.length < 2) return;
    const [prompt, answer] = turns.slice(0, 2).map((turn, k) => {
      const value = (turn as { value?: unknown } | null)?.value;
      if (typeof value === "string") return value;
      throw badDataset(
        path,
        null,
        `[${i}].conversations[${k}].value: expected a string`,
      );
    });
    pairs.push([prompt ?? "", answer ?? ""]);
  });
  return pairs;
}

/** JSON lines with `prompt` and, where wanted, `output_tokens`; in random order. */
export async function customPrompts(
  settings: DatasetSettings,
): Promise<Sample[]> {
  const path = requirePath(settings);
  const rows = parseJsonLines(path, await readDatasetFile(settings));
  const samples = rows.map(({ row, line }): Sample => {
    const { prompt, output_tokens: own = CUSTOM_OUTPUT_LEN } = row;
    if (typeof prompt !== "string")
      throw badDataset(path, line, "prompt: expected a string");
    if (typeof own !== "number" || !Number.isInteger(own) || own < 1)
      throw badDataset(
        path,
        line,
        `output_tokens: expected a whole number of at least 1, got ${JSON.stringify(own)}`,
      );
    const outputLen = settings.customOutputLen ?? own;
    return { prompt, promptLen: null, outputLen };
  });
  new Random(settings.seed).shuffle(samples);
  return repeatTo(countOf(settings), samples, path);
}

/** The first turn of each question, in random order. */
export async function specBench(settings: DatasetSettings): Promise<Sample[]> {
  const path = requirePath(settings);
  const category = settings.specBenchCategory;
  const rows = parseJsonLines(path, await readDatasetFile(settings));
  const chosen = rows.filter(
    ({ row }) => category === null || row["category"] === category,
  );
  if (chosen.length === 0)
    throw new OctavoError(
      "invalid_config",
      `--spec-bench-category: ${path} has ${[...new Set(rows.map(({ row }) => String(row["category"])))].join(", ")}; got "${category}"`,
      "spec-bench-category",
    );
  const samples = chosen.map(({ row, line }): Sample => {
    const turns: unknown = row["turns"];
    const prompt: unknown = Array.isArray(turns) ? turns[0] : undefined;
    if (typeof prompt !== "string")
      throw badDataset(path, line, "turns: expected a list of strings");
    return { prompt, promptLen: null, outputLen: settings.specBenchOutputLen };
  });
  new Random(settings.seed).shuffle(samples);
  return repeatTo(countOf(settings), samples, path);
}

/** A file with fewer prompts than asked for starts again. */
function repeatTo(count: number, samples: Sample[], path: string): Sample[] {
  if (samples.length === 0)
    throw badDataset(path, null, "no prompt of a usable length");
  return Array.from(
    { length: count },
    (_, i) => samples[i % samples.length] as Sample,
  );
}
