import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Epilogue, floatBits } from "../../src/program/program.js";
import type { TensorSource } from "../../src/program/program.js";
import { loadAddon } from "../../src/runner/addon.js";
import type { RunnerMemory, RunnerSizes } from "../../src/runner/addon.js";
import { viewArena } from "../../src/runner/step-arena.js";
import {
  ProgramBuilder,
  removeTemporaryFolders,
  SIZES,
  specOf,
  step,
  temporaryFolder,
} from "./support.js";
import type { Open } from "./support.js";

const MIB = 2 ** 20;
const WIDTH = 1024;
const VOCAB = 8192;
const EMBEDDING = VOCAB * WIDTH * 4;
/** What garbage collection and other threads of this process may add meanwhile. */
const NOISE = 12 * MIB;
/** A row is 4 KiB: ids this far apart lie in different 64 KiB, which the system brings in together. */
const FAR_APART = 16;

afterAll(removeTemporaryFolders);

/** Bytes of this process, by a name in /proc/self/status. */
function resident(name: "RssAnon" | "RssFile" | "VmHWM" | "VmRSS"): number {
  const status = readFileSync("/proc/self/status", "utf8");
  return (
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1024
  );
}

/** Weights that are a hole in a file: resident once they are read like others, with no garbage of this process's own. */
class HollowBuilder extends ProgramBuilder {
  bytes = 0;

  override tensor(name: string, shape: number[]): TensorSource {
    const offset = this.bytes;
    this.bytes += 4 * shape.reduce((a, b) => a * b, 1);
    return { name, file: 0, offset, dtype: "f32", shape };
  }
}

/** embed [32 MiB] -> 8 linears [4 MiB each] -> lm_head [32 MiB], last in the program as in a checkpoint. */
function openStack(
  sizes: RunnerSizes = SIZES,
): Open & { memory: RunnerMemory } {
  const build = new HollowBuilder(VOCAB);
  let x = build.buffer("x0", "tokens", WIDTH);
  const table = build.dense("embed", [VOCAB, WIDTH], 1, 0, true);
  build.op("embed", x, table, floatBits(1));
  for (let i = 1; i <= 8; i++) {
    const out = build.buffer(`x${i}`, "tokens", WIDTH);
    const linear = build.linear(`linear.${i}`, WIDTH, [WIDTH]);
    build.op("linear", out, 0, x, linear, Epilogue.none);
    x = out;
  }
  const last = build.buffer("last", "samples", WIDTH);
  const logits = build.buffer("logits", "samples", VOCAB);
  build.startHead();
  build.op("gatherRows", last, x);
  const head = build.linear("lmHead", WIDTH, [VOCAB]);
  build.op("linear", logits, 0, last, head, Epilogue.none);
  const program = build.finish(logits);
  const file = path.join(temporaryFolder(), "weights.bin");
  writeFileSync(file, "");
  truncateSync(file, build.bytes);
  const spec = specOf(
    { program, file },
    { device: "cpu", keepLogits: false, sizes },
  );
  const runner = new (loadAddon().Runner)(spec);
  const memory = runner.load();
  const arena = (slot: 0 | 1) => viewArena(runner.arena(slot), runner.layout);
  return { runner, spec, memory, arenas: [arena(0), arena(1)] };
}

describe.runIf(existsSync("/proc/self/clear_refs"))("resident memory", () => {
  let opened: ReturnType<typeof openStack> | undefined;
  afterAll(() => opened?.runner.close());

  it("after a load is the repacked weights and the workspace: no page of the file, and little more at the peak", () => {
    loadAddon();
    writeFileSync("/proc/self/clear_refs", "5"); // VmHWM starts again
    const [all, anonymous, file] = [
      resident("VmRSS"),
      resident("RssAnon"),
      resident("RssFile"),
    ];
    opened = openStack();
    const { weights, workspace, kvCache } = opened.memory;
    const expected = weights - EMBEDDING + workspace + kvCache;
    expect(resident("RssFile") - file).toBeLessThan(NOISE / 2);
    expect(resident("RssAnon") - anonymous).toBeLessThan(expected + NOISE);
    expect(resident("VmHWM") - all).toBeLessThan(expected + NOISE);
  });

  it("does not grow with the embedding's rows that were read", () => {
    const loaded = opened;
    if (!loaded) throw new Error("the first test did not load");
    const before = resident("RssFile");
    let most = 0;
    for (let row = 0; row < VOCAB / FAR_APART; row += SIZES.maxNumTokens) {
      const ids = Array.from(
        { length: SIZES.maxNumTokens },
        (_, i) => (row + i) * FAR_APART,
      );
      step(loaded, 0, [{ slot: 0, start: 0, ids, blocks: [0, 1, 2, 3] }]);
      most = Math.max(most, resident("RssFile") - before);
    }
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(EMBEDDING / 2);
  });

  it("does not rise by the embedding while one step reads all of it", () => {
    const rows = VOCAB / FAR_APART;
    const wide = openStack({
      ...SIZES,
      maxNumTokens: rows,
      maxModelLen: rows,
      maxBlocksPerSeq: rows / 16,
      numBlocks: rows / 16,
    });
    const ids = Array.from({ length: rows }, (_, row) => row * FAR_APART);
    const blocks = Array.from({ length: rows / 16 }, (_, block) => block);
    const look = () => {
      writeFileSync("/proc/self/clear_refs", "5");
      const before = resident("VmRSS");
      step(wide, 0, [{ slot: 0, start: 0, ids, blocks }]);
      return resident("VmHWM") - before;
    };
    look(); // the first one touches the workspace
    expect(look()).toBeLessThan((EMBEDDING * 3) / 4);
    wide.runner.close();
  });
});
