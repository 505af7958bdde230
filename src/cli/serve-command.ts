import { Command } from "commander";
import { readFile } from "node:fs/promises";
import { parse as parseYaml } from "yaml";
import { OctavoError } from "../core/errors.js";
import { isEncoderAlone, refuseTextFlags } from "./encoder-alone.js";
import {
  addFlags,
  applyConfigFile,
  applySwitchVariables,
  camelCase,
} from "./flags.js";
import { SERVE_FLAGS, type ServeOptions } from "./serve-flags.js";

/** `octavo serve [MODEL] [flags]`: flags from the command line, then OCTAVO_*, then --config. */
export function serveCommand(): Command {
  const command = new Command("serve")
    .description("Serve a model over HTTP, with OpenAI's API.")
    .argument(
      "[model]",
      "directory in the Hugging Face layout (config.json, *.safetensors, tokenizer.json), or hub name (OWNER/NAME); without one, the built-in model (octavo-starter), or --embedding-model alone",
    );
  addFlags(command, SERVE_FLAGS);
  return command.action(
    async (model: string | undefined, _options: unknown, self: Command) => {
      applySwitchVariables(self, SERVE_FLAGS, process.env);
      const configFile = self.getOptionValue("config") as string | undefined;
      if (configFile !== undefined) {
        const { model: fileModel, ...flags } = await readConfigFile(configFile);
        applyConfigFile(self, SERVE_FLAGS, configFile, flags);
        if (typeof fileModel === "string") model ??= fileModel;
      }
      const options = self.opts<ServeOptions>();
      refuseSwitchedOff(options);
      model ??= process.env["OCTAVO_MODEL"];
      if (isEncoderAlone(model, options))
        refuseTextFlags((flag) => {
          const source = self.getOptionValueSource(camelCase(flag));
          return source !== undefined && source !== "default";
        });
      // Only now: --help and mistakes in flags answer without loading the server.
      const { serve } = await import("./serve.js");
      await serve(model, options);
    },
  );
}

/** Switches that are always on; asking for the opposite is refused rather than ignored. */
function refuseSwitchedOff(options: ServeOptions): void {
  if (!options.enableAutoToolChoice)
    throw new OctavoError(
      "invalid_config",
      "enable-auto-tool-choice: false is not built: requests decide with tool_choice; --tool-call-parser none refuses tools.",
      "enable-auto-tool-choice",
    );
}

async function readConfigFile(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `--config: cannot read ${file}: ${(error as Error).message}`,
      "config",
    );
  }
  try {
    const content: unknown = parseYaml(text);
    if (content === null || content === undefined) return {};
    if (typeof content !== "object" || Array.isArray(content))
      throw new Error("expected a mapping of flag names to values");
    return content as Record<string, unknown>;
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `--config: ${file}: ${(error as Error).message}`,
      "config",
    );
  }
}
