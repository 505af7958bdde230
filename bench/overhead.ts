/**
 * What metrics and traces cost: CPU time per generated token of servers with neither, with metrics, and with both, under
 * the same load in turn.
 *
 *   npm run build:ts && node dist/bench/overhead.js MODEL [--rounds 15] [--streams 64] [--tokens 256] [-- SERVE FLAGS]
 *
 * The servers run side by side (an idle one costs nothing) and each round asks all of them, in rotating order, so that a
 * machine that gets slower or faster meanwhile does so for all. CPU time is Linux's own count, in nanoseconds, of all
 * threads of the server's process; the client's is not in it. A share is the median over rounds of the ratio of two
 * servers in the same round.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { cpus } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { VERSION } from "../src/cli/version.js";
import { percentile } from "./serve/statistics.js";

const MAIN = path.resolve(import.meta.dirname, "../src/cli/main.js");

interface Server {
  name: string;
  process: ChildProcess;
  url: string;
  /** Microseconds of CPU time per token, a round each. */
  costs: number[];
}

interface Load {
  streams: number;
  tokens: number;
}

/** Takes and drops what is posted to it, as a collector would. */
async function startSink(): Promise<http.Server> {
  const sink = http.createServer((request, response) => {
    request.resume();
    request.on("end", () => response.end("{}"));
  });
  await new Promise<void>((resolve) =>
    sink.listen(0, "127.0.0.1", () => resolve()),
  );
  return sink;
}

async function startServer(name: string, flags: string[]): Promise<Server> {
  const child = spawn(
    process.execPath,
    [MAIN, "serve", ...flags, "--port", "0", "--log-level", "warn"],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const url = await new Promise<string>((resolve, reject) => {
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      const match = /^Octavo listening on (\S+)$/m.exec(out);
      if (match?.[1] !== undefined) resolve(match[1]);
    });
    child.on("exit", () =>
      reject(new Error(`The server "${name}" ended:\n${errors}`)),
    );
  });
  return { name, process: child, url, costs: [] };
}

/** Nanoseconds that the threads of a process have run. */
function cpuTime(pid: number): number {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const file = `/proc/${pid}/task/${task}/schedstat`;
    sum += Number(readFileSync(file, "utf8").split(" ")[0]);
  }
  return sum;
}

/** All streams at once, to their ends. Throws when one of them made other than the wanted tokens. */
async function run(url: string, { streams, tokens }: Load): Promise<void> {
  const body = JSON.stringify({
    prompt: "Once upon a time",
    max_tokens: tokens,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  const answers = Array.from({ length: streams }, async () => {
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    const made = /"completion_tokens":(\d+)/.exec(await response.text())?.[1];
    if (Number(made) !== tokens)
      throw new Error(
        `${url}: expected ${tokens} tokens of each stream, got ${made ?? `status ${response.status}`}`,
      );
  });
  await Promise.all(answers);
}

async function measure(server: Server, load: Load): Promise<void> {
  const pid = server.process.pid ?? 0;
  const before = cpuTime(pid);
  await run(server.url, load);
  const nanoseconds = cpuTime(pid) - before;
  server.costs.push(nanoseconds / 1000 / (load.streams * load.tokens));
}

const median = (values: readonly number[], p = 50): number =>
  percentile(Float64Array.from(values).sort(), p);

function report(servers: readonly Server[]): void {
  const [base] = servers;
  if (base === undefined) return;
  console.log("\nserver              CPU us/token   over the first, quartiles");
  for (const { name, costs } of servers) {
    const ratios = costs.map((cost, i) => cost / (base.costs[i] ?? cost) - 1);
    const percent = (p: number): string =>
      `${(100 * median(ratios, p)).toFixed(2)} %`;
    console.log(
      `${name.padEnd(18)} ${median(costs).toFixed(3).padStart(13)}   ${percent(50).padStart(8)}   ${percent(25)} to ${percent(75)}`,
    );
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "15" },
      streams: { type: "string", default: "64" },
      tokens: { type: "string", default: "256" },
    },
  });
  if (positionals.length === 0 || process.platform !== "linux")
    throw new Error("Usage, on Linux: node dist/bench/overhead.js MODEL");
  const rounds = Number(values.rounds);
  const load = {
    streams: Number(values.streams),
    tokens: Number(values.tokens),
  };
  const sink = await startSink();
  const { port } = sink.address() as AddressInfo;
  const variants: [name: string, flags: string[]][] = [
    ["neither", ["--disable-log-stats"]],
    ["neither, again", ["--disable-log-stats"]],
    ["metrics", []],
    ["metrics, traces", ["--otlp-traces-endpoint", `http://127.0.0.1:${port}`]],
  ];
  const servers: Server[] = [];
  try {
    for (const [name, flags] of variants)
      servers.push(await startServer(name, [...positionals, ...flags]));
    console.log(
      `${positionals.join(" ")}: ${load.streams} streams of ${load.tokens} tokens, ${rounds} rounds. ${cpus()[0]?.model ?? "unknown processor"}, Node ${process.version}, Octavo ${VERSION}.`,
    );
    for (const { url } of servers)
      for (let i = 0; i < 2; i++) await run(url, load);
    for (let round = 0; round < rounds; round++) {
      const first = round % servers.length;
      const order = [...servers.slice(first), ...servers.slice(0, first)];
      for (const server of order) await measure(server, load);
      process.stdout.write(".");
    }
    report(servers);
  } finally {
    for (const server of servers) server.process.kill("SIGKILL");
    sink.closeAllConnections();
    sink.close();
  }
}

await main();
