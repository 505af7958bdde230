import {
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Epilogue, floatBits } from "../../src/program/program.js";
import type { DTypeName, Program } from "../../src/program/program.js";
import { loadAddon } from "../../src/runner/addon.js";
import type { RunnerSpec } from "../../src/runner/addon.js";
import {
  errorOf,
  logitsOf,
  open,
  ProgramBuilder,
  removeTemporaryFolders,
  specOf,
  step,
} from "./support.js";
import { temporaryFolder, tinyLlama } from "./support.js";
import type { TinyLlama } from "./support.js";

let model: TinyLlama;
beforeAll(() => {
  model = tinyLlama();
});
afterAll(removeTemporaryFolders);

function loadError(spec: RunnerSpec): { code: string; message: string } {
  const runner = new (loadAddon().Runner)(spec);
  const error = errorOf(() => runner.load());
  expect(runner.state).toBe("open");
  runner.close();
  return error;
}

describe("files", () => {
  const copy = (): string => {
    const file = path.join(temporaryFolder(), "copy.bin");
    writeFileSync(file, readFileSync(model.file));
    return file;
  };

  it.each(["reference", "cpu"])("may be unaligned, on %s", (device) => {
    const file = path.join(temporaryFolder(), "shifted.bin");
    writeFileSync(
      file,
      Buffer.concat([Buffer.alloc(3), readFileSync(model.file)]),
    );
    const shifted = structuredClone(model.program);
    const tensors = [
      ...shifted.dense.map((d) => d.source),
      ...shifted.linears.flatMap((l) =>
        l.parts.flatMap((p) => (p.bias ? [p.weight, p.bias] : [p.weight])),
      ),
    ];
    for (const tensor of tensors) tensor.offset += 3;
    const rows = [{ slot: 0, start: 0, ids: [3, 1, 4, 1, 5], blocks: [0] }];
    const logits = [
      open(specOf(model, { device })),
      open(specOf({ program: shifted, file }, { device })),
    ].map((opened) => {
      const result = logitsOf(opened, step(opened, 0, rows), 0);
      opened.runner.close();
      return result;
    });
    expect(logits[1]).toEqual(logits[0]);
  });

  it("that are missing, folders or empty are named with the reason", () => {
    expect(loadError(specOf(model, { files: ["/nonexistent/a.bin"] }))).toEqual(
      {
        code: "ERR_OCTAVO_FILE",
        message: "/nonexistent/a.bin: No such file or directory",
      },
    );
    const folder = temporaryFolder();
    expect(loadError(specOf(model, { files: [folder] })).message).toBe(
      `${folder}: expected a regular file`,
    );
    const loop = path.join(folder, "loop");
    symlinkSync(loop, loop);
    expect(loadError(specOf(model, { files: [loop] })).code).toBe(
      "ERR_OCTAVO_FILE",
    );
    const empty = path.join(folder, "empty");
    writeFileSync(empty, "");
    expect(loadError(specOf(model, { files: [empty] })).message).toMatch(
      /tensor embed expected bytes \[0, 2560\), got a file of 0$/,
    );
  });

  it("that are too short are refused before anything is loaded", () => {
    const file = copy();
    truncateSync(file, statSync(file).size - 1);
    const calls: number[] = [];
    const runner = new (loadAddon().Runner)(specOf(model, { files: [file] }));
    const error = errorOf(() => runner.load((done) => calls.push(done)));
    expect(error.code).toBe("ERR_OCTAVO_FILE");
    expect(error.message).toMatch(/copy\.bin: tensor lmHead\.0 expected bytes/);
    expect(calls).toEqual([]);
    // The same runner loads once the file is whole.
    writeFileSync(file, readFileSync(model.file));
    runner.load();
    runner.close();
  });

  it("with offsets beyond every file are refused without overflow", () => {
    for (const offset of [2 ** 53 - 1, 2 ** 40, statSync(model.file).size]) {
      const program = structuredClone(model.program);
      for (const dense of program.dense) dense.source.offset = offset;
      expect(loadError(specOf({ program, file: model.file })).code).toBe(
        "ERR_OCTAVO_FILE",
      );
    }
  });
});

it("memory that cannot be had is an error with the bytes asked for", () => {
  const sizes = { ...specOf(model).sizes, numBlocks: 2 ** 27 - 1 };
  const program = structuredClone(model.program);
  const kvLayers = program.kvLayers.map(() => ({
    numKvHeads: 2 ** 17,
    headDim: 8,
  }));
  // Only the sizes matter: a layer that no instruction uses is still taken.
  const spec = specOf(
    {
      program: { ...program, kvLayers: [...program.kvLayers, ...kvLayers] },
      file: model.file,
    },
    { sizes },
  );
  const error = loadError(spec);
  expect(error.code).toBe("ERR_OCTAVO_MEMORY");
  expect(error.message).toMatch(
    /^(KV cache of layer \d+: expected \d+ bytes|host memory)/,
  );
});

