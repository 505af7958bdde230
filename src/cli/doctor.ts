import { Command } from "commander";
import { findModel } from "./find-model.js";
import { addFlags, applySwitchVariables } from "./flags.js";
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
    "gpu-memory-utilization",
    "num-gpu-blocks-override",
  ].includes(name),
);

interface DoctorOptions extends Record<string, unknown> {
  revision?: string;
  loadFormat?: string;
  json?: boolean;
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
  return command.action(
    async (model: string | undefined, _options: unknown, self: Command) => {
      applySwitchVariables(self, PLAN_FLAGS, process.env);
      const options = self.opts<DoctorOptions>();
      // Only now: --help answers without loading the engine.
      const { diagnose } = await import("./doctor/diagnose.js");
      const { reportText } = await import("./doctor/report.js");
      const diagnosis = await diagnose(await locate(model, options), options);
      const text = options.json
        ? JSON.stringify(diagnosis, null, 2)
        : reportText(diagnosis);
      process.stdout.write(`${text}\n`);
      process.exitCode = diagnosis.ok ? 0 : 1;
    },
  );
}

/** A directory; undefined: it is about the machine alone. */
async function locate(
  model: string | undefined,
  { revision, loadFormat }: DoctorOptions,
): Promise<string | undefined> {
  if (model === undefined && revision === undefined) return undefined;
  const weights = loadFormat !== "dummy";
  return (await findModel(model, { revision, weights })).directory;
}
