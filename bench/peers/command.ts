import { Command } from "commander";
import { integer } from "../../src/cli/flags.js";
import { atLeast } from "../serve/flag-rows.js";
import { writeJson } from "../write-json.js";
import type { PeerFlags } from "./compare.js";

/** `octavo bench peers`. */
export function peerBenchCommand(): Command {
  return new Command("peers")
    .description(
      "Octavo and llama.cpp (node-llama-cpp) on the same made-up INT4 weights, in turn, on the processor",
    )
    .option(
      "--model <shape>",
      "a named shape, or a directory with config.json",
      "llama-1b",
    )
    .option(
      "--threads <n>",
      "of each engine; 0: one per physical core",
      integer(0),
      0,
    )
    .option("--seed <n>", "of weights and prompts", integer(0, 0xffffffff), 0)
    .option("--num-iters <n>", "measured runs of each engine", atLeast(1), 5)
    .option(
      "--workloads <names>",
      "some of them, with commas between",
      (text) => text.split(","),
    )
    .option(
      "--checkpoint-dir <dir>",
      "keep the checkpoints here and find them again",
    )
    .option(
      "--peer-package <dir>",
      "node-llama-cpp's folder instead of installing it into a temporary one",
    )
    .option(
      "--kv-cache-dtype <dtype>",
      "Octavo's, as octavo serve takes it",
      "auto",
    )
    .option("--output-json <file>", "also write the figures as JSON")
    .action(
      async ({
        kvCacheDtype,
        ...flags
      }: PeerFlags & { kvCacheDtype: string }) => {
        const { runPeerBench } = await import("./compare.js");
        const result = await runPeerBench(
          { ...flags, octavoOptions: { kvCacheDtype } },
          (line) => process.stdout.write(`${line}\n`),
        );
        await writeJson(flags.outputJson, result);
      },
    );
}
