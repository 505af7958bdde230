import { Command } from "commander";
import { writeFile } from "node:fs/promises";
import {
  latencyBenchCommand,
  speculationBenchCommand,
  prefixBenchCommand,
  startupBenchCommand,
  throughputBenchCommand,
} from "../../bench/engine/command.js";
import { deviceBenchCommand } from "../../bench/device/command.js";
import { constrainedBenchCommand } from "../../bench/grammar/command.js";
import { kernelBenchCommand } from "../../bench/kernels/command.js";
import { peerBenchCommand } from "../../bench/peers/command.js";
import { serveBenchCommand } from "../../bench/serve/command.js";
import { serverBenchCommand } from "../../bench/server/command.js";

/** `octavo bench KIND`: figures as ratios and shares of a ceiling, measured side by side. */
export function benchCommand(): Command {
  const bench = new Command("bench").description("Measure Octavo.");
  bench
    .command("scheduler")
    .description("schedule + pack + update per step, without a model")
    .option("--json <file>", "also write the figures as JSON")
    .action(async (options: { json?: string }) => {
      const { runSchedulerBench } = await import("../../bench/scheduler.js");
      const result = runSchedulerBench({}, (line) =>
        process.stdout.write(`${line}\n`),
      );
      if (options.json)
        await writeFile(options.json, JSON.stringify(result, null, 2) + "\n");
    });
  bench.addCommand(serveBenchCommand());
  bench.addCommand(latencyBenchCommand());
  bench.addCommand(prefixBenchCommand());
  bench.addCommand(throughputBenchCommand());
  bench.addCommand(speculationBenchCommand());
  bench.addCommand(constrainedBenchCommand());
  bench.addCommand(startupBenchCommand());
  bench.addCommand(kernelBenchCommand());
  bench.addCommand(deviceBenchCommand());
  bench.addCommand(serverBenchCommand());
  bench.addCommand(peerBenchCommand());
  return bench;
}