it("untouched KV pages cost nothing, and the sums of memory are those of the shapes", () => {
  const before = process.memoryUsage.rss();
  const sizes = { ...specOf(model).sizes, numBlocks: 1_000_000 };
  const runner = new (loadAddon().Runner)(specOf(model, { sizes }));
  const memory = runner.load();
  // 2 layers of [block][2][1 head][16][8] f32
  expect(memory.kvCache).toBe(2 * 1_000_000 * 2 * 16 * 8 * 4);
  expect(memory.weights).toBe(
    loadAddon().weightBytes("reference", model.program),
  );
  expect(memory.workspace).toBeGreaterThan(0);
  expect(process.memoryUsage.rss() - before).toBeLessThan(400e6);
  runner.close();
});

/** embed -> gather -> lm_head, all weights made up. */
function dummyProgram(dtype: DTypeName, width = 32): Program {
  const build = new ProgramBuilder(50);
  const x = build.buffer("x", "tokens", width);
  const last = build.buffer("last", "samples", width);
  const logits = build.buffer("logits", "samples", 50);
  build.op(
    "embed",
    x,
    build.dense("embed", [50, width], 1, 0, true),
    floatBits(1),
  );
  build.startHead();
  build.op("gatherRows", last, x);
  build.op(
    "linear",
    logits,
    0,
    last,
    build.linear("lmHead", width, [50]),
    Epilogue.none,
  );
  const program = build.finish(logits);
  for (const source of [
    ...program.dense.map((d) => d.source),
    ...program.linears.flatMap((l) => l.parts.map((p) => p.weight)),
  ]) {
    source.file = -1;
    source.dtype = dtype;
    source.dummy =
      source.name === "embed"
        ? { mean: 1, spread: 0 }
        : { mean: 0.5, spread: 0.25 };
  }
  return program;
}

describe("made-up weights", () => {
  const logits = (program: Program, seed: number, device = "reference") => {
    const opened = open(specOf({ program }, { dummySeed: seed, device }));
    const result = logitsOf(
      opened,
      step(opened, 0, [{ slot: 0, start: 0, ids: [7], blocks: [0] }]),
      0,
    );
    opened.runner.close();
    return result;
  };

  it.each(["f32", "f16", "bf16"] as const)(
    "%s: a function of seed and name, within mean +- spread",
    (dtype) => {
      const program = dummyProgram(dtype);
      const first = logits(program, 1);
      expect(logits(program, 1)).toEqual(first);
      expect(logits(program, 2)).not.toEqual(first);
      const renamed = structuredClone(program);
      for (const linear of renamed.linears)
        for (const part of linear.parts) part.weight.name = "other";
      expect(logits(renamed, 1)).not.toEqual(first);
      // The embedding is all ones: a logit is the sum of a row of 32 weights, each in [0.25, 0.75].
      for (const value of first) {
        expect(value).toBeGreaterThan(32 * 0.25);
        expect(value).toBeLessThan(32 * 0.75);
      }
      const mean = first.reduce((a, b) => a + b, 0) / first.length / 32;
      expect(mean).toBeCloseTo(0.5, 1);
      expect(new Set(first).size).toBeGreaterThan(25);
    },
  );

  it("is the same on every backend", () => {
    const program = dummyProgram("f16");
    logits(program, 5, "cpu").forEach((value, i) =>
      expect(value).toBeCloseTo(logits(program, 5)[i] ?? NaN, 3),
    );
  });
});

describe("devices", () => {
  it("are described", () => {
    for (const device of ["cpu", "reference"]) {
      const info = loadAddon().describeDevice(device, 0);
      expect(info.device).toBe(device);
      expect(info.description).not.toBe("");
      expect(info.availableMemory).toBeGreaterThan(1e6);
      expect(info.availableMemory).toBeLessThanOrEqual(info.totalMemory);
      expect(info.threads).toBeGreaterThanOrEqual(1);
      expect(info.processors).toBeGreaterThanOrEqual(info.threads);
      expect(info.processors).toBeLessThanOrEqual(availableParallelism());
      expect(["avx512vnni", "avx512", "avx2", "generic"]).toContain(info.isa);
    }
    expect(loadAddon().describeDevice("cpu", 3).threads).toBe(3);
  });

  it("that are unknown get an error naming the known ones", () => {
    for (const action of [
      () => loadAddon().describeDevice("tpu", 0),
      () => loadAddon().weightBytes("tpu", model.program),
      () => new (loadAddon().Runner)(specOf(model, { device: "tpu" })),
    ])
      expect(errorOf(action)).toEqual({
        code: "ERR_OCTAVO_ARGUMENT",
        message: 'device: expected one of cpu, reference, got "tpu"',
      });
    expect(errorOf(() => loadAddon().describeDevice("cpu", -1)).code).toBe(
      "ERR_OCTAVO_ARGUMENT",
    );
  });

  it("the addon's version is the package's", () => {
    const manifest = JSON.parse(
      readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
    ) as { version: string };
    expect(loadAddon().version).toBe(manifest.version);
  });
});
