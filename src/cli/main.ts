#!/usr/bin/env node
import { Command } from "commander";
import { OctavoError } from "../core/errors.js";
import { benchCommand } from "./bench.js";
import { chatCommand } from "./chat.js";
import { doctorCommand } from "./doctor.js";
import { quantizeCommand } from "./quantize.js";
import { serveCommand } from "./serve-command.js";
import { VERSION } from "./version.js";

async function main(argv: string[]): Promise<void> {
  const program = new Command("octavo")
    .description("A self-hosted, OpenAI-compatible inference server.")
    .version(VERSION)
    .showHelpAfterError("(add --help for the flags)")
    .addCommand(serveCommand())
    .addCommand(chatCommand())
    .addCommand(benchCommand())
    .addCommand(quantizeCommand())
    .addCommand(doctorCommand());
  await program.parseAsync(argv);
}

/** One line for what the user can mend; the stack only for what is our fault. */
function report(error: unknown): void {
  if (error instanceof OctavoError && error.code !== "internal_error")
    process.stderr.write(`octavo: ${error.message}\n`);
  else
    process.stderr.write(
      `octavo: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
}

main(process.argv).catch((error: unknown) => {
  report(error);
  // Whatever else is still loading must not keep the process.
  process.exit(1);
});
