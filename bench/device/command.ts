import { Command, InvalidArgumentError, Option } from "commander";
import { SERVE_FLAGS } from "../../src/cli/serve-flags.js";
import { atLeast } from "../serve/flag-rows.js";
import { writeJson } from "../write-json.js";
import type { DeviceBenchFlags } from "./run.js";
import { SHAPE_NAMES } from "./shapes.js";

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** `octavo bench device`. */
export function deviceBenchCommand(): Command {
  const devices = SERVE_FLAGS.find(({ name }) => name === "device")?.choices;
  return new Command("device")
    .description(
      "whether a device computes what it should (golden models), then prefill and decoding at published shapes with made-up INT4 weights",
    )
    .addOption(
      new Option("--device <device>", "which")
        .choices([...(devices ?? [])])
        .default("cuda"),
    )
    .option("--models <dir>", "folder of models with a golden.json each")
    .addOption(
      new Option("--shapes <names...>", "which shapes")
        .choices(SHAPE_NAMES)
        .default(SHAPE_NAMES),
    )
    .option(
      "--batch-sizes <list>",
      "sequences, comma-separated",
      batchSizes,
      [1, 16, 64, 256],
    )
    .option("--input-len <n>", "prompt tokens", atLeast(1), 1024)
    .option("--output-len <n>", "output tokens", atLeast(2), 256)
    .option("--num-iters <n>", "measured iterations", atLeast(1), 3)
    .option("--output-json <file>", "also write the figures as JSON")
    .action(async (flags: DeviceBenchFlags) => {
      const { runDeviceBench } = await import("./run.js");
      await writeJson(flags.outputJson, await runDeviceBench(flags, print));
    });
}

function batchSizes(text: string): number[] {
  return text.split(",").map((part) => {
    const value = Number(part);
    if (part.trim() !== "" && Number.isInteger(value) && value > 0)
      return value;
    throw new InvalidArgumentError(
      `Expected positive integers, got "${part}".`,
    );
  });
}
