import { OctavoError } from "../../src/core/errors.js";
import type { Backend } from "./client.js";
import type { Vocabulary } from "./vocabulary.js";

export const DATASETS = [
  "random",
  "sharegpt",
  "custom",
  "spec_bench",
  "prefix_repetition",
  "trace",
] as const;
export type DatasetName = (typeof DATASETS)[number];

/** Lengths in tokens. */
export interface DatasetSettings {
  name: DatasetName;
  path: string | null;
  /** Null: 1000, or all that a shorter trace has. */
  numPrompts: number | null;
  seed: number;
  random: {
    inputLen: number;
    outputLen: number;
    prefixLen: number;
    rangeRatio: number;
  };
  prefixRepetition: {
    prefixLen: number;
    suffixLen: number;
    numPrefixes: number;
    outputLen: number;
  };
  /** Null: what the data set says. */
  shareGptOutputLen: number | null;
  customOutputLen: number | null;
  specBenchOutputLen: number;
  specBenchCategory: string | null;
  timeScale: number;
  lengthScale: number;
}

/** What prompts are made with. */
export interface PromptContext {
  backend: Backend;
  vocabulary: Vocabulary;
  /** Made-up prompts go as text (encoded by the server, as users' are) rather than as exact token ids. */
  asText: boolean;
}

const DEFAULT_NUM_PROMPTS = 1000;

/** How many requests to make where the data set has no end of its own. */
export function countOf({ numPrompts }: DatasetSettings): number {
  return numPrompts ?? DEFAULT_NUM_PROMPTS;
}

/** Errors: `invalid_config` where no file was given. */
export function requirePath({ name, path }: DatasetSettings): string {
  if (path !== null) return path;
  throw new OctavoError(
    "invalid_config",
    `--dataset-path: the data set ${name} is read from a file; none was given`,
    "dataset-path",
  );
}
