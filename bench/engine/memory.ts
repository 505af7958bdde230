import { readFileSync } from "node:fs";
import { OctavoError } from "../../src/core/errors.js";
import { Random } from "../random.js";
import { requestBody, sendRequest } from "../serve/client.js";
import type { RequestSettings } from "../serve/client.js";
import type { HttpClient } from "../serve/http.js";

/** Of a process, as /proc/PID/status has it. Bytes. */
export interface ProcessMemory {
  resident: number;
  /** Weights, KV pages that were written, heaps. */
  anonymous: number;
  /** Of mapped files: programs, and what is read in place from a checkpoint. */
  files: number;
  /** The most that was ever resident. */
  peak: number;
}

/** Resident memory at one moment of a server's life. */
export interface MemoryPoint extends ProcessMemory {
  after: string;
  /** Tokens that requests had brought by then, prompt and output: no more than that is in KV pages. */
  tokens: number;
}

/** What the server is asked between two looks at it. */
const LOADS = [
  { requests: 50, together: 10, promptLen: 16, outputLen: 8 },
  { requests: 3, together: 1, promptLen: 1000, outputLen: 8 },
  { requests: 1, together: 1, promptLen: 2000, outputLen: 8 },
] as const;

/** null where there is no /proc, or no such process. */
export function processMemory(pid: number | undefined): ProcessMemory | null {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return null;
  }
  const field = (name: string): number =>
    Number(
      new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? NaN,
    ) * 1024;
  return {
    resident: field("VmRSS"),
    anonymous: field("RssAnon"),
    files: field("RssFile"),
    peak: field("VmHWM"),
  };
}

/**
 * Resident memory of a server that has just loaded, then after 50 short requests, after three prompts of 1,000 tokens and
 * after one of 2,000 (or what the context holds). Errors: `invalid_config` without /proc, `internal_error` where a request fails.
 * @param settings of requests, with the model's name
 * @param ids prompts are drawn from them
 */
export async function memoryUnderLoad(
  { http, pid }: { http: HttpClient; pid: number | undefined },
  settings: RequestSettings,
  { ids, maxModelLen }: { ids: Int32Array; maxModelLen: number },
): Promise<MemoryPoint[]> {
  const random = new Random(settings.seed);
  const points: MemoryPoint[] = [];
  let tokens = 0;
  const look = (after: string): void => {
    const memory = processMemory(pid);
    if (!memory)
      throw new OctavoError(
        "invalid_config",
        "--memory: expected a system with /proc, got none",
        "memory",
      );
    points.push({ after, tokens, ...memory });
  };
  look("loading");
  for (const load of LOADS) {
    const { requests, together, outputLen } = load;
    const promptLen = Math.min(load.promptLen, maxModelLen - outputLen);
    if (promptLen < 1) continue;
    const ask = async (index: number): Promise<void> => {
      const prompt = Int32Array.from(
        { length: promptLen },
        () => ids[random.integer(0, ids.length - 1)] ?? 0,
      );
      const sample = { prompt, promptLen, outputLen };
      const body = requestBody(sample, index, settings);
      const { error } = await sendRequest(http, body, promptLen, settings, 0);
      if (error !== null)
        throw new OctavoError("internal_error", `request ${index}: ${error}`);
      tokens += promptLen + outputLen;
    };
    for (let first = 0; first < requests; first += together)
      await Promise.all(
        Array.from({ length: Math.min(together, requests - first) }, (_, i) =>
          ask(first + i),
        ),
      );
    look(`${requests} x ${promptLen} + ${outputLen} tokens`);
  }
  return points;
}

/** A table in MiB, a row for each moment. */
export function memoryLines(points: readonly MemoryPoint[]): string[] {
  const mib = (bytes: number): string =>
    (bytes / 2 ** 20).toFixed(0).padStart(9);
  const width = Math.max(...points.map(({ after }) => after.length)) + 2;
  return [
    `${"MiB after".padEnd(width)} resident     anon    files     peak   tokens so far`,
    ...points.map(
      ({ after, resident, anonymous, files, peak, tokens }) =>
        after.padEnd(width) +
        [resident, anonymous, files, peak].map(mib).join("") +
        String(tokens).padStart(16),
    ),
  ];
}
