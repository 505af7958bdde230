import { execFileSync } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { addonFile } from "../../src/runner/addon.js";
import type { Addon, NativeRunnerHandle } from "../../src/runner/addon.js";
import { viewArena } from "../../src/runner/step-arena.js";
import {
  errorOf,
  pack,
  removeTemporaryFolders,
  specOf,
  temporaryFolder,
  tinyLlama,
} from "./support.js";
import type { Open, TinyLlama } from "./support.js";

let model: TinyLlama;
let addon: Addon;

/** The addon finds backends beside itself, so the tests give it a folder with a faulty one. */
beforeAll(() => {
  const folder = temporaryFolder();
  const file = path.join(folder, "octavo.node");
  copyFileSync(addonFile(), file);
  const sources = [
    "faulty-backend.cc",
    "../../kernels/host.cc",
    "../../kernels/growing_memory.cc",
  ].map((source) => fileURLToPath(new URL(source, import.meta.url)));
  const library = path.join(
    folder,
    `liboctavo_faulty.${process.platform === "darwin" ? "dylib" : "so"}`,
  );
  execFileSync(process.env["CXX"] ?? "c++", [
    "-std=c++17",
    "-O1",
    "-shared",
    "-fPIC",
    "-o",
    library,
    ...sources,
  ]);
  writeFileSync(
    path.join(folder, path.basename(library).replace("faulty", "broken")),
    "not a library",
  );
  addon = createRequire(import.meta.url)(file) as Addon;
  model = tinyLlama();
});
afterAll(removeTemporaryFolders);

const make = (): Open => {
  const spec = specOf(model, { device: "faulty" });
  const runner = new addon.Runner(spec);
  runner.load();
  return {
    runner,
    spec,
    arenas: [
      viewArena(runner.arena(0), runner.layout),
      viewArena(runner.arena(1), runner.layout),
    ],
  };
};

function launch(
  opened: Open,
  slot: 0 | 1,
  id: number,
  defer = false,
  onCollect = false,
): void {
  const counts = pack(opened, opened.arenas[slot], [
    { slot: 0, start: 0, ids: [id, 1], blocks: [0] },
  ]);
  opened.runner.launch(
    slot,
    counts.numTokens,
    counts.numSeqs,
    counts.numSamples,
    defer,
    onCollect,
  );
}

function expectFailed(runner: NativeRunnerHandle): void {
  expect(runner.state).toBe("failed");
  const refused: (() => unknown)[] = [
    () => runner.load(),
    () => runner.setHistory(0, 0, new Int32Array(1)),
    () => runner.launch(0, 1, 1, 0, false),
    () => runner.sample(0),
    () => runner.collect(0),
    () => runner.collect(1),
  ];
  for (const action of refused)
    expect(errorOf(action).code).toBe("ERR_OCTAVO_STATE");
  expect(Object.keys(runner.layout)).toContain("sampledIds");
  expect(runner.arena(0).byteLength).toBeGreaterThan(0);
  runner.close();
  expect(runner.state).toBe("closed");
}

it("a device error arrives at collect, with its reason, and fails the runner", () => {
  const opened = make();
  launch(opened, 0, 1);
  opened.runner.collect(0);
  launch(opened, 1, 11);
  expect(errorOf(() => opened.runner.collect(1))).toEqual({
    code: "ERR_OCTAVO_DEVICE",
    message: "faulty op failed: the device fell off the bus",
  });
  expectFailed(opened.runner);
});

it("a launch queued behind a failed one fails with it", () => {
  const opened = make();
  launch(opened, 0, 11);
  launch(opened, 1, 1);
  expect(errorOf(() => opened.runner.collect(0)).code).toBe(
    "ERR_OCTAVO_DEVICE",
  );
  expect(opened.runner.state).toBe("failed");
  expect(errorOf(() => opened.runner.collect(1)).message).toMatch(
    /fell off the bus/,
  );
  expectFailed(opened.runner);
});

it("a launch left to collect fails there, and the one behind it with it", () => {
  const opened = make();
  launch(opened, 0, 11, false, true);
  launch(opened, 1, 1);
  expect(errorOf(() => opened.runner.collect(0))).toEqual({
    code: "ERR_OCTAVO_DEVICE",
    message: "faulty op failed: the device fell off the bus",
  });
  expect(errorOf(() => opened.runner.collect(1)).message).toMatch(
    /fell off the bus/,
  );
  expectFailed(opened.runner);
});

it("an id that a backend may not sample never reaches the next step", () => {
  const opened = make();
  launch(opened, 0, 12);
  launch(opened, 1, -1);
  expect(errorOf(() => opened.runner.collect(0)).message).toBe(
    "sampledIds[0]: expected an id in [0, 39], got 40",
  );
  expect(errorOf(() => opened.runner.collect(1)).code).toBe(
    "ERR_OCTAVO_DEVICE",
  );
  expectFailed(opened.runner);
});

it("another runner takes over where one failed", () => {
  const failed = make();
  launch(failed, 0, 11);
  const fresh = make();
  launch(fresh, 0, 1);
  fresh.runner.collect(0);
  expect(fresh.arenas[0].sampledIds[0]).toBe(1);
  expect(() => failed.runner.collect(0)).toThrow();
  fresh.runner.close();
  failed.runner.close();
});

it("launch returns at once; close waits for the step being computed", () => {
  const opened = make();
  const start = performance.now();
  launch(opened, 0, 13);
  launch(opened, 1, 13);
  expect(performance.now() - start).toBeLessThan(200);
  expect(opened.runner.state).toBe("busy");
  opened.runner.close();
  const elapsed = performance.now() - start;
  expect(elapsed).toBeLessThan(590); // the second was only queued: it is dropped
  expect(opened.runner.state).toBe("closed");
});

it("failure before sample() of a deferred launch is told at collect", () => {
  const opened = make();
  launch(opened, 0, 11, true);
  opened.runner.sample(0);
  expect(errorOf(() => opened.runner.collect(0)).code).toBe(
    "ERR_OCTAVO_DEVICE",
  );
  opened.runner.close();
});

it("what a backend lacks is an error of the field", () => {
  const runner = new addon.Runner(
    specOf(model, { device: "faulty", kvCacheDtype: "f16" }),
  );
  expect(errorOf(() => runner.load())).toEqual({
    code: "ERR_OCTAVO_ARGUMENT",
    message:
      "spec.kvCacheDtype: expected a type that faulty has kernels for, got no such KV type",
  });
  runner.close();
});

it("a library that is none, and names that are paths", () => {
  expect(errorOf(() => addon.describeDevice("broken", 0)).code).toBe(
    "ERR_OCTAVO_DEVICE",
  );
  for (const name of ["../octavo", "FAULTY", "", "faulty\0", "x".repeat(1e5)])
    expect(errorOf(() => addon.describeDevice(name, 0)).code, name).toBe(
      "ERR_OCTAVO_ARGUMENT",
    );
  expect(addon.describeDevice("faulty", 0).device).toBe("faulty");
});
