import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(
  path.dirname(fileURLToPath(import.meta.url)),
  "../..",
);
export const MAIN = path.join(root, "dist/src/cli/main.js");
export const SHARED = path.resolve(root, "../shared");
export const STORIES = path.join(SHARED, "models/stories260k");
export const hasShared = existsSync(STORIES);

/** A real `octavo` process, as a user starts it. */
export interface ServerProcess {
  url: string;
  process: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Sends a signal and waits for the end; resolves to the exit code (or the signal that ended it). */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** `octavo ARGS...`, run to its end. */
export async function runOctavo(
  args: string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | NodeJS.Signals; stdout: string; stderr: string }> {
  const child = launch(args, env);
  const output = capture(child);
  const code = await ended(child);
  return { code, stdout: output.stdout(), stderr: output.stderr() };
}

/** `octavo ARGS...`, left running. `ended` resolves to the exit code (or the signal that ended it). */
export function startOctavo(args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = launch(args, env);
  return { process: child, ...capture(child), ended: ended(child) };
}

/** `octavo serve ARGS... --port 0`, once it listens. */
export async function startServer(
  args: string[],
  env: NodeJS.ProcessEnv = {},
): Promise<ServerProcess> {
  const child = launch(["serve", ...args, "--port", "0"], env);
  const output = capture(child);
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout?.on("data", () => {
      const match = /^Octavo listening on (\S+)$/m.exec(output.stdout());
      if (match?.[1] !== undefined) resolve(match[1]);
    });
    child.on("exit", (code) =>
      reject(
        new Error(
          `octavo ended with ${code} before listening:\n${output.stderr()}`,
        ),
      ),
    );
  });
  return {
    url,
    process: child,
    ...output,
    stop: async (signal = "SIGTERM") => {
      const end = ended(child);
      child.kill(signal);
      return end;
    },
  };
}

function launch(args: string[], env: NodeJS.ProcessEnv): ChildProcess {
  return spawn(process.execPath, [MAIN, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

function capture(child: ChildProcess): {
  stdout: () => string;
  stderr: () => string;
} {
  let out = "";
  let err = "";
  child.stdout?.on("data", (chunk: Buffer) => (out += chunk.toString("utf8")));
  child.stderr?.on("data", (chunk: Buffer) => (err += chunk.toString("utf8")));
  return { stdout: () => out, stderr: () => err };
}

function ended(child: ChildProcess): Promise<number | NodeJS.Signals> {
  return new Promise((resolve) => {
    if (child.exitCode !== null) resolve(child.exitCode);
    else if (child.signalCode !== null) resolve(child.signalCode);
    else child.on("close", (code, signal) => resolve(code ?? signal ?? -1));
  });
}
