import { Command } from "commander";
import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import { OctavoError } from "../core/errors.js";
import { ChatInput } from "./chat-input.js";
import {
  chatBaseUrl,
  ChatFailure,
  firstModel,
  type ChatTarget,
} from "./chat-client.js";
import { ChatSession } from "./chat-session.js";
import {
  addFlags,
  applySwitchVariables,
  camelCase,
  integer,
  number,
  type Flag,
} from "./flags.js";
import { SERVE_FLAGS, type ServeOptions } from "./serve-flags.js";

/** Flags of `octavo serve` that say how the model is loaded; the others are about HTTP or about many users. */
const LOAD_FLAGS: readonly Flag[] = SERVE_FLAGS.filter(({ name }) =>
  [
    "chat-template",
    "revision",
    "model-file",
    "load-format",
    "device",
    "threads",
    "quantization",
    "kv-cache-dtype",
    "max-model-len",
    "max-num-batched-tokens",
    "gpu-memory-utilization",
  ].includes(name),
);

interface ChatOptions extends Record<string, unknown> {
  url?: string;
  apiKey?: string;
  model?: string;
  system?: string;
  temperature?: number;
  topP?: number;
  maxTokens?: number;
  seed?: number;
}

/** `octavo chat [MODEL | --url URL]`: a conversation in the terminal, or line by line through a pipe. */
export function chatCommand(): Command {
  const command = new Command("chat")
    .description(
      "Talk to a model, loaded here or behind any server with OpenAI's API.",
    )
    .argument(
      "[model]",
      "directory or hub name (OWNER/NAME); without one, the built-in model",
    )
    .option("--url <url>", "talk to this server instead of loading a model")
    .option("--api-key <key>", "with --url: the server's key")
    .option("--model <name>", "with --url: its name (default: the first one)")
    .option("--system <text>", "system text")
    .option("--temperature <t>", "sampling temperature", number(0, 2))
    .option("--top-p <p>", "share of the probability", number(0, 1, true))
    .option("--max-tokens <n>", "longest answer, tokens", integer(1))
    .option("--seed <n>", "makes answers repeatable", integer(0, 0xffffffff));
  addFlags(command, LOAD_FLAGS);
  return command.action(
    async (model: string | undefined, options: ChatOptions, self: Command) => {
      applySwitchVariables(self, LOAD_FLAGS, process.env);
      checkFlags(model, options, self);
      process.exit(
        options.url === undefined
          ? await chatHere(model ?? process.env["OCTAVO_MODEL"], options)
          : await chatThere(options.url, options),
      );
    },
  );
}

/** A flag that the other way of chatting would ignore is a mistake. */
function checkFlags(
  model: string | undefined,
  options: ChatOptions,
  command: Command,
): void {
  const refuse = (flag: string, why: string): never => {
    throw new OctavoError("invalid_config", `${flag}: ${why}`, flag);
  };
  if (options.url === undefined) {
    for (const flag of ["api-key", "model"])
      if (options[camelCase(flag)] !== undefined)
        refuse(
          `--${flag}`,
          "goes with --url; without one the model is loaded here, and named as the argument: octavo chat MODEL.",
        );
    return;
  }
  if (model !== undefined)
    refuse(
      "MODEL",
      `"${model}" would be loaded here, but --url names a server; its model is named by --model.`,
    );
  for (const { name } of LOAD_FLAGS)
    if (command.getOptionValueSource(camelCase(name)) === "cli")
      refuse(
        `--${name}`,
        "says how to load a model, but --url names a server that has one.",
      );
}

async function chatThere(url: string, options: ChatOptions): Promise<number> {
  const target = { baseUrl: chatBaseUrl(url), apiKey: options.apiKey ?? null };
  try {
    const name = options.model ?? (await firstModel(target));
    return await converse(target, name, options);
  } catch (error) {
    if (error instanceof ChatFailure)
      throw new OctavoError("invalid_config", error.message, "url");
    throw error;
  }
}

/** The whole server in this process, on a port of this machine with a key that nobody else knows. */
async function chatHere(
  model: string | undefined,
  options: ChatOptions,
): Promise<number> {
  const { loadApp } = await import("./load-app.js");
  const apiKey = randomUUID();
  const { app, engine, names, chatTemplate } = await loadApp(model, {
    ...serveDefaults(),
    ...options,
    // --seed is of the answers here.
    seed: undefined,
    apiKey: [apiKey],
    logLevel: "error",
    maxNumSeqs: 1,
  });
  const name = names[0] ?? "";
  try {
    if (!chatTemplate.available)
      throw new OctavoError(
        "invalid_config",
        `${name} has no chat template; give it one with --chat-template FILE.`,
        "chat-template",
      );
    await app.listen({ host: "127.0.0.1", port: 0 });
    const { port } = app.server.address() as AddressInfo;
    const baseUrl = `http://127.0.0.1:${port}/v1`;
    return await converse({ baseUrl, apiKey }, name, options);
  } finally {
    await engine.close();
  }
}

function serveDefaults(): ServeOptions {
  return Object.fromEntries(
    SERVE_FLAGS.map((flag) => [camelCase(flag.name), flag.default]),
  ) as ServeOptions;
}

/** Resolves to the exit code: 1 where an answer failed and nobody was there to see it. */
async function converse(
  target: ChatTarget,
  model: string,
  options: ChatOptions,
): Promise<number> {
  const { temperature, topP, maxTokens, seed, system } = options;
  const session = new ChatSession({
    target,
    settings: { model, temperature, top_p: topP, max_tokens: maxTokens, seed },
    system,
    stdout: process.stdout,
    stderr: process.stderr,
  });
  const input = new ChatInput(() => {
    if (!session.answering && input.clearLine()) return;
    if (session.interrupt()) process.exit(130);
    if (!session.answering) input.showPrompt();
  });
  if (input.interactive)
    process.stderr.write(`Chatting with ${model}. /help lists commands.\n`);
  await session.run(input);
  input.close();
  return session.failed && !input.interactive ? 1 : 0;
}
