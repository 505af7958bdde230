/** llama.cpp through node-llama-cpp, in a process of its own: token ids in and out, no text. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { failToStart, peerSettings, serveJobs } from "./protocol.js";
import type { Job, JobResult } from "./protocol.js";

/** The part of node-llama-cpp that is used here: it is no dependency, so its own types are not at hand. */
interface NodeLlamaCpp {
  getLlama(options: Record<string, unknown>): Promise<{
    loadModel(options: Record<string, unknown>): Promise<{
      createContext(options: Record<string, unknown>): Promise<{
        getSequence(): Stream;
      }>;
    }>;
  }>;
}

interface Stream {
  clearHistory(): Promise<void>;
  evaluate(
    tokens: number[],
    options: Record<string, unknown>,
  ): AsyncGenerator<number, void>;
}

async function main(): Promise<void> {
  const { model, threads, maxStreams, maxTokens, options } = peerSettings();
  const folder = String(options["package"]);
  const { version } = JSON.parse(
    readFileSync(path.join(folder, "package.json"), "utf8"),
  ) as { version: string };
  const peer = (await import(
    pathToFileURL(path.join(folder, "dist", "index.js")).href
  )) as NodeLlamaCpp;
  const llama = await peer.getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "error",
    maxThreads: threads,
  });
  const loaded = await llama.loadModel({ modelPath: model, gpuLayers: 0 });
  const context = await loaded.createContext({
    sequences: maxStreams,
    contextSize: maxTokens,
    batchSize: 512,
    threads,
    flashAttention: options["flashAttention"] ?? "auto",
  });
  const streams = Array.from({ length: maxStreams }, () =>
    context.getSequence(),
  );
  serveJobs(`node-llama-cpp ${version}`, (job) => run(streams, job));
}

async function run(
  streams: Stream[],
  { prompts, outputLen }: Job,
): Promise<Omit<JobResult, "residentBytes">> {
  const used = streams.slice(0, prompts.length);
  for (const stream of used) await stream.clearHistory();
  const firstToken: number[] = [];
  const lastToken: number[] = [];
  const tokens: number[][] = prompts.map(() => []);
  const start = performance.now();
  await Promise.all(
    used.map(async (stream, index) => {
      const output = tokens[index] ?? [];
      const options = { temperature: 0, yieldEogToken: true };
      for await (const token of stream.evaluate(
        prompts[index] ?? [],
        options,
      )) {
        const seconds = (performance.now() - start) / 1000;
        if (output.length === 0) firstToken[index] = seconds;
        lastToken[index] = seconds;
        output.push(token);
        if (output.length === outputLen) break;
      }
    }),
  );
  return { firstToken, lastToken, tokens };
}

main().catch(failToStart);
