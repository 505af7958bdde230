import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { serialize, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, it } from "vitest";
import { addonFile, loadAddon } from "../../src/runner/addon.js";
import type { RunnerSpec } from "../../src/runner/addon.js";
import {
  open,
  pack,
  removeTemporaryFolders,
  specOf,
  step,
  temporaryFolder,
  tinyLlama,
} from "./support.js";
import type { Counts } from "./support.js";

let spec: RunnerSpec;
/** A packed arena: 60 tokens of prompt, the last one sampled. */
let packed: { bytes: Uint8Array; counts: Counts; sampled: number };

beforeAll(() => {
  spec = specOf(tinyLlama(), { device: "cpu", keepLogits: false });
  const opened = open(spec);
  const rows = [
    {
      slot: 0,
      start: 0,
      ids: Array.from({ length: 60 }, (_, i) => i % 40),
      blocks: [0, 1, 2, 3],
    },
  ];
  const counts = pack(opened, opened.arenas[0], rows);
  const bytes = new Uint8Array(opened.runner.arena(0)).slice();
  packed = {
    bytes,
    counts,
    sampled: step(opened, 0, rows).sampledIds[0] ?? -1,
  };
  opened.runner.close();
});
afterAll(removeTemporaryFolders);

/** Runs steps until told to stop, or for ever; never closes its runner. */
const BUSY_WORKER = `
const { parentPort, workerData } = require("node:worker_threads");
const { addon, spec, packed, steps } = workerData;
const runner = new (require(addon).Runner)(spec);
runner.load();
for (const slot of [0, 1]) new Uint8Array(runner.arena(slot)).set(packed.bytes);
const { numTokens, numSeqs, numSamples } = packed.counts;
runner.launch(0, numTokens, numSeqs, numSamples, false);
for (let i = 1; i < steps; i++) {
  runner.launch(i & 1, numTokens, numSeqs, numSamples, false);
  runner.collect((i - 1) & 1);
  if (i === 3) parentPort.postMessage("busy");
}
runner.collect((steps - 1) & 1);
const { offset } = runner.layout.sampledIds;
parentPort.postMessage(new Int32Array(runner.arena((steps - 1) & 1), offset, 1)[0]);
`;

const startWorker = (steps: number) =>
  new Worker(BUSY_WORKER, {
    eval: true,
    workerData: { addon: addonFile(), spec, packed, steps },
  });

const message = (worker: Worker) =>
  new Promise<unknown>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });

it("terminating a worker in the middle of its steps is safe", async () => {
  for (let i = 0; i < 4; i++) {
    const worker = startWorker(1e9);
    expect(await message(worker)).toBe("busy");
    expect(await worker.terminate()).toBe(1);
  }
});

it("workers run their own runners at once and leave them unclosed", async () => {
  const workers = Array.from({ length: 3 }, () => startWorker(8));
  const results = workers.map(
    (worker) =>
      new Promise((resolve, reject) => {
        const seen: unknown[] = [];
        worker.on("message", (m) => seen.push(m));
        worker.on("error", reject);
        worker.on("exit", () => resolve(seen));
      }),
  );
  for (const seen of await Promise.all(results))
    expect(seen).toEqual(["busy", packed.sampled]);
});

it.each([
  ["exits with a launch in flight", "launch(0, false);"],
  [
    "exits with a deferred launch in flight",
    "launch(0, true); launch(1, false);",
  ],
  [
    "exits with a launch left to collect",
    "launch(0, false, true); launch(1, false);",
  ],
  ["exits from inside load", "new Runner(spec).load(() => process.exit(7));"],
  ["exits after close", "launch(0, false); runner.close();"],
])("a process that %s", (_, code) => {
  const file = path.join(temporaryFolder(), "input.bin");
  writeFileSync(file, serialize({ spec, packed, addon: addonFile() }));
  const script = `
    const input = require("node:fs").readFileSync(process.argv[1]);
    const { spec, packed, addon } = require("node:v8").deserialize(input);
    const { Runner } = require(addon);
    const runner = new Runner(spec);
    runner.load();
    for (const slot of [0, 1]) new Uint8Array(runner.arena(slot)).set(packed.bytes);
    const launch = (slot, defer, onCollect) => runner.launch(slot, packed.counts.numTokens, 1, 1, defer, onCollect);
    ${code}
    process.exit(7);`;
  let status: unknown = 0;
  try {
    execFileSync(process.execPath, ["-e", script, file], {
      stdio: "pipe",
      timeout: 20_000,
    });
  } catch (error) {
    ({ status } = error as { status: unknown });
    if (status !== 7) throw error;
  }
  expect(status).toBe(7);
});

it("collecting garbage: an unclosed runner goes, an arena that outlives it stays readable", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const registry: string[] = [];
  const watch = new FinalizationRegistry<string>((name) => registry.push(name));
  const arenas: ArrayBuffer[] = [];
  const abandon = (keepArena: boolean) => {
    const opened = open(spec);
    const counts = pack(opened, opened.arenas[0], [
      { slot: 0, start: 0, ids: [1, 2], blocks: [0] },
    ]);
    opened.runner.launch(
      0,
      counts.numTokens,
      counts.numSeqs,
      counts.numSamples,
      false,
    );
    if (keepArena) arenas.push(opened.runner.arena(0));
    watch.register(opened.runner, "gone");
  };
  for (let i = 0; i < 6; i++) abandon(i % 2 === 0);
  for (let i = 0; i < 50 && registry.length < 6; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(registry.length).toBe(6);
  for (const arena of arenas) {
    const words = new Int32Array(arena);
    expect(words[0]).toBe(1);
    words.fill(-1);
  }
});

// AddressSanitizer keeps freed memory for a while, so that growth says nothing there.
it.skipIf(process.env["LD_PRELOAD"]?.includes("asan"))(
  "loading and closing over and over does not grow",
  () => {
    const cycle = () => {
      const runner = new (loadAddon().Runner)({
        ...spec,
        sizes: { ...spec.sizes, maxNumTokens: 4096 },
      });
      runner.load();
      new Uint8Array(runner.arena(0)).fill(0);
      new Uint8Array(runner.arena(1)).fill(0);
      runner.close();
    };
    for (let i = 0; i < 10; i++) cycle();
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 60; i++) cycle();
    expect(process.memoryUsage.rss() - before).toBeLessThan(30e6);
  },
);
