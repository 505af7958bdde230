import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  hasShared,
  startServer,
  STORIES,
  type ServerProcess,
} from "./server-process.js";

const LONG = process.env["OCTAVO_LONG"] === "1";
const SECONDS = 20;
/** Of one core. */
const MOST = 0.01;
/** In which /proc counts processor time, on every Linux: sysconf(_SC_CLK_TCK). */
const TICKS_PER_SECOND = 100;

/** Seconds of processor time that all threads of a process have taken, the kernel's work for them included. */
function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is the program's name in parentheses; user and system time are the fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

describe.runIf(LONG && hasShared && existsSync("/proc/self/stat"))(
  "a loaded server without requests",
  () => {
    let server: ServerProcess;
    beforeAll(async () => {
      server = await startServer([
        STORIES,
        "--device",
        "cpu",
        "--threads",
        "4",
      ]);
    }, 60_000);
    afterAll(() => server.stop());

    it(
      `takes less than ${MOST * 100} % of a core`,
      async () => {
        const pid = server.process.pid ?? 0;
        const response = await fetch(`${server.url}/v1/completions`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ prompt: "Once upon a time", max_tokens: 200 }),
        });
        expect(response.status).toBe(200);
        await response.json();
        expect(processorSeconds(pid)).toBeGreaterThan(0);
        await sleep(2000); // compilers and collectors of garbage end what the load began
        const before = processorSeconds(pid);
        await sleep(SECONDS * 1000);
        expect(processorSeconds(pid) - before).toBeLessThan(MOST * SECONDS);
      },
      (SECONDS + 60) * 1000,
    );
  },
);
