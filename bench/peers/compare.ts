import { execFile } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { ProgressBar } from "../../src/cli/format.js";
import { OctavoError } from "../../src/core/errors.js";
import { findShape } from "../kernels/shapes.js";
import { machineLines, measureMachine, type Machine } from "../machine.js";
import { Random } from "../random.js";
import { percentile } from "../serve/statistics.js";
import { weightBytesPerToken, writeCheckpointPair } from "./checkpoint-pair.js";
import type { CheckpointPair } from "./checkpoint-pair.js";
import { EngineProcess } from "./engine-process.js";
import type { Job, JobResult } from "./protocol.js";
import { WORKLOADS, type Workload } from "./workloads.js";

export interface PeerFlags {
  model: string;
  threads: number;
  seed: number;
  numIters: number;
  /** Keeps the checkpoints: written once, found again. */
  checkpointDir?: string;
  /** node-llama-cpp's folder; installed into a temporary one without it. */
  peerPackage?: string;
  workloads?: string[];
  octavoOptions: Record<string, unknown>;
  outputJson?: string;
}

/** Of one workload, tokens per second; medians of the alternating runs. */
export interface WorkloadResult {
  workload: string;
  octavo: number;
  peer: number;
  ratio: number;
  octavoRuns: number[];
  peerRuns: number[];
  /** Of the first run: leading greedy tokens that both made, of all that were made. */
  equalTokens: number;
  tokens: number;
  /** Where a token reads all weights: the share of the read bandwidth that this rate needs. */
  octavoBandwidthShare: number | null;
  peerBandwidthShare: number | null;
}

export interface PeerResult {
  bench: "peers";
  shape: string;
  seed: number;
  machine: Machine;
  names: { octavo: string; peer: string };
  results: WorkloadResult[];
  /** After the last run. */
  residentBytes: { octavo: number; peer: number };
}

/** `octavo bench peers`: Octavo and llama.cpp on the same weights, in turn. */
export async function runPeerBench(
  flags: PeerFlags,
  print: (line: string) => void,
): Promise<PeerResult> {
  const shape = findShape(flags.model);
  const workloads = chosen(flags.workloads);
  const machine = measureMachine("cpu", flags.threads);
  machineLines(machine, flags.seed).forEach(print);
  const temporary = mkdtempSync(path.join(tmpdir(), "octavo-peers-"));
  const engines: EngineProcess[] = [];
  try {
    const folder =
      flags.peerPackage ?? (await installPeer(path.join(temporary, "npm")));
    const pair = checkpoints(flags, path.join(temporary, "checkpoints"));
    const settings = {
      threads: machine.threads,
      maxStreams: Math.max(...workloads.map(({ streams }) => streams)),
      maxTokens: Math.max(
        ...workloads.map(({ inputLen, outputLen }) => inputLen + outputLen),
      ),
    };
    const octavo = await EngineProcess.start("./octavo-peer.js", {
      ...settings,
      model: pair.awq,
      options: flags.octavoOptions,
    });
    engines.push(octavo);
    const peer = await EngineProcess.start("./llama-cpp-peer.js", {
      ...settings,
      model: pair.gguf,
      options: { package: folder },
    });
    engines.push(peer);
    print(
      `${octavo.name} and ${peer.name} on ${shape.name}, ${machine.threads} threads; medians of ${flags.numIters} runs in turn, after one to warm up`,
    );
    const bytes = weightBytesPerToken(shape);
    const read = machine.ceilings.readBytesPerSecond;
    const residentBytes = { octavo: 0, peer: 0 };
    const results: WorkloadResult[] = [];
    for (const workload of workloads) {
      const runs = await alternate(
        workload,
        flags,
        shape.vocabSize,
        octavo,
        peer,
      );
      residentBytes.octavo = runs.octavo.at(-1)?.residentBytes ?? 0;
      residentBytes.peer = runs.peer.at(-1)?.residentBytes ?? 0;
      const result = summarizeRuns(workload, runs);
      if (workload.readsAllWeightsPerToken) {
        result.octavoBandwidthShare = (result.octavo * bytes.awq) / read;
        result.peerBandwidthShare = (result.peer * bytes.gguf) / read;
      }
      results.push(result);
      print(line(result));
    }
    print(
      `Resident: octavo ${mebibytes(residentBytes.octavo)}, peer ${mebibytes(residentBytes.peer)}`,
    );
    return {
      bench: "peers",
      shape: shape.name,
      seed: flags.seed,
      machine,
      names: { octavo: octavo.name, peer: peer.name },
      results,
      residentBytes,
    };
  } finally {
    for (const engine of engines) engine.close();
    rmSync(temporary, { recursive: true, force: true });
  }
}

