import { Command, Option } from "commander";
import { atLeast } from "../serve/flag-rows.js";
import { writeJson } from "../write-json.js";
import type { ServerBenchOptions } from "./server-bench.js";

/** `octavo bench server`: what streaming costs beside the model. */
export function serverBenchCommand(): Command {
  return new Command("server")
    .description(
      "events and tokens per second of the server's processor time, with a device that computes nothing",
    )
    .requiredOption(
      "--model <dir>",
      "directory with config.json and tokenizer.json; no weights are needed",
    )
    .addOption(
      new Option("--backend <name>", "completions or chat")
        .choices(["openai", "openai-chat"])
        .default("openai"),
    )
    .option("--num-streams <n>", "streams at once", atLeast(1), 256)
    .option("--output-len <n>", "tokens of each", atLeast(2), 512)
    .option("--stream-interval <n>", "tokens to an event", atLeast(1), 1)
    .option("--rounds <n>", "measured rounds", atLeast(1), 3)
    .option(
      "--cpu-prof-dir <dir>",
      "write V8 profiles of the server's threads there",
    )
    .option("--output-json <file>", "also write the figures as JSON")
    .action(
      async ({
        cpuProfDir,
        outputJson,
        ...options
      }: Omit<ServerBenchOptions, "nodeArguments"> & {
        cpuProfDir?: string;
        outputJson?: string;
      }) => {
        const { runServerBench } = await import("./server-bench.js");
        const nodeArguments =
          cpuProfDir === undefined
            ? []
            : ["--cpu-prof", `--cpu-prof-dir=${cpuProfDir}`];
        const result = await runServerBench(
          { ...options, nodeArguments },
          (line) => process.stdout.write(`${line}\n`),
        );
        await writeJson(outputJson, result);
      },
    );
}
