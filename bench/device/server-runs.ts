import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { OctavoError } from "../../src/core/errors.js";
import { endOf, listeningAddress } from "../engine/server-process.js";
import type { LoadFlags } from "./shape-latency.js";
import { withShape, type ShapeName } from "./shapes.js";

const MAIN = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
/** Requests for each stream. */
const ROUNDS = 2;

/** The JSON of a bench that ran in a process of its own, beside what it was. */
export interface BenchRun {
  shape: ShapeName;
  batchSize: number;
  result: unknown;
}

/** `octavo bench throughput`: for each batch size as many sequences at a time, twice as many requests. */
export function measureThroughput(
  shape: ShapeName,
  flags: LoadFlags,
): Promise<BenchRun[]> {
  return withShape(shape, (model) =>
    inTurn(flags.batchSizes, async (batchSize) => {
      const result = await benchJson((file) => [
        ...["throughput", "--model", model, ...engineFlags(flags, batchSize)],
        ...["--input-len", String(flags.inputLen)],
        ...["--output-len", String(flags.outputLen)],
        ...["--num-prompts", String(ROUNDS * batchSize)],
        ...["--output-json", file],
      ]);
      return { shape, batchSize, result };
    }),
  );
}

/** `octavo bench serve` against one `octavo serve`, a closed loop of as many streams as each batch size. */
export function measureServing(
  shape: ShapeName,
  flags: LoadFlags,
): Promise<BenchRun[]> {
  return withShape(shape, async (model) => {
    const most = Math.max(...flags.batchSizes);
    const server = spawn(
      process.execPath,
      [MAIN, "serve", model, ...engineFlags(flags, most), "--port", "0"],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    try {
      const url = await listeningAddress(server);
      return await inTurn(flags.batchSizes, async (batchSize) => {
        const result = await benchJson((file) => [
          ...["serve", "--base-url", url, "--dataset-name", "random"],
          ...["--random-input-len", String(flags.inputLen)],
          ...["--random-output-len", String(flags.outputLen)],
          ...["--num-prompts", String(ROUNDS * batchSize)],
          ...["--max-concurrency", String(batchSize), "--ignore-eos"],
          ...["--result-dir", path.dirname(file)],
          ...["--result-filename", path.basename(file), "--save-result"],
        ]);
        return { shape, batchSize, result };
      });
    } finally {
      await endOf(server);
    }
  });
}

/** `octavo bench startup`: from spawning `octavo serve` to its first token. */
export function measureStartup(
  shape: ShapeName,
  flags: LoadFlags,
): Promise<BenchRun> {
  return withShape(shape, async (model) => {
    const result = await benchJson((file) => [
      ...["startup", "--model", model, "--num-iters", "1"],
      ...["--num-iters-warmup", "0", "--output-json", file],
      ...engineFlags(flags, Math.max(...flags.batchSizes)),
    ]);
    return { shape, batchSize: 1, result };
  });
}

function engineFlags(
  { device, inputLen, outputLen }: LoadFlags,
  maxNumSeqs: number,
): string[] {
  return [
    ...["--device", device, "--load-format", "dummy"],
    ...["--max-num-seqs", String(maxNumSeqs)],
    // One more for a token that begins the text.
    ...["--max-model-len", String(inputLen + outputLen + 1)],
  ];
}

async function inTurn<T, R>(
  items: readonly T[],
  body: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await body(item));
  return results;
}

/** Runs `octavo bench` and reads the file that it wrote. Throws device_error with what it said where it failed. */
async function benchJson(
  argumentsFor: (file: string) => string[],
): Promise<unknown> {
  const directory = mkdtempSync(path.join(tmpdir(), "octavo-bench-"));
  const file = path.join(directory, "result.json");
  try {
    const args = argumentsFor(file);
    const { code, output } = await runOctavo(["bench", ...args]);
    if (code !== 0 || readdirSync(directory).length === 0)
      throw new OctavoError(
        "device_error",
        `octavo bench ${args.join(" ")} ended with ${code}:\n${output.trim()}`,
      );
    return JSON.parse(readFileSync(file, "utf8")) as unknown;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function runOctavo(
  args: string[],
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const add = (bytes: Buffer): void => void (output += bytes.toString());
    child.stdout.on("data", add);
    child.stderr.on("data", add);
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}