interface Runs {
  octavo: JobResult[];
  peer: JobResult[];
}

async function alternate(
  workload: Workload,
  { numIters, seed }: PeerFlags,
  vocabSize: number,
  octavo: EngineProcess,
  peer: EngineProcess,
): Promise<Runs> {
  const random = new Random(
    seed,
    workload.streams * 65_536 + workload.inputLen,
  );
  const bar = new ProgressBar(workload.name);
  const runs: Runs = { octavo: [], peer: [] };
  for (let i = 0; i <= numIters; i++) {
    // Another prompt each time: nothing is to be found in a cache.
    const job: Job = {
      prompts: Array.from({ length: workload.streams }, () =>
        Array.from({ length: workload.inputLen }, () =>
          random.integer(0, vocabSize - 1),
        ),
      ),
      outputLen: workload.outputLen,
    };
    const octavoResult = await octavo.run(job);
    const peerResult = await peer.run(job);
    bar.update(i + 1, numIters + 1);
    if (i === 0) continue;
    runs.octavo.push(octavoResult);
    runs.peer.push(peerResult);
  }
  return runs;
}

function summarizeRuns(workload: Workload, runs: Runs): WorkloadResult {
  const octavoRuns = runs.octavo.map((run) => workload.rate(run));
  const peerRuns = runs.peer.map((run) => workload.rate(run));
  const octavo = median(octavoRuns);
  const peer = median(peerRuns);
  const [ours, theirs] = [runs.octavo[0], runs.peer[0]];
  return {
    workload: workload.name,
    octavo,
    peer,
    ratio: octavo / peer,
    octavoRuns,
    peerRuns,
    equalTokens: (ours?.tokens ?? []).reduce(
      (sum, tokens, i) => sum + equalPrefix(tokens, theirs?.tokens[i] ?? []),
      0,
    ),
    tokens: (ours?.tokens ?? []).flat().length,
    octavoBandwidthShare: null,
    peerBandwidthShare: null,
  };
}

function equalPrefix(a: readonly number[], b: readonly number[]): number {
  const first = a.findIndex((token, i) => token !== b[i]);
  return first < 0 ? a.length : first;
}

function median(values: readonly number[]): number {
  return percentile(Float64Array.from(values).sort(), 50);
}

function line(result: WorkloadResult): string {
  const share = (value: number | null): string =>
    value === null ? "" : ` (${(100 * value).toFixed(0)} % of the bandwidth)`;
  return `${result.workload.padEnd(30)} octavo ${result.octavo.toFixed(1)} tok/s${share(result.octavoBandwidthShare)}, peer ${result.peer.toFixed(1)} tok/s${share(result.peerBandwidthShare)}: ${result.ratio.toFixed(2)} x   [same tokens at the start: ${result.equalTokens} of ${result.tokens}]`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

function chosen(names: readonly string[] | undefined): readonly Workload[] {
  if (!names) return WORKLOADS;
  return names.map((name) => {
    const found = WORKLOADS.find((workload) => workload.name === name);
    if (found) return found;
    throw new OctavoError(
      "invalid_config",
      `--workloads: expected some of ${WORKLOADS.map((workload) => workload.name).join(", ")}, got "${name}"`,
      "workloads",
    );
  });
}

/** Both files, found where an earlier run with the same shape and seed left them. */
function checkpoints(flags: PeerFlags, temporary: string): CheckpointPair {
  const shape = findShape(flags.model);
  const directory = flags.checkpointDir
    ? path.join(flags.checkpointDir, `${shape.name}-${flags.seed}`)
    : temporary;
  const complete = path.join(directory, "complete");
  if (existsSync(complete))
    return {
      awq: path.join(directory, "awq"),
      gguf: path.join(directory, "model.gguf"),
    };
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const bar = new ProgressBar("Writing checkpoints");
  const pair = writeCheckpointPair(
    shape,
    flags.seed,
    directory,
    (done, total) => bar.update(done, total),
  );
  writeFileSync(complete, "");
  return pair;
}

/** The package with its engine, built: it is only ever a peer, so it goes where it can be thrown away. */
async function installPeer(folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "package.json"), "{}");
  process.stderr.write("Installing node-llama-cpp into a temporary folder\n");
  try {
    await promisify(execFile)(
      "npm",
      [
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "node-llama-cpp",
      ],
      { cwd: folder },
    );
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `npm could not install node-llama-cpp (give a folder that has it by --peer-package): ${(error as Error).message}`,
      "peer-package",
    );
  }
  return path.join(folder, "node_modules", "node-llama-cpp");
}
