import { Command } from "commander";
import { OctavoError } from "../core/errors.js";
import {
  addEstimateOptions,
  givenEstimateOptions,
  memoryInput,
  speculationInput,
  type EstimateOptions,
} from "./doctor/estimate-options.js";
import { findModel } from "./find-model.js";
import { addFlags, applySwitchVariables, camelCase } from "./flags.js";
import { SERVE_FLAGS } from "./serve-flags.js";

/** The flags of `serve` that decide what fits. */
const PLAN_FLAGS = SERVE_FLAGS.filter(({ name }) =>
  [
    "revision",
    "model-file",
    "load-format",
    "threads",
    "kv-cache-dtype",
    "max-model-len",
    "max-num-seqs",
    "max-num-batched-tokens",
    "long-prefill-token-threshold",
    "enable-chunked-prefill",
    "gpu-memory-utilization",
    "num-gpu-blocks-override",
    "speculative-config",
    "batch-invariant",
    "tile-tuning",
  ].includes(name),
);

/** Those that say which model it is. */
const MODEL_FLAGS = ["revision", "model-file", "load-format"];

interface DoctorOptions extends EstimateOptions {
  revision?: string;
  modelFile?: string;
  loadFormat?: string;
  json?: boolean;
  estimate?: boolean;
}

/** `octavo doctor [MODEL]`: what this machine can run, and why not. Exits with 1 when nothing can. */
export function doctorCommand(): Command {
  const command = new Command("doctor")
    .description("Say what this machine can run, and why not.")
    .argument(
      "[model]",
      "also say what of this model would fit: a directory, or a hub name (OWNER/NAME)",
    )
    .option("--json", "print everything as JSON");
  addFlags(command, PLAN_FLAGS);
  addEstimateOptions(command);
  return command.action(
    async (model: string | undefined, _options: unknown, self: Command) => {
      applySwitchVariables(self, PLAN_FLAGS, process.env);
      const options = self.opts<DoctorOptions>();
      checkCombination(self, options);
      await (options.estimate ? printEstimate : printDiagnosis)(model, options);
    },
  );
}

async function printDiagnosis(
  model: string | undefined,
  options: DoctorOptions,
): Promise<void> {
  // Only now: --help answers without loading the engine.
  const { diagnose } = await import("./doctor/diagnose.js");
  const { reportText } = await import("./doctor/report.js");
  const weights = options.loadFormat !== "dummy";
  const directory = await locate(model, options, weights);
  const diagnosis = await diagnose(directory, options);
  print(diagnosis, options, () => reportText(diagnosis));
  process.exitCode = diagnosis.ok ? 0 : 1;
}

async function printEstimate(
  model: string | undefined,
  options: DoctorOptions,
): Promise<void> {
  const { readShape } = await import("../engine/model-shape.js");
  const { estimate, estimateText } =
    await import("./doctor/estimate-report.js");
  const speculation = speculationInput(options);
  const directory = await locate(model, options, false);
  const shape =
    directory === undefined
      ? null
      : await readShape(directory, options.modelFile ?? null);
  const memory = memoryInput(options, shape);
  if (!speculation && !memory)
    throw new OctavoError(
      "invalid_config",
      "--estimate: expected --acceptance-rate or --conditional-acceptance (speculation), or a MODEL or --parameters (memory), got none of them.",
      "estimate",
    );
  const result = estimate(speculation, memory);
  print(result, options, () => estimateText(result));
}

/** No flag is ignored: the estimate's own need it, and those of the plan have no meaning for it. */
function checkCombination(self: Command, { estimate }: DoctorOptions): void {
  if (!estimate) {
    const [name] = givenEstimateOptions(self);
    if (name !== undefined)
      throw new OctavoError(
        "invalid_config",
        `--${name}: expected --estimate with it, got none.`,
        name,
      );
    return;
  }
  const flag = PLAN_FLAGS.find(
    ({ name }) =>
      !MODEL_FLAGS.includes(name) &&
      self.getOptionValueSource(camelCase(name)) === "cli",
  );
  if (flag)
    throw new OctavoError(
      "invalid_config",
      `--${flag.name}: expected only flags of the estimate with --estimate (see --help), got one of the plan.`,
      flag.name,
    );
}

function print(
  result: unknown,
  { json }: DoctorOptions,
  asText: () => string,
): void {
  const text = json ? JSON.stringify(result, null, 2) : asText();
  process.stdout.write(`${text}\n`);
}

/** A directory; undefined: it is about the machine alone. */
async function locate(
  model: string | undefined,
  { revision }: DoctorOptions,
  weights: boolean,
): Promise<string | undefined> {
  if (model === undefined && revision === undefined) return undefined;
  return (await findModel(model, { revision, weights })).directory;
}
