/**
 * Tiles of linears and the matmul library through the whole engine, on the simulator. What is measured there is the
 * processor's time, good enough to see it measured, kept and found again.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import type { FromEngine } from "../../src/engine/messages.js";
import { prepareModel } from "../../src/engine/prepare-model.js";
import type { PreparedModel } from "../../src/engine/prepare-model.js";
import { startEngine } from "../../src/engine/start-engine.js";
import { addonFile, loadAddon } from "../../src/runner/addon.js";
import type { RunnerSpec, TileChoice } from "../../src/runner/addon.js";
import { errorOf, logitsOf, open, specOf, step } from "../native/support.js";
import { relativeRms } from "./golden-support.js";
import { hasShared, SHARED, STORIES } from "./server-process.js";

const LIBRARY = path.join(path.dirname(addonFile()), "liboctavo_cuda-sim.so");
const built = existsSync(LIBRARY);
const LONG = process.env["OCTAVO_LONG"] === "1";

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

if (!built || !hasShared)
  it.skip("linear tiles: needs npm run build:cuda-sim and ../shared", () =>
    undefined);

describe.runIf(built && hasShared)("linears on cuda-sim", () => {
  const addon = loadAddon();
  /** INT4 linears, and dense ones of a smaller model. */
  let int4: PreparedModel;
  let dense: PreparedModel;
  let folder: string;
  /** A stand-in for cuBLASLt. */
  let library: string;
  beforeAll(async () => {
    const prepare = (model: string) =>
      prepareModel({ model, modelFile: null, loadFormat: "auto" });
    int4 = await prepare(path.join(SHARED, "models/tiny-qwen2-awq"));
    dense = await prepare(STORIES);
    folder = mkdtempSync(path.join(os.tmpdir(), "octavo-linears-"));
    library = path.join(folder, "libcublasLt.so");
    const source = new URL("../cuda/fake/cublaslt.cc", import.meta.url);
    const flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-o", library];
    execFileSync(process.env["CXX"] ?? "c++", [
      ...flags,
      fileURLToPath(source),
    ]);
    vi.stubEnv("OCTAVO_CACHE_DIR", folder);
  });
  afterAll(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true, force: true });
  });

  const ROWS = 20;
  const ROWS_OF_LIBRARY = 264;

  function spec(
    model: PreparedModel,
    rows: number,
    overrides: Partial<RunnerSpec> = {},
  ): RunnerSpec {
    const blocks = Math.ceil(rows / 16);
    return specOf(
      { program: model.program },
      {
        device: "cuda-sim",
        files: model.files,
        kvCacheDtype: "f16",
        sizes: {
          maxNumTokens: rows,
          maxNumSeqs: 1,
          maxNumSamples: 2,
          maxModelLen: rows,
          maxBlocksPerSeq: blocks,
          numBlocks: blocks,
          logitsRows: 2,
        },
        ...overrides,
      },
    );
  }

  /** Logits of a prompt's last token, computed in chunks. */
  function logits(
    model: PreparedModel,
    chunks: number[],
    overrides: Partial<RunnerSpec> = {},
  ) {
    const rows = chunks.reduce((a, b) => a + b);
    const prompt = Array.from(
      { length: rows },
      (_, i) => (i * 37 + 11) % model.vocabSize,
    );
    const opened = open(spec(model, rows, overrides));
    try {
      const blocks = Array.from({ length: Math.ceil(rows / 16) }, (_, i) => i);
      let start = 0;
      let last: Float32Array = new Float32Array();
      for (const chunk of chunks) {
        const ids = prompt.slice(start, start + chunk);
        const arena = step(opened, 0, [{ slot: 0, start, ids, blocks }]);
        last = logitsOf(opened, arena, 0);
        start += chunk;
      }
      return last;
    } finally {
      opened.runner.close();
    }
  }

  /** Every shape by this tile, for as many rows as it takes. */
  function choicesOf(tile: string): TileChoice[] {
    const { sizes } = spec(int4, ROWS);
    const tuner = new addon.LinearTuner("cuda-sim", int4.program, sizes, false);
    const choices: TileChoice[] = [];
    for (const { name, maxRows } of addon.linearShapes(int4.program, sizes)) {
      const most = [maxRows, 16, 1].find(
        (r) => r <= maxRows && tuner.candidates(name, r).includes(tile),
      );
      if (most !== undefined)
        choices.push({ shape: name, mostRows: most, tile });
    }
    tuner.close();
    return choices;
  }

  it("gives the same logits whatever the tile", () => {
    // Each of them is held to the others' bits by test/cuda/linear_test.cc.
    const names = LONG
      ? addon.tileSet("cuda-sim").names
      : ["16x64", "32x128-split"];
    const byRule = logits(int4, [ROWS]);
    for (const tile of names) {
      const tiles = choicesOf(tile);
      if (tiles.length === 0) continue;
      expect(logits(int4, [ROWS], { tiles }), tile).toEqual(byRule);
      expect(logits(int4, [3, ROWS - 4, 1], { tiles }), tile).toEqual(byRule);
    }
    expect(choicesOf("16x64").length).toBeGreaterThan(3);
    expect(choicesOf("32x128-split").length).toBeGreaterThan(0);
  });

  it.each([
    [
      { shape: "1x1 f16" },
      'spec.tiles[0].shape: expected a shape of the program\'s linears, got "1x1 f16"',
    ],
    [
      { tile: "9x9" },
      'spec.tiles[0].tile: expected a tile of cuda-sim, got "9x9"',
    ],
    [
      { mostRows: 0 },
      "spec.tiles[0].mostRows: expected an integer in [1, 2147483647], got 0",
    ],
  ])("refuses what it does not have: %o", (wrong, message) => {
    const [good] = choicesOf("16x128") as [TileChoice];
    const make = () =>
      new addon.Runner(spec(int4, ROWS, { tiles: [{ ...good, ...wrong }] }));
    expect(errorOf(make)).toEqual({ code: "ERR_OCTAVO_ARGUMENT", message });
  });

  it("refuses tiles of a shape that are not in order, and tiles that do not fit", () => {
    const [good] = choicesOf("16x128") as [TileChoice];
    const twice = () =>
      new addon.Runner(spec(int4, ROWS, { tiles: [good, good] }));
    expect(errorOf(twice).message).toMatch(/^spec\.tiles\[1\]\.mostRows: /);
    const tiles = [{ ...good, tile: "cublaslt" }];
    expect(errorOf(() => open(spec(int4, ROWS, { tiles }))).message).toMatch(
      /tile cublaslt: expected one that computes 20 rows/,
    );
  });

  it("a tuner refuses what is no candidate, and everything once it is closed", () => {
    const { sizes } = spec(int4, ROWS, {});
    const tuner = new addon.LinearTuner("cuda-sim", int4.program, sizes, false);
    const shapes = addon.linearShapes(int4.program, sizes);
    const name = shapes[0]?.name ?? "";
    const code = (action: () => unknown) => errorOf(action).code;
    expect(code(() => tuner.time(name, 16, "128x128"))).toBe(
      "ERR_OCTAVO_ARGUMENT",
    );
    expect(code(() => tuner.time("1x1", 16, "16x64"))).toBe(
      "ERR_OCTAVO_ARGUMENT",
    );
    expect(code(() => tuner.candidates(name, ROWS + 1))).toBe(
      "ERR_OCTAVO_ARGUMENT",
    );
    expect(tuner.time(name, 16, "16x64")).toBeGreaterThan(0);
    tuner.close();
    tuner.close();
    expect(code(() => tuner.candidates(name, 16))).toBe("ERR_OCTAVO_STATE");
    expect(
      code(() => new addon.LinearTuner("cpu", int4.program, sizes, false)),
    ).toBe("ERR_OCTAVO_ARGUMENT");
  });

  /** What an engine says of itself while it starts. */
  async function started(config: Partial<EngineConfig>): Promise<string[]> {
    const said: string[] = [];
    const listen = (message: FromEngine): void => {
      if (message.type === "notice") said.push(message.text);
      if (message.type === "ready") {
        said.push(message.info.linearKernels ?? "nothing");
        const { info, memory } = message;
        expect(memory.workspace).toBeLessThanOrEqual(info.workspaceBytes);
      }
    };
    const { runner } = await startEngine(
      {
        ...ENGINE_DEFAULTS,
        model: STORIES,
        device: "cuda-sim",
        maxModelLen: 32,
        maxNumSeqs: 2,
        maxNumBatchedTokens: 16,
        numGpuBlocksOverride: 8,
        ...config,
      },
      listen,
    );
    runner.close();
    return said;
  }

  it("measures at the first start and finds it again at the second", async () => {
    vi.stubEnv("OCTAVO_SIM_MEASURABLE", "1");
    const [measured, planned] = await started({});
    expect(measured).toMatch(
      /^Measured the tiles of \d shapes .* in \d+\.\d s/,
    );
    expect(planned).toMatch(/^tiles of \d shapes to be measured at the start$/);
    let said = await started({});
    // The simulator is slow: what the first start had no time for is measured at the next ones.
    for (let i = 0; i < 20 && said.length > 1; i++) said = await started({});
    expect(said).toEqual([
      expect.stringMatching(/^tiles of \d shapes from .*\.json$/),
    ]);
    vi.stubEnv("OCTAVO_SIM_MEASURABLE", "");
    expect(await started({})).toEqual([
      "tiles by rule (a simulator tells no time)",
    ]);
  });

  it("computes long prompts by the matmul library without batch invariance, and only then", () => {
    vi.stubEnv("OCTAVO_CUBLASLT", library);
    const rows = ROWS_OF_LIBRARY;
    const tiles = addon
      .linearShapes(dense.program, spec(dense, rows).sizes)
      .filter(({ maxRows }) => maxRows === rows)
      .map(({ name }) => ({ shape: name, mostRows: 512, tile: "cublaslt" }));
    const byTiles = logits(dense, [rows]);
    const options = { tiles, useMatmulLibrary: true };
    const byLibrary = logits(dense, [rows], options);
    expect(byLibrary).not.toEqual(byTiles);
    expect(relativeRms(byLibrary, byTiles)).toBeLessThan(5e-3);
    // Few rows are never the library's.
    expect(logits(dense, [rows / 2, rows / 2], options)).toEqual(byTiles);
  });

  it("says which library it uses, or that there is none", async () => {
    const config = { batchInvariant: false };
    vi.stubEnv("OCTAVO_CUBLASLT", library);
    expect(await started(config)).toEqual([
      "tiles by rule (a simulator tells no time); cuBLASLt 13.2.3 for many rows",
    ]);
    vi.stubEnv("OCTAVO_CUBLASLT", path.join(folder, "missing.so"));
    expect((await started(config))[0]).toMatch(
      /^--no-batch-invariant: cuBLASLt is not used: OCTAVO_CUBLASLT: .*missing\.so/,
    );
    expect(await started({ ...config, device: "cpu" })).toEqual([
      "--no-batch-invariant has no effect on cpu: it has no matmul library, and its results never depend on the batch.",
      "nothing",
    ]);
  });
});
