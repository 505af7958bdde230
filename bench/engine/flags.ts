import { InvalidArgumentError, type Command } from "commander";
import { findModel } from "../../src/cli/find-model.js";
import { addFlags, camelCase, integer } from "../../src/cli/flags.js";
import { engineConfig, SERVE_FLAGS } from "../../src/cli/serve-flags.js";
import { ENGINE_DEFAULTS, type EngineConfig } from "../../src/core/config.js";
import { withDraftDirectory } from "../../src/loader/locate-model.js";
import { OctavoError } from "../../src/core/errors.js";

/** Flags of every bench that runs the engine itself. */
export interface EngineBenchFlags extends Record<string, unknown> {
  model?: string;
  revision?: string;
  seed: number;
  outputJson?: string;
}

/**
 * --model, --seed, --output-json, and those flags of `octavo serve` that configure the engine rather than HTTP. The prefix
 * cache is off unless asked for, as in vLLM's benches: an iteration would find the prompts of the one before it.
 * @param without names of those that this bench decides itself
 */
export function addEngineFlags(
  command: Command,
  without: readonly string[] = [],
): void {
  command
    .option(
      "--model <model>",
      "directory in the Hugging Face layout, or hub name (OWNER/NAME)",
    )
    .option("--revision <name>", "branch, tag or commit of a hub name")
    .option(
      "--seed <n>",
      "of made-up weights, prompts and draws",
      integer(0, 0xffffffff),
      0,
    )
    .option("--output-json <file>", "also write the figures as JSON");
  const names = Object.keys(ENGINE_DEFAULTS);
  const flags = SERVE_FLAGS.filter(
    ({ name }) =>
      names.includes(camelCase(name)) && ![...without, "seed"].includes(name),
  );
  addFlags(
    command,
    flags.map((flag) =>
      flag.name === "enable-prefix-caching"
        ? { ...flag, default: false }
        : flag,
    ),
  );
}

/** The flags with --model as a directory, downloaded where it has to be. Errors: as findModel's. */
export async function withModelDirectory<Flags extends EngineBenchFlags>(
  flags: Flags,
): Promise<Flags> {
  const { directory } = await findModel(requireModel(flags), {
    revision: flags.revision,
    weights: flags["loadFormat"] !== "dummy",
  });
  const { speculativeConfig } = await withDraftDirectory(
    engineConfig(directory, flags),
    findModel,
  );
  return { ...flags, model: directory, speculativeConfig };
}

/** Errors: `invalid_config` where no model was named. */
export function requireModel({ model }: EngineBenchFlags): string {
  if (model !== undefined) return model;
  throw new OctavoError(
    "invalid_config",
    "--model: expected a model directory or a hub name (OWNER/NAME), got none",
    "model",
  );
}

export function benchEngineConfig(flags: EngineBenchFlags): EngineConfig {
  return engineConfig(requireModel(flags), flags);
}

export function percentiles(text: string): number[] {
  return text.split(",").map((part) => {
    const value = Number(part);
    if (part.trim() !== "" && value >= 0 && value <= 100) return value;
    throw new InvalidArgumentError(
      `Expected numbers from 0 to 100, got "${part}".`,
    );
  });
}
