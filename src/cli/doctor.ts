import { Command } from "commander";
import { addFlags, applySwitchVariables } from "./flags.js";
import { SERVE_FLAGS } from "./serve-flags.js";

/** The flags of `serve` that decide what fits. */
const PLAN_FLAGS = SERVE_FLAGS.filter(({ name }) =>
  [
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
  json?: boolean;
}

/** `octavo doctor [MODEL]`: what this machine can run, and why not. Exits with 1 when nothing can. */
export function doctorCommand(): Command {
  const command = new Command("doctor")
    .description("Say what this machine can run, and why not.")
    .argument("[model]", "also say what of this model directory would fit")
    .option("--json", "print everything as JSON");
  addFlags(command, PLAN_FLAGS);
  return command.action(
    async (model: string | undefined, _options: unknown, self: Command) => {
      applySwitchVariables(self, PLAN_FLAGS, process.env);
      const options = self.opts<DoctorOptions>();
      // Only now: --help answers without loading the engine.
      const { diagnose } = await import("./doctor/diagnose.js");
      const { reportText } = await import("./doctor/report.js");
      const diagnosis = await diagnose(model, options);
      const text = options.json
        ? JSON.stringify(diagnosis, null, 2)
        : reportText(diagnosis);
      process.stdout.write(`${text}\n`);
      process.exitCode = diagnosis.ok ? 0 : 1;
    },
  );
}
