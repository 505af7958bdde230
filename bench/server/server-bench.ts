import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { OctavoError } from "../../src/core/errors.js";
import { endOf, listeningAddress } from "../engine/server-process.js";
import { machineLines, measureMachine, type Machine } from "../machine.js";
import { readStreams } from "./streams.js";

export interface ServerBenchOptions {
  /** Directory with config.json and tokenizer.json: of the model only the tokenizer and the vocabulary matter. */
  model: string;
  backend: "openai" | "openai-chat";
  numStreams: number;
  outputLen: number;
  streamInterval: number;
  rounds: number;
  /** For the server's own process: --cpu-prof, say. */
  nodeArguments: readonly string[];
}

export interface ServerRound {
  events: number;
  tokens: number;
  seconds: number;
  /** Processor time of the whole server process, and of its main thread alone. Seconds. */
  cpuSeconds: number;
  mainCpuSeconds: number;
  eventsPerCpuSecond: number;
  tokensPerCpuSecond: number;
}

export interface ServerBenchResult {
  bench: "server";
  model: string;
  backend: string;
  machine: Machine;
  seed: number;
  num_streams: number;
  output_len: number;
  stream_interval: number;
  rounds: ServerRound[];
  /** Medians over the rounds. */
  events_per_cpu_second: number;
  tokens_per_cpu_second: number;
}

/** Shares of a core in /proc/PID/stat are counted in hundredths of a second (USER_HZ, fixed by the kernel's interface). */
const TICKS_PER_SECOND = 100;
const PROMPT = "Once upon a time";
/** A model without a template of its own will do. */
const TEMPLATE =
  "{% for message in messages %}{{ message.content }}{% endfor %}";

/**
 * What streaming costs the server beside the model: a server of its own with `--device null`, streams that all run at once,
 * and the processor time that it took by the kernel's books.
 */
export async function runServerBench(
  options: ServerBenchOptions,
  print: (line: string) => void,
): Promise<ServerBenchResult> {
  const { model, numStreams, outputLen, streamInterval, backend } = options;
  const machine = measureMachine("null", 0);
  machineLines(machine, 0).forEach(print);
  const child = startServer(options);
  try {
    const url = new URL(await listeningAddress(child));
    const pid = child.pid ?? 0;
    const chat = backend === "openai-chat";
    const load = (length: number) => ({
      host: url.hostname,
      port: Number(url.port),
      path: chat ? "/v1/chat/completions" : "/v1/completions",
      body: requestOf(chat, length),
      count: numStreams,
    });
    // Until the compiler has seen everything.
    await readStreams(load(Math.ceil(outputLen / 2)));
    print(
      `${numStreams} streams of ${outputLen} tokens, ${streamInterval === 1 ? "an event for each" : `${streamInterval} to an event`}, ${backend}`,
    );
    const rounds: ServerRound[] = [];
    for (let i = 0; i < options.rounds; i++) {
      const before = processorTime(pid);
      const { events, seconds } = await readStreams(load(outputLen));
      const after = processorTime(pid);
      const cpuSeconds = after.all - before.all;
      if (cpuSeconds <= 0)
        throw new OctavoError(
          "invalid_config",
          `--output-len: a round took less than ${1 / TICKS_PER_SECOND} s of processor time, too little to be measured; got ${numStreams} streams of ${outputLen} tokens`,
          "output-len",
        );
      const tokens = numStreams * outputLen;
      const round = {
        events,
        tokens,
        seconds,
        cpuSeconds,
        mainCpuSeconds: after.main - before.main,
        eventsPerCpuSecond: events / cpuSeconds,
        tokensPerCpuSecond: tokens / cpuSeconds,
      };
      rounds.push(round);
      print(roundLine(round));
    }
    const median = (of: (round: ServerRound) => number): number =>
      rounds.map(of).sort((a, b) => a - b)[Math.floor(rounds.length / 2)] ?? 0;
    const result: ServerBenchResult = {
      bench: "server",
      model,
      backend,
      machine,
      seed: 0,
      num_streams: numStreams,
      output_len: outputLen,
      stream_interval: streamInterval,
      rounds,
      events_per_cpu_second: median((round) => round.eventsPerCpuSecond),
      tokens_per_cpu_second: median((round) => round.tokensPerCpuSecond),
    };
    print(
      `Median: ${Math.round(result.events_per_cpu_second)} events and ${Math.round(result.tokens_per_cpu_second)} tokens per processor-second of the server`,
    );
    return result;
  } finally {
    await endOf(child);
  }
}

function startServer({
  model,
  numStreams,
  streamInterval,
  backend,
  nodeArguments,
}: ServerBenchOptions): ChildProcess {
  const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
  return spawn(
    process.execPath,
    [
      ...nodeArguments,
      main,
      ...["serve", model, "--device", "null", "--load-format", "dummy"],
      ...["--port", "0", "--max-num-seqs", String(numStreams), "--seed", "0"],
      ...["--log-level", "error"],
      ...(backend === "openai-chat" ? ["--chat-template", TEMPLATE] : []),
      ...(streamInterval > 1
        ? ["--stream-interval", String(streamInterval)]
        : []),
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
}

function requestOf(chat: boolean, outputLen: number): string {
  return JSON.stringify({
    ...(chat
      ? {
          messages: [{ role: "user", content: PROMPT }],
          max_completion_tokens: outputLen,
        }
      : { prompt: PROMPT, max_tokens: outputLen }),
    ignore_eos: true,
    stream: true,
  });
}

/** Seconds that a process and its first thread have run so far. Errors: `unsupported` without /proc. */
function processorTime(pid: number): { all: number; main: number } {
  try {
    return {
      all: ticksOf(`/proc/${pid}/stat`) / TICKS_PER_SECOND,
      main: ticksOf(`/proc/${pid}/task/${pid}/stat`) / TICKS_PER_SECOND,
    };
  } catch (error) {
    throw new OctavoError(
      "unsupported",
      `octavo bench server reads processor times from /proc: ${(error as Error).message}`,
    );
  }
}

/** utime + stime: fields 14 and 15; the name in field 2 may hold spaces. */
function ticksOf(file: string): number {
  const text = readFileSync(file, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

function roundLine(round: ServerRound): string {
  return `  ${round.events} events in ${round.seconds.toFixed(2)} s; processor ${round.cpuSeconds.toFixed(2)} s (main thread ${round.mainCpuSeconds.toFixed(2)} s): ${Math.round(round.eventsPerCpuSecond)} events/s, ${Math.round(round.tokensPerCpuSecond)} tokens/s`;
}
