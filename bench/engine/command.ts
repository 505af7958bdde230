import { Command } from "commander";
import { camelCase, integer, number } from "../../src/cli/flags.js";
import { SERVE_FLAGS } from "../../src/cli/serve-flags.js";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import {
  speculativeConfigJson,
  type SpeculativeConfig,
} from "../../src/core/speculative-config.js";
import { addDatasetFlags } from "../serve/dataset-flags.js";
import { atLeast } from "../serve/flag-rows.js";
import { listOption, numbersOption } from "../list-options.js";
import { writeJson } from "../write-json.js";
import { addEngineFlags, withModelDirectory } from "./flags.js";
import type { LatencyFlags } from "./latency.js";
import type { SpeculationFlags } from "./speculation.js";
import { PROMPT_KINDS } from "./prompt-kinds.js";
import type { PrefixFlags } from "./prefix.js";
import type { StartupFlags } from "./startup.js";
import type { ThroughputFlags } from "./throughput.js";

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** `octavo bench latency`. The engine is loaded when it runs: --help answers at once. */
export function latencyBenchCommand(): Command {
  const command = new Command("latency")
    .description(
      "one batch from prompt to last token, in process, as `vllm bench latency` measures it",
    )
    .option("--input-len <n>", "prompt tokens", atLeast(1), 32)
    .option("--output-len <n>", "output tokens", atLeast(1), 128)
    .option("--batch-size <n>", "sequences", atLeast(1), 8)
    .option("--num-iters <n>", "measured iterations", atLeast(1), 30)
    .option("--num-iters-warmup <n>", "iterations before", integer(0), 10);
  addEngineFlags(command);
  return command.action(async (flags: LatencyFlags) => {
    const { runLatencyBench } = await import("./latency.js");
    const located = await withModelDirectory(flags);
    await writeJson(flags.outputJson, await runLatencyBench(located, print));
  });
}

/** `octavo bench prefix`. */
export function prefixBenchCommand(): Command {
  const command = new Command("prefix")
    .description(
      "the first token of a prompt whose beginning is cached, against the same cold, in turn and in process",
    )
    .option("--prefix-len <n>", "tokens in common", atLeast(1), 1000)
    .option("--suffix-len <n>", "tokens after them", atLeast(1), 16)
    .option("--num-iters <n>", "measured iterations", atLeast(1), 5)
    .option("--num-iters-warmup <n>", "iterations before", integer(0), 1);
  addEngineFlags(command, ["enable-prefix-caching"]);
  return command.action(async (flags: PrefixFlags) => {
    const { runPrefixBench } = await import("./prefix.js");
    const located = await withModelDirectory(flags);
    await writeJson(flags.outputJson, await runPrefixBench(located, print));
  });
}

/** `octavo bench throughput`. */
export function throughputBenchCommand(): Command {
  const command = new Command("throughput")
    .description(
      "all requests at once, in process, as `vllm bench throughput` measures them",
    )
    .option("--input-len <n>", "random: prompt tokens", atLeast(1), 1024)
    .option("--output-len <n>", "random: output tokens", atLeast(1), 128)
    .option("--temperature <t>", "sampling temperature", number(0, 100), 1)
    .option("--no-ignore-eos", "let an answer end where the model ends it");
  addDatasetFlags(command, [
    "random-input-len",
    "random-output-len",
    // Arrival times: here everything is there at once.
    "time-scale",
  ]);
  addEngineFlags(command);
  return command.action(
    async (
      flags: ThroughputFlags & { inputLen: number; outputLen: number },
    ) => {
      const { runThroughputBench } = await import("./throughput.js");
      const result = await runThroughputBench(
        {
          ...(await withModelDirectory(flags)),
          randomInputLen: flags.inputLen,
          randomOutputLen: flags.outputLen,
          timeScale: 1,
        },
        print,
      );
      await writeJson(flags.outputJson, result);
    },
  );
}

/** `octavo bench speculation`. */
export function speculationBenchCommand(): Command {
  const command = new Command("speculation")
    .description(
      "the same requests with --speculative-config and without, in turns, in process",
    )
    .addOption(
      listOption("--prompts <list>", "what is asked", PROMPT_KINDS, [
        ...PROMPT_KINDS,
      ]).default(undefined, "random; with a chat template all"),
    )
    .addOption(
      numbersOption(
        "--batch-sizes <list>",
        "sequences at once",
        [1, 16],
        65_536,
      ),
    )
    .option("--num-prompts <n>", "of each kind, at least", atLeast(1), 16)
    .option("--input-len <n>", "random: prompt tokens", atLeast(1), 32)
    .option("--output-len <n>", "most output tokens", atLeast(2), 128)
    .option("--temperature <t>", "sampling temperature", number(0, 100), 0)
    .option("--num-iters <n>", "measured pairs of runs", atLeast(1), 5)
    .option("--num-iters-warmup <n>", "pairs before", integer(0), 1);
  addEngineFlags(command);
  return command.action(async (flags: SpeculationFlags) => {
    const { runSpeculationBench } = await import("./speculation.js");
    const located = await withModelDirectory(flags);
    await writeJson(
      flags.outputJson,
      await runSpeculationBench(located, print),
    );
  });
}

/** `octavo bench startup`. */
export function startupBenchCommand(): Command {
  const command = new Command("startup")
    .description(
      "a server process for each trial, from its start until it listens and until its first token",
    )
    .option("--num-iters <n>", "measured starts", atLeast(1), 5)
    .option("--num-iters-warmup <n>", "starts before", integer(0), 1)
    .option(
      "--memory",
      "also resident memory after loading, after 50 short requests, after three prompts of 1,000 tokens and after one of 2,000",
      false,
    );
  addEngineFlags(command);
  return command.action(async (flags: StartupFlags, self: Command) => {
    const { runStartupBench } = await import("./startup.js");
    const located = await withModelDirectory(flags);
    const result = await runStartupBench(located, serveArguments(self), print);
    await writeJson(flags.outputJson, result);
  });
}

/** The engine's flags that were given here, as `octavo serve` takes them; OCTAVO_* reach it by themselves. */
function serveArguments(command: Command): string[] {
  const names = Object.keys(ENGINE_DEFAULTS);
  return SERVE_FLAGS.filter(({ name }) =>
    names.includes(camelCase(name)),
  ).flatMap(({ name, value: placeholder }) => {
    const attribute = camelCase(name);
    if (command.getOptionValueSource(attribute) !== "cli") return [];
    const value: unknown = command.getOptionValue(attribute);
    if (name === "speculative-config")
      return [`--${name}`, speculativeConfigJson(value as SpeculativeConfig)];
    if (placeholder !== undefined) return [`--${name}`, String(value)];
    return [value === true ? `--${name}` : `--no-${name}`];
  });
}
