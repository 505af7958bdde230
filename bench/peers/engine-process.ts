import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { OctavoError } from "../../src/core/errors.js";
import type { Job, JobResult, PeerMessage, PeerSettings } from "./protocol.js";

/** An engine in a process of its own, which waits between jobs. */
export class EngineProcess {
  private constructor(
    private readonly child: ChildProcess,
    /** Its name and version. */
    readonly name: string,
  ) {}

  /**
   * @param script the process, beside this file
   * Errors: `invalid_config` with what it said instead of being ready.
   */
  static async start(
    script: string,
    settings: PeerSettings,
  ): Promise<EngineProcess> {
    const child = fork(
      fileURLToPath(new URL(script, import.meta.url)),
      [JSON.stringify(settings)],
      { stdio: ["ignore", "ignore", "inherit", "ipc"] },
    );
    try {
      const message = await nextMessage(child, script);
      if (message.type !== "ready") throw unexpected(script, message);
      return new EngineProcess(child, message.name);
    } catch (error) {
      child.kill();
      throw error;
    }
  }

  async run(job: Job): Promise<JobResult> {
    const answer = nextMessage(this.child, this.name);
    this.child.send(job);
    const message = await answer;
    if (message.type !== "result") throw unexpected(this.name, message);
    return message;
  }

  close(): void {
    this.child.kill();
  }
}

function nextMessage(child: ChildProcess, name: string): Promise<PeerMessage> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null, signal: string | null): void =>
      reject(
        new OctavoError(
          "invalid_config",
          `${name} ended with ${code ?? signal} instead of answering`,
        ),
      );
    child.once("exit", ended);
    child.once("message", (message: PeerMessage) => {
      child.off("exit", ended);
      resolve(message);
    });
  });
}

function unexpected(name: string, message: PeerMessage): OctavoError {
  return new OctavoError(
    "invalid_config",
    `${name}: ${message.type === "failed" ? message.message : `unexpected "${message.type}"`}`,
  );
}
