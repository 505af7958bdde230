/** In a process of its own, whose threads stay as they are made. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import os from "node:os";
import { describe, expect, it } from "vitest";
import { addonFile } from "../../src/runner/addon.js";

const NICENESS = 3;
/** Of the main thread before and after, and of a thread that it starts afterwards: slice in nanoseconds, niceness. */
const SCRIPT = `
const fs = require("node:fs");
const os = require("node:os");
const { Worker } = require("node:worker_threads");
const look = (id) => {
  const file = "/proc/self/task/" + id + "/sched";
  const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
  return { slice: Number(/se\\.slice\\s*:\\s*(\\d+)/.exec(text)?.[1]), niceness: os.getPriority(id) };
};
os.setPriority(${NICENESS});
const before = look(process.pid);
const shortened = require(process.argv[1]).shortenTimeSlice();
const known = new Set(fs.readdirSync("/proc/self/task"));
const worker = new Worker("require('worker_threads').parentPort.once('message', () => {})", { eval: true });
worker.once("online", () => {
  const [id] = fs.readdirSync("/proc/self/task").filter((task) => !known.has(task));
  console.log(JSON.stringify({ before, shortened, after: look(process.pid), started: look(Number(id)) }));
  worker.terminate();
});
`;

interface Seen {
  slice: number | null;
  niceness: number;
}

function atLeast(version: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = version.split(".").map(Number);
  return a > major || (a === major && b >= minor);
}

describe.runIf(existsSync("/proc/self/task"))("a shorter time slice", () => {
  it("is the calling thread's alone, and changes nothing else", () => {
    const printed = execFileSync("node", ["-e", SCRIPT, addonFile()], {
      encoding: "utf8",
    });
    const { before, shortened, after, started } = JSON.parse(printed) as {
      before: Seen;
      shortened: boolean;
      after: Seen;
      started: Seen;
    };
    expect(typeof shortened).toBe("boolean");
    expect([before, after, started].map(({ niceness }) => niceness)).toEqual([
      NICENESS,
      NICENESS,
      NICENESS,
    ]);
    expect(started.slice).toBe(before.slice);
    // Older kernels take no notice; some don't tell.
    if (before.slice === null || !atLeast(os.release(), 6, 12)) return;
    expect(shortened).toBe(true);
    expect(before.slice).toBeGreaterThan(100_000);
    expect(after.slice).toBe(100_000);
  });
});
