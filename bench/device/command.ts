import { Command, InvalidArgumentError, Option } from "commander";
import { SERVE_FLAGS } from "../../src/cli/serve-flags.js";
import { atLeast } from "../serve/flag-rows.js";
import { writeJson } from "../write-json.js";
import { OctavoError } from "../../src/core/errors.js";
import { PARTS, type Part } from "./parts.js";
import type { DeviceBenchFlags } from "./run.js";
import { PUBLISHED_SHAPES, SHAPE_NAMES } from "./shapes.js";

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** `octavo bench device`. */
export function deviceBenchCommand(): Command {
  const devices = SERVE_FLAGS.find(({ name }) => name === "device")?.choices;
  return new Command("device")
    .description(
      "whether a device computes what it should (golden models), then prefill, decoding, idle time and serving at published shapes with made-up INT4 weights",
    )
    .addOption(
      new Option("--device <device>", "which")
        .choices([...(devices ?? [])])
        .default("cuda"),
    )
    .option(
      "--parts <list>",
      `some of ${PARTS.join(",")}; summary: tables and targets of what lies in --output-dir`,
      parts,
      ["models", "latency"],
    )
    .option("--models <dir>", "folder of models with a golden.json each")
    .option("--models-name <name>", "name of their result", "models")
    .addOption(
      new Option("--shapes <names...>", "which shapes")
        .choices(SHAPE_NAMES)
        .default(PUBLISHED_SHAPES),
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
    .option(
      "--output-dir <dir>",
      "write a JSON file for each part; ceilings.json in it gives the floors",
    )
    .option("--output-json <file>", "also write all figures to one file")
    .action(async (flags: DeviceBenchFlags & { outputJson?: string }) => {
      const { runDeviceBench, summarizeFolder } = await import("./run.js");
      const result = await runDeviceBench(flags, print);
      await writeJson(flags.outputJson, { bench: "device", ...result });
      if (!flags.parts.includes("summary")) return;
      if (flags.outputDir === undefined)
        throw new OctavoError(
          "invalid_config",
          "--parts summary: expected --output-dir, got none",
          "output-dir",
        );
      await summarizeFolder(flags.outputDir, print);
    });
}

function parts(text: string): Part[] {
  return text.split(",").map((name) => {
    const found = PARTS.find((part) => part === name);
    if (found) return found;
    throw new InvalidArgumentError(
      `Expected some of ${PARTS.join(",")}, got "${name}".`,
    );
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
