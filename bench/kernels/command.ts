import { Command, Option } from "commander";
import { integer, number } from "../../src/cli/flags.js";
import type { KvCacheDType } from "../../src/runner/addon.js";
import { listOption, numbersOption } from "../list-options.js";
import { writeJson } from "../write-json.js";
import {
  OPS,
  runKernelBench,
  SCHEMES,
  type OpName,
  type Scheme,
} from "./kernel-bench.js";
import { findShape, NAMED_SHAPES } from "./shapes.js";

interface KernelFlags {
  model: string;
  device: "cpu" | "reference";
  threads: number;
  ops: OpName[];
  schemes: Scheme[];
  groupSize: number;
  rows: number[];
  contextLens: number[];
  kvCacheDtype: KvCacheDType;
  seconds: number;
  workingSetMib: number;
  outputJson?: string;
}

/** `octavo bench kernels`: each op alone, as shares of the ceilings that the same run measures first. */
export function kernelBenchCommand(): Command {
  const names = NAMED_SHAPES.map(({ name }) => name).join(", ");
  return new Command("kernels")
    .description(
      "each op of a backend alone: GB/s, GFLOP/s and the share of this machine's ceilings, which are measured first",
    )
    .option(
      "--model <dir|shape>",
      `directory with a config.json, or one of ${names}`,
      "llama-1b",
    )
    .addOption(
      new Option("--device <device>", "backend")
        .choices(["cpu", "reference"])
        .default("cpu"),
    )
    .option("--threads <n>", "0: one per physical core", integer(0, 1024), 0)
    .addOption(listOption("--ops <list>", "which ops", OPS, [...OPS]))
    .addOption(
      listOption(
        "--schemes <list>",
        "weights of linears (int4-a8: inputs of 8 bits)",
        SCHEMES,
        ["int4-a8", "int4", "f16", "f32"],
      ),
    )
    .option("--group-size <n>", "of int4", integer(8, 4096), 128)
    .addOption(
      numbersOption(
        "--rows <list>",
        "token rows (decode attention and what is sampled: up to 64)",
        [1, 2, 4, 8, 16, 64, 512],
        1 << 16,
      ),
    )
    .addOption(
      numbersOption(
        "--context-lens <list>",
        "positions of attention",
        [512, 4096],
        1 << 20,
      ),
    )
    .addOption(
      new Option("--kv-cache-dtype <type>", "KV pages")
        .choices(["f32", "f16", "int8"])
        .default("f32"),
    )
    .option("--seconds <s>", "time for each figure", number(0, 60), 0.2)
    .option(
      "--working-set-mib <n>",
      "weights and KV pages that calls walk through, far more than the caches hold",
      integer(0, 65_536),
      256,
    )
    .option("--output-json <file>", "also write all figures")
    .action(async (flags: KernelFlags) => {
      const result = runKernelBench(
        {
          ...flags,
          shape: findShape(flags.model),
          workingSet: flags.workingSetMib * 2 ** 20,
        },
        (line) => process.stdout.write(`${line}\n`),
      );
      await writeJson(flags.outputJson, result);
    });
}
