import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { OctavoError } from "../../src/core/errors.js";
import { ProgressBar } from "../../src/cli/format.js";
import { requestBody, sendRequest } from "../serve/client.js";
import type { RequestSettings } from "../serve/client.js";
import { HttpClient } from "../serve/http.js";
import { machineLines, measureMachine, type Machine } from "../machine.js";
import { summarize } from "../serve/statistics.js";
import { localVocabulary } from "../serve/vocabulary.js";
import { endOf, listeningAddress, START_TIMEOUT_MS } from "./server-process.js";
import { requireModel, type EngineBenchFlags } from "./flags.js";
import {
  memoryLines,
  memoryUnderLoad,
  processMemory,
  type MemoryPoint,
  type ProcessMemory,
} from "./memory.js";

export interface StartupFlags extends EngineBenchFlags {
  numIters: number;
  numItersWarmup: number;
  device: string;
  threads: number;
  /** Also resident memory after more requests, of a further start. */
  memory: boolean;
}

/** One start of a server process. Seconds after it was spawned. */
export interface StartupTrial {
  /** The address was printed: requests are taken. */
  listening: number;
  /** The first token of a first request of one token arrived. */
  firstToken: number;
  /** After that; null where /proc is missing. */
  memory: ProcessMemory | null;
}

export interface StartupResult {
  avg_startup_time: number;
  startup_times: number[];
  percentiles: Record<string, number>;
  bench: "startup";
  model: string;
  seed: number;
  machine: Machine;
  first_token_times: number[];
  median_first_token_time: number;
  trials: StartupTrial[];
  /** Empty without --memory. */
  memory: MemoryPoint[];
}

const PERCENTILES = [10, 25, 50, 75, 90, 99];

/**
 * `octavo bench startup`: a server process of its own for each trial, from spawning it to its first token. Files are in the
 * page cache after the first trial; a warm-up trial puts them there.
 * @param serveArguments flags of `octavo serve`
 */
export async function runStartupBench(
  flags: StartupFlags,
  serveArguments: readonly string[],
  print: (line: string) => void,
): Promise<StartupResult> {
  const model = requireModel(flags);
  const machine = measureMachine(flags.device, flags.threads);
  print(`Model: ${model}`);
  machineLines(machine, flags.seed).forEach(print);
  const total = flags.numItersWarmup + flags.numIters;
  const bar = new ProgressBar("Starts");
  const trials: StartupTrial[] = [];
  for (let i = 0; i < total; i++) {
    const trial = await withServer([model, ...serveArguments], firstToken);
    if (i >= flags.numItersWarmup) trials.push(trial);
    bar.update(i + 1, total);
  }
  const times = trials.map(({ listening }) => listening);
  const firstTokens = trials.map(({ firstToken }) => firstToken);
  const summary = summarize(times, PERCENTILES);
  const result: StartupResult = {
    avg_startup_time: summary.mean,
    startup_times: times,
    percentiles: Object.fromEntries(
      Array.from(summary.percentiles, ([p, value]) => [String(p), value]),
    ),
    bench: "startup",
    model,
    seed: flags.seed,
    machine,
    first_token_times: firstTokens,
    median_first_token_time: summarize(firstTokens, []).median,
    trials,
    memory: flags.memory
      ? await withServer([model, ...serveArguments], async (started) => {
          const { settings, maxModelLen } = await servedModel(started.http);
          const ids = await (await localVocabulary(model)).plainIds();
          return memoryUnderLoad(started, settings, { ids, maxModelLen });
        })
      : [],
  };
  print(`Avg startup time: ${summary.mean.toFixed(3)} seconds`);
  for (const [p, value] of summary.percentiles)
    print(`${p}% percentile startup time: ${value.toFixed(3)} seconds`);
  print(
    `Median time to the first token: ${result.median_first_token_time.toFixed(3)} seconds`,
  );
  const memory = trials.at(-1)?.memory;
  if (memory)
    print(`Resident after it: ${(memory.resident / 2 ** 20).toFixed(0)} MiB`);
  if (flags.memory) memoryLines(result.memory).forEach(print);
  return result;
}

/** A server that has just begun to listen. */
interface Started {
  pid: number | undefined;
  http: HttpClient;
  /** Seconds since it was spawned. */
  seconds: () => number;
}

/** What `use` makes of a server process, which ends after it. */
async function withServer<T>(
  args: readonly [string, ...string[]],
  use: (started: Started) => Promise<T>,
): Promise<T> {
  const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
  const spawned = performance.now();
  const child = spawn(
    process.execPath,
    [main, "serve", ...args, "--port", "0", "--log-level", "error"],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let http: HttpClient | undefined;
  try {
    http = new HttpClient(await listeningAddress(child), null);
    const seconds = (): number => (performance.now() - spawned) / 1000;
    return await use({ pid: child.pid, http, seconds });
  } finally {
    http?.close();
    await endOf(child);
  }
}

/** A prompt of one token id, which every model has, and one token of output. */
async function firstToken({
  pid,
  http,
  seconds,
}: Started): Promise<StartupTrial> {
  const listening = seconds();
  const { settings } = await servedModel(http);
  const sample = { prompt: Int32Array.of(1), promptLen: 1, outputLen: 1 };
  const body = requestBody(sample, 0, settings);
  const { error } = await sendRequest(http, body, 1, settings, 0);
  if (error !== null)
    throw new OctavoError("internal_error", `the first request: ${error}`);
  return { listening, firstToken: seconds(), memory: processMemory(pid) };
}

async function servedModel(
  http: HttpClient,
): Promise<{ settings: RequestSettings; maxModelLen: number }> {
  const { text } = await http.get("/v1/models");
  const { data } = JSON.parse(text) as {
    data: { id: string; max_model_len: number }[];
  };
  const settings = {
    backend: "openai" as const,
    endpoint: "/v1/completions",
    model: data[0]?.id ?? "",
    ignoreEos: true,
    temperature: 0,
    seed: 0,
    timeout: START_TIMEOUT_MS / 1000,
  };
  return { settings, maxModelLen: data[0]?.max_model_len ?? 0 };
}
