import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { OctavoError } from "../../src/core/errors.js";
import { ProgressBar } from "../../src/cli/format.js";
import { compareResults, parseResult } from "./compare.js";
import { addServeBenchFlags, type ServeBenchFlags } from "./options.js";

/** A regression ends the process with this; an error with 1. */
const REGRESSION_EXIT = 2;

/** `octavo bench serve`: load a running server, or compare two results. */
export function serveBenchCommand(): Command {
  const command = new Command("serve").description(
    "throughput and latency of a running server, as `vllm bench serve` measures them",
  );
  addServeBenchFlags(command);
  return command.action(async (flags: ServeBenchFlags) => {
    if (flags.compare) return compare(flags.compare, flags.regressionThreshold);
    // The tokenizer's library is loaded only where it may be needed: --help and --compare answer at once.
    const { runServeBench } = await import("./serve-bench.js");
    let bar = new ProgressBar("Requests");
    let shown = "";
    const { runs } = await runServeBench(flags, {
      print: (text) => process.stdout.write(text),
      note: (text) => process.stderr.write(`${text}\n`),
      progress: (done, total, label) => {
        if (label !== shown) bar = new ProgressBar(`Requests at ${label}`);
        shown = label;
        bar.update(done, total);
      },
    });
    const outcomes = runs.flatMap((run) => run.outcomes);
    if (outcomes.every(({ error }) => error !== null)) process.exitCode = 1;
  });
}

async function compare(files: string[], threshold: number): Promise<void> {
  const [a, b] = files;
  if (a === undefined || b === undefined || files.length > 2)
    throw new OctavoError(
      "invalid_config",
      `--compare: expected two files, got ${files.length}`,
      "compare",
    );
  const { table, regressions } = compareResults(
    parseResult(a, await read(a)),
    parseResult(b, await read(b)),
    threshold,
  );
  process.stdout.write(table);
  if (regressions.length > 0) process.exitCode = REGRESSION_EXIT;
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `--compare: cannot read ${file}: ${(error as Error).message}`,
      "compare",
    );
  }
}
