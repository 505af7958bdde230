import { Option, type Command } from "commander";
import { number } from "../../src/cli/flags.js";
import { OctavoError } from "../../src/core/errors.js";
import {
  DATASETS,
  type DatasetName,
  type DatasetSettings,
} from "./dataset-settings.js";
import { addRows, atLeast, type Row } from "./flag-rows.js";

/** Flags that choose requests, as commander gives them. */
export interface DatasetFlags {
  datasetName: DatasetName;
  datasetPath?: string;
  numPrompts?: number;
  randomInputLen: number;
  randomOutputLen: number;
  randomPrefixLen: number;
  randomRangeRatio: number;
  prefixRepetitionPrefixLen: number;
  prefixRepetitionSuffixLen: number;
  prefixRepetitionNumPrefixes: number;
  prefixRepetitionOutputLen: number;
  sharegptOutputLen?: number;
  customOutputLen?: number;
  specBenchOutputLen: number;
  specBenchCategory?: string;
  timeScale: number;
  lengthScale: number;
  seed: number;
}

const DATASET: Row[] = [
  [
    "--dataset-path <file>",
    "file of sharegpt, custom, spec_bench, trace (Mooncake JSON lines or Azure CSV)",
  ],
  [
    "--num-prompts <n>",
    "requests (default: 1000, or a shorter trace's all)",
    undefined,
    atLeast(1),
  ],
  ["--random-input-len <n>", "random: prompt tokens", 1024, atLeast(0)],
  ["--random-output-len <n>", "random: output tokens", 128, atLeast(1)],
  [
    "--random-prefix-len <n>",
    "random: shared tokens before each prompt",
    0,
    atLeast(0),
  ],
  [
    "--random-range-ratio <r>",
    "random: lengths vary by this share either way",
    0,
    number(0, 0.999999),
  ],
  ["--prefix-repetition-prefix-len <n>", "tokens", 256, atLeast(1)],
  ["--prefix-repetition-suffix-len <n>", "tokens", 256, atLeast(1)],
  ["--prefix-repetition-num-prefixes <n>", "prefixes", 10, atLeast(1)],
  ["--prefix-repetition-output-len <n>", "tokens", 128, atLeast(1)],
  [
    "--sharegpt-output-len <n>",
    "output tokens instead of the answers' lengths",
    undefined,
    atLeast(1),
  ],
  [
    "--custom-output-len <n>",
    "output tokens instead of each line's output_tokens (or 256)",
    undefined,
    atLeast(1),
  ],
  ["--spec-bench-output-len <n>", "tokens", 256, atLeast(1)],
  ["--spec-bench-category <name>", "only this category"],
  [
    "--time-scale <f>",
    "trace: multiply arrival times (0.5: twice as fast)",
    1,
    number(0, 1e6),
  ],
  [
    "--length-scale <f>",
    "trace: multiply prompt and output lengths",
    1,
    number(0, 1000, true),
  ],
];

/** @param except flags (without dashes) that a command names otherwise or has no use for */
export function addDatasetFlags(
  command: Command,
  except: readonly string[] = [],
): void {
  command.addOption(
    new Option("--dataset-name <name>", "what to ask")
      .choices(DATASETS)
      .default("random"),
  );
  addRows(
    command,
    DATASET.filter(
      ([flags]) => !except.some((name) => flags.startsWith(`--${name} `)),
    ),
  );
}

export function datasetSettings(flags: DatasetFlags): DatasetSettings {
  if (flags.datasetName === "random" && flags.randomInputLen === 0)
    if (flags.randomPrefixLen === 0)
      throw new OctavoError(
        "invalid_config",
        "--random-input-len: a prompt needs at least one token; got 0, without --random-prefix-len",
        "random-input-len",
      );
  return {
    name: flags.datasetName,
    path: flags.datasetPath ?? null,
    numPrompts: flags.numPrompts ?? null,
    seed: flags.seed,
    random: {
      inputLen: flags.randomInputLen,
      outputLen: flags.randomOutputLen,
      prefixLen: flags.randomPrefixLen,
      rangeRatio: flags.randomRangeRatio,
    },
    prefixRepetition: {
      prefixLen: flags.prefixRepetitionPrefixLen,
      suffixLen: flags.prefixRepetitionSuffixLen,
      numPrefixes: flags.prefixRepetitionNumPrefixes,
      outputLen: flags.prefixRepetitionOutputLen,
    },
    shareGptOutputLen: flags.sharegptOutputLen ?? null,
    customOutputLen: flags.customOutputLen ?? null,
    specBenchOutputLen: flags.specBenchOutputLen,
    specBenchCategory: flags.specBenchCategory ?? null,
    timeScale: flags.timeScale,
    lengthScale: flags.lengthScale,
  };
}
