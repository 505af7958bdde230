import { Command } from "commander";
import { number, integer } from "../../src/cli/flags.js";
import { addEngineFlags, withModelDirectory } from "../engine/flags.js";
import { numbersOption } from "../list-options.js";
import { atLeast } from "../serve/flag-rows.js";
import { writeJson } from "../write-json.js";
import type { ConstrainedFlags } from "./constrained.js";

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** `octavo bench constrained`. The engine is loaded when it runs: --help answers at once. */
export function constrainedBenchCommand(): Command {
  const command = new Command("constrained")
    .description(
      "decoding constrained by a grammar against free decoding, in turns; then what compiling a grammar does to the tokens of others",
    )
    .option(
      "--tokenizer <dir>",
      "model directory whose tokenizer spells the tokens; without one, the model's own, or made-up words",
    )
    .option("--batch-size <n>", "sequences at once", atLeast(1), 16)
    .option("--input-len <n>", "prompt tokens", atLeast(1), 128)
    .option("--output-len <n>", "output tokens", atLeast(3), 64)
    .option("--temperature <t>", "sampling temperature", number(0, 100), 1)
    .option(
      "--compile-ms <ms>",
      "compile grammars that take at least so long",
      number(1, 5000),
      200,
    )
    .addOption(
      numbersOption(
        "--delay-streams <list>",
        "streams that decode meanwhile",
        [1, 15],
        65_535,
      ),
    )
    .option(
      "--num-iters <n>",
      "measured pairs of runs, and compilations",
      atLeast(1),
      5,
    )
    .option("--num-iters-warmup <n>", "pairs before", integer(0), 1);
  // A step of drafts is not a token of each stream.
  addEngineFlags(command, ["speculative-config"]);
  return command.action(async (flags: ConstrainedFlags) => {
    const { runConstrainedBench } = await import("./constrained.js");
    const located = await withModelDirectory(flags);
    await writeJson(
      flags.outputJson,
      await runConstrainedBench(located, print),
    );
  });
}
