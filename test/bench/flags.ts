import { Command } from "commander";
import {
  addServeBenchFlags,
  type ServeBenchFlags,
} from "../../bench/serve/options.js";
import {
  runServeBench,
  type ServeBenchResult,
} from "../../bench/serve/serve-bench.js";

/** Flags as the command line gives them. Errors are thrown, not printed. */
export function parseFlags(args: string[]): ServeBenchFlags {
  const command = new Command().exitOverride().configureOutput({
    writeErr: () => undefined,
  });
  addServeBenchFlags(command);
  command.parse(args, { from: "user" });
  return command.opts<ServeBenchFlags>();
}

/** Runs the bench against `url` and keeps what it says. */
export async function runBench(
  url: string,
  args: string[],
): Promise<ServeBenchResult & { notes: string[]; progress: number[] }> {
  const notes: string[] = [];
  const progress: number[] = [];
  const flags = parseFlags(["--base-url", url, ...args]);
  const result = await runServeBench(flags, {
    print: () => undefined,
    note: (text) => void notes.push(text),
    progress: (done) => void progress.push(done),
  });
  return { ...result, notes, progress };
}
