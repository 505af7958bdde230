import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LinearKernels } from "../../src/engine/linear-kernels.js";
import { cacheDirectory } from "../../src/engine/tile-cache.js";
import {
  openRanges,
  rowRanges,
  tileChoices,
  tuneTiles,
} from "../../src/engine/tune-tiles.js";
import type { TileTable } from "../../src/engine/tune-tiles.js";
import type { Program } from "../../src/program/program.js";
import type {
  DeviceInfo,
  LinearShape,
  RunnerSizes,
  TileChoice,
} from "../../src/runner/addon.js";

const QKV = { name: "6144x4096 int4 g128", maxRows: 100 };
const HEAD = { name: "128256x4096 f16", maxRows: 16 };

/** "narrow" wins below 32 rows, "wide" from there on. */
const time = (_shape: string, rows: number, tile: string): number =>
  tile === "narrow" ? rows : 31;
const candidates = (): string[] => ["wide", "narrow"];

describe("rowRanges", () => {
  it.each([
    [1, [16]],
    [16, [16]],
    [17, [16, 32]],
    [100, [16, 32, 64, 128]],
    [2048, [16, 32, 64, 128, 256, 512, 1024, 2048]],
  ])("covers up to %i rows", (rows, ranges) => {
    expect(rowRanges(rows)).toEqual(ranges);
  });
});

describe("tuneTiles", () => {
  const options = { budgetSeconds: 1, clock: () => 0 };

  it("takes the fastest of each range, measured at no more rows than there are", () => {
    const table: TileTable = new Map();
    const asked: number[] = [];
    const tuner = {
      candidates,
      time: (shape: string, rows: number, tile: string) => {
        asked.push(rows);
        return time(shape, rows, tile);
      },
    };
    const result = tuneTiles(tuner, [QKV, HEAD], table, options);
    expect(result).toEqual({ measured: 5, left: 0, seconds: 0 });
    expect([...new Set(asked)]).toEqual([16, 32, 64, 100]);
    expect(tileChoices([QKV, HEAD], table)).toEqual([
      { shape: QKV.name, mostRows: 16, tile: "narrow" },
      { shape: QKV.name, mostRows: 32, tile: "wide" },
      { shape: QKV.name, mostRows: 64, tile: "wide" },
      { shape: QKV.name, mostRows: 128, tile: "wide" },
      { shape: HEAD.name, mostRows: 16, tile: "narrow" },
    ]);
  });

  it("stops when its time is up, having begun with few rows, and goes on from there", () => {
    const table: TileTable = new Map();
    let now = 0;
    const progress: [number, number][] = [];
    const slow = { candidates, time: () => (now += 0.3) };
    const first = tuneTiles(slow, [QKV, HEAD], table, {
      budgetSeconds: 1,
      clock: () => now,
      onProgress: (done, total) => progress.push([done, total]),
    });
    expect(first).toMatchObject({ measured: 2, left: 3 });
    expect(progress).toEqual([
      [1, 5],
      [2, 5],
    ]);
    expect(tileChoices([QKV, HEAD], table).map((c) => c.mostRows)).toEqual([
      16, 16,
    ]);
    const second = tuneTiles({ candidates, time }, [QKV, HEAD], table, options);
    expect(second).toMatchObject({ measured: 3, left: 0 });
    expect(openRanges([QKV, HEAD], table)).toEqual([]);
  });

  it("leaves a shape without tiles to the backend", () => {
    const table: TileTable = new Map();
    tuneTiles({ candidates: () => [], time }, [HEAD], table, options);
    expect(tileChoices([HEAD], table)).toEqual([]);
  });
});

describe("cacheDirectory", () => {
  it("is OCTAVO_CACHE_DIR, else the user's folder for caches", () => {
    expect(cacheDirectory({ OCTAVO_CACHE_DIR: "/c/o" })).toBe("/c/o");
    expect(cacheDirectory({ XDG_CACHE_HOME: "/c" })).toBe("/c/octavo");
    const home = path.join(os.homedir(), ".cache", "octavo");
    expect(cacheDirectory({ XDG_CACHE_HOME: "relative" })).toBe(home);
    expect(cacheDirectory({ OCTAVO_CACHE_DIR: " " })).toBe(home);
  });
});

