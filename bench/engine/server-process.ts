import type { ChildProcess } from "node:child_process";
import { OctavoError } from "../../src/core/errors.js";

export const START_TIMEOUT_MS = 600_000;
const LISTENING = /^Octavo listening on (\S+)$/m;

/** What `octavo serve` prints when it takes requests. Errors: `invalid_config` with what it said instead. */
export function listeningAddress(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let out = "";
    let err = "";
    const fail = (problem: string): void =>
      reject(
        new OctavoError(
          "invalid_config",
          `octavo serve ${problem}:\n${err.trim()}`,
        ),
      );
    const timer = setTimeout(
      () => fail(`did not listen within ${START_TIMEOUT_MS / 1000} s`),
      START_TIMEOUT_MS,
    );
    child.stderr?.on("data", (bytes: Buffer) => (err += bytes.toString()));
    child.stdout?.on("data", (bytes: Buffer) => {
      out += bytes.toString();
      const url = LISTENING.exec(out)?.[1];
      if (url === undefined) return;
      clearTimeout(timer);
      resolve(url);
    });
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      fail(`ended with ${code ?? signal} before it listened`);
    });
  });
}

/** Asks the process to end and waits for it. */
export function endOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    // A second signal ends at once; nothing is running by then.
    child.kill("SIGTERM");
  });
}