describe("LinearKernels", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "octavo-tiles-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const GPU = {
    device: "cuda",
    description: "NVIDIA H200",
    processors: 1,
    isa: "sm_90",
    driver: "CUDA 13.0",
    hostMemory: false,
    tunes: true,
  } as DeviceInfo;
  const SIZES = {} as RunnerSizes;
  const PROGRAM = {} as Program;

  /** An addon that counts its measurements. */
  function fakeAddon(overrides: { library?: string; fail?: string } = {}) {
    const log = { opened: 0, closed: 0, timed: 0, useMatmulLibrary: false };
    class LinearTuner {
      constructor(_d: string, _p: Program, _s: RunnerSizes, library: boolean) {
        if (overrides.fail) throw new Error(overrides.fail);
        log.opened++;
        log.useMatmulLibrary = library;
      }
      candidates = candidates;
      time(shape: string, rows: number, tile: string): number {
        log.timed++;
        return time(shape, rows, tile);
      }
      close(): void {
        log.closed++;
      }
    }
    return {
      log,
      version: "1.2.3",
      linearShapes: (): LinearShape[] => [QKV, HEAD],
      tileSet: (device: string) => ({
        revision: 1,
        names: device === "cuda" ? ["wide", "narrow"] : [],
      }),
      matmulLibrary: () =>
        overrides.library === undefined
          ? { found: false, text: "no libcublasLt" }
          : { found: true, text: overrides.library },
      LinearTuner,
    };
  }

  interface Start {
    choices: TileChoice[];
    notices: string[];
    described: string | null;
  }

  /** One start of a server. */
  function start(
    addon: ReturnType<typeof fakeAddon>,
    config: { batchInvariant?: boolean; tileTuning?: boolean } = {},
    device: Partial<DeviceInfo> = {},
  ): Start {
    const notices: string[] = [];
    const linears = new LinearKernels(
      addon,
      { ...GPU, ...device },
      PROGRAM,
      { batchInvariant: true, tileTuning: true, ...config },
      { OCTAVO_CACHE_DIR: folder },
    );
    const described = linears.describe(SIZES);
    const choices = linears.choose(SIZES, {
      notice: (text) => notices.push(text),
    });
    expect(linears.choose(SIZES)).toBe(choices);
    return { choices, notices, described };
  }

  const files = (): string[] =>
    existsSync(path.join(folder, "tiles"))
      ? readdirSync(path.join(folder, "tiles"))
      : [];
  const cacheFile = (): string => path.join(folder, "tiles", files()[0] ?? "");

  it("measures at the first start, and never again", () => {
    const addon = fakeAddon();
    const first = start(addon);
    expect(first.choices).toHaveLength(5);
    expect(first.described).toBe(
      "tiles of 2 shapes to be measured at the start",
    );
    expect(first.notices).toEqual([
      expect.stringMatching(
        /^Measured the tiles of 2 shapes \(5 ranges of rows\) in \d+\.\d s\.$/,
      ),
    ]);
    expect(addon.log).toMatchObject({ opened: 1, closed: 1, timed: 10 });
    const second = start(addon);
    expect(second.choices).toEqual(first.choices);
    expect(second.notices).toEqual([]);
    expect(second.described).toBe(`tiles of 2 shapes from ${cacheFile()}`);
    expect(addon.log.opened).toBe(1);
    expect(files()).toEqual([
      expect.stringMatching(/^nvidia-h200-[0-9a-f]{12}\.json$/),
    ]);
  });

  it("measures anew for another device, driver, build or library", () => {
    const addon = fakeAddon();
    start(addon);
    for (const device of [
      { description: "NVIDIA RTX A6000" },
      { isa: "sm_86" },
      { driver: "CUDA 13.1" },
    ])
      start(addon, {}, device);
    start({ ...addon, version: "1.2.4" });
    start({
      ...addon,
      tileSet: () => ({ revision: 2, names: ["wide", "narrow"] }),
    });
    start(fakeAddon({ library: "cuBLASLt 13.0.0" }), { batchInvariant: false });
    expect(addon.log.opened).toBe(6);
    expect(files()).toHaveLength(7);
  });

  it.each([
    ["is not JSON", "{", /JSON/],
    ["is a list", "[]", /expected an object/],
    ["has another format", '{"format":2}', /expected format 1/],
    ["is another device's", '{"format":1,"key":{}}', /got another's/],
  ])("ignores a file that %s, and replaces it", (_name, text, reason) => {
    const addon = fakeAddon();
    const { choices } = start(addon);
    const good = readFileSync(cacheFile(), "utf8");
    writeFileSync(cacheFile(), text);
    const { notices, choices: again } = start(addon);
    expect(notices[0]).toMatch(reason);
    expect(notices[0]).toMatch(/measuring again\.$/);
    expect(again).toEqual(choices);
    expect(JSON.parse(readFileSync(cacheFile(), "utf8"))).toEqual(
      JSON.parse(good),
    );
  });

  it.each([
    [
      "a tile of no kernel",
      '"tile": "narrow"',
      '"tile": "9x9"',
      /name of a tile/,
    ],
    ["rows that are none", '"32"', '"many"', /expected rows/],
    ["no time", '"microseconds": 31', '"microseconds": "x"', /microseconds/],
  ])("ignores a file with %s", (_name, from, to, reason) => {
    const addon = fakeAddon();
    start(addon);
    const text = readFileSync(cacheFile(), "utf8");
    expect(text).toContain(from);
    writeFileSync(cacheFile(), text.replaceAll(from, to));
    expect(start(addon).notices[0]).toMatch(reason);
    expect(addon.log.opened).toBe(2);
  });

  it("does without a cache that cannot be written", () => {
    writeFileSync(
      path.join(folder, "tiles"),
      "a file where a folder should be",
    );
    const { choices, notices } = start(fakeAddon());
    expect(choices).toHaveLength(5);
    expect(notices.join("\n")).toMatch(/not written: /);
  });

  it("goes by rule where nothing can or shall be measured", () => {
    const addon = fakeAddon();
    const off = start(addon, { tileTuning: false });
    expect(off).toEqual({
      choices: [],
      notices: [],
      described: "tiles by rule (--no-tile-tuning)",
    });
    const simulated = start(addon, {}, { tunes: false });
    expect(simulated.choices).toEqual([]);
    expect(simulated.described).toBe(
      "tiles by rule (a simulator tells no time)",
    );
    const cpu = start(
      addon,
      {},
      { device: "cpu", tunes: false, hostMemory: true },
    );
    expect(cpu.described).toBeNull();
    expect(addon.log.opened).toBe(0);
    expect(files()).toEqual([]);
  });

  it("goes by rule when measuring fails, and says so", () => {
    const { choices, notices } = start(fakeAddon({ fail: "out of memory" }));
    expect(choices).toEqual([]);
    expect(notices).toEqual([
      "Tiles were not measured: out of memory. They are chosen by rule.",
    ]);
    expect(files()).toEqual([]);
  });

  it("offers the matmul library only without batch invariance, and says where there is none", () => {
    const addon = fakeAddon({ library: "cuBLASLt 13.1.0" });
    start(addon);
    expect(addon.log.useMatmulLibrary).toBe(false);
    const { described } = start(addon, { batchInvariant: false });
    expect(addon.log.useMatmulLibrary).toBe(true);
    expect(described).toMatch(/; cuBLASLt 13\.1\.0 for many rows$/);
    const without = fakeAddon();
    const { notices } = start(without, { batchInvariant: false });
    expect(without.log.useMatmulLibrary).toBe(false);
    expect(notices[0]).toBe(
      "--no-batch-invariant: cuBLASLt is not used: no libcublasLt. Octavo's own tiles compute everything.",
    );
    const cpu = start(
      addon,
      { batchInvariant: false },
      { device: "cpu", tunes: false, hostMemory: true },
    );
    expect(cpu.notices).toEqual([
      "--no-batch-invariant has no effect on cpu: it has no matmul library, and its results never depend on the batch.",
    ]);
  });
});
