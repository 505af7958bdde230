import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadAddon } from "../../src/runner/addon.js";
import type { NativeRunnerHandle } from "../../src/runner/addon.js";
import { viewArena } from "../../src/runner/step-arena.js";
import {
  errorOf,
  pack,
  removeTemporaryFolders,
  specOf,
  tinyLlama,
} from "./support.js";
import type { Open, SequenceRows, TinyLlama } from "./support.js";

let model: TinyLlama;
beforeAll(() => {
  model = tinyLlama();
});
afterAll(removeTemporaryFolders);

const ROWS: SequenceRows[] = [
  { slot: 0, start: 0, ids: [1, 2, 3], blocks: [0] },
];

function launch(
  runner: NativeRunnerHandle,
  slot: 0 | 1,
  defer = false,
  onCollect = false,
): void {
  const arena = viewArena(runner.arena(slot), runner.layout);
  const opened: Open = { runner, spec: specOf(model), arenas: [arena, arena] };
  const counts = pack(opened, arena, ROWS);
  runner.launch(
    slot,
    counts.numTokens,
    counts.numSeqs,
    counts.numSamples,
    defer,
    onCollect,
  );
}

const STATE_NAMES = [
  "open",
  "ready",
  "ready after a step",
  "busy",
  "busy twice",
  "left to collect",
  "left to collect twice",
  "left to collect, then busy",
  "deferred",
  "deferred, then busy",
  "deferred and sampled",
  "closed",
  "closed while busy",
  "closed while left to collect",
  "closed while deferred",
  "closed unloaded",
] as const;
type StateName = (typeof STATE_NAMES)[number];

/** Runners in every state that can be reached without a broken device (for "failed" see device-failure.test.ts). */
const STATES: Record<StateName, () => NativeRunnerHandle> = {
  open: () => new (loadAddon().Runner)(specOf(model)),
  ready: () => {
    const runner = STATES.open();
    runner.load();
    return runner;
  },
  "ready after a step": () => {
    const runner = STATES.ready();
    launch(runner, 0);
    runner.collect(0);
    return runner;
  },
  busy: () => {
    const runner = STATES.ready();
    launch(runner, 0);
    return runner;
  },
  "busy twice": () => {
    const runner = STATES.busy();
    launch(runner, 1);
    return runner;
  },
  "left to collect": () => {
    const runner = STATES.ready();
    launch(runner, 0, false, true);
    return runner;
  },
  "left to collect twice": () => {
    const runner = STATES["left to collect"]();
    launch(runner, 1, false, true);
    return runner;
  },
  "left to collect, then busy": () => {
    const runner = STATES["left to collect"]();
    launch(runner, 1);
    return runner;
  },
  deferred: () => {
    const runner = STATES.ready();
    launch(runner, 0, true);
    return runner;
  },
  "deferred, then busy": () => {
    const runner = STATES.deferred();
    launch(runner, 1);
    return runner;
  },
  "deferred and sampled": () => {
    const runner = STATES.deferred();
    runner.sample(0);
    return runner;
  },
  closed: () => {
    const runner = STATES.ready();
    runner.close();
    return runner;
  },
  "closed while busy": () => {
    const runner = STATES.busy();
    runner.close();
    return runner;
  },
  "closed while left to collect": () => {
    const runner = STATES["left to collect, then busy"]();
    runner.close();
    return runner;
  },
  "closed while deferred": () => {
    const runner = STATES["deferred, then busy"]();
    runner.close();
    return runner;
  },
  "closed unloaded": () => {
    const runner = STATES.open();
    runner.close();
    return runner;
  },
};

const METHODS: Record<string, (runner: NativeRunnerHandle) => unknown> = {
  load: (runner) => runner.load(),
  layout: (runner) => runner.layout,
  "arena 0": (runner) => runner.arena(0),
  setHistory: (runner) => runner.setHistory(0, 0, new Int32Array(2)),
  // Packs first where there is an arena: the state must be what refuses.
  "launch 0": (runner) => {
    if (runner.state === "ready" || runner.state === "busy") launch(runner, 0);
    else runner.launch(0, 1, 1, 0, false);
  },
  "launch 1": (runner) => {
    if (runner.state === "ready" || runner.state === "busy") launch(runner, 1);
    else runner.launch(1, 1, 1, 0, false);
  },
  "sample 0": (runner) => runner.sample(0),
  "collect 0": (runner) => runner.collect(0),
  "collect 1": (runner) => runner.collect(1),
  close: (runner) => runner.close(),
};

const LOADED = ["layout", "arena 0", "setHistory", "close"];
const CLOSED = ["layout", "close"];
/** state -> its name, and the methods that work in it; every other one throws ERR_OCTAVO_STATE and changes nothing. */
const TABLE: Record<StateName, [state: string, allowed: string[]]> = {
  open: ["open", ["load", "layout", "close"]],
  ready: ["ready", [...LOADED, "launch 0", "launch 1"]],
  "ready after a step": ["ready", [...LOADED, "launch 0", "launch 1"]],
  busy: ["busy", [...LOADED, "launch 1", "collect 0"]],
  "busy twice": ["busy", [...LOADED, "collect 0", "collect 1"]],
  "left to collect": ["busy", [...LOADED, "launch 1", "collect 0"]],
  "left to collect twice": ["busy", [...LOADED, "collect 0", "collect 1"]],
  "left to collect, then busy": ["busy", [...LOADED, "collect 0", "collect 1"]],
  deferred: ["busy", [...LOADED, "launch 1", "sample 0"]],
  "deferred, then busy": ["busy", [...LOADED, "sample 0"]],
  "deferred and sampled": ["busy", [...LOADED, "launch 1", "collect 0"]],
  closed: ["closed", CLOSED],
  "closed while busy": ["closed", CLOSED],
  "closed while left to collect": ["closed", CLOSED],
  "closed while deferred": ["closed", CLOSED],
  "closed unloaded": ["closed", CLOSED],
};

describe.each(STATE_NAMES)("a runner that is %s", (name) => {
  const [state, allowed] = TABLE[name];
  it.each(Object.keys(METHODS))("%s", (method) => {
    const runner = STATES[name]();
    expect(runner.state).toBe(state);
    const call = () => METHODS[method]?.(runner);
    if (allowed.includes(method)) {
      expect(call).not.toThrow();
    } else {
      const error = errorOf(call);
      expect(error.code).toBe("ERR_OCTAVO_STATE");
      expect(error.message).toMatch(/expected .*, got a runner that is /);
      expect(runner.state).toBe(state);
    }
    runner.close();
    expect(runner.state).toBe("closed");
  });
});

it("detaches the arenas on close and gives the same ArrayBuffer until then", () => {
  const runner = STATES.ready();
  const memory = runner.arena(0);
  const view = viewArena(memory, runner.layout).inputIds;
  expect(runner.arena(0)).toBe(memory);
  expect(runner.arena(1)).not.toBe(memory);
  expect(memory.byteLength).toBeGreaterThan(0);
  // It cannot be carried off to another thread: a transfer copies.
  const copy = structuredClone(memory, { transfer: [memory] });
  expect(memory.byteLength).toBe(copy.byteLength);
  runner.close();
  expect(memory.byteLength).toBe(0);
  expect(view.length).toBe(0);
});

it("refuses load, launch and close while load calls back, and stays open when the callback throws", () => {
  const runner = STATES.open();
  const errors: string[] = [];
  const thrown = () =>
    runner.load((done, total) => {
      for (const action of [
        () => runner.load(),
        () => runner.close(),
        () => runner.launch(0, 1, 1, 0, false),
      ])
        errors.push(errorOf(action).code);
      expect(done).toBeLessThanOrEqual(total);
      throw new Error("mine");
    });
  expect(thrown).toThrow("mine");
  expect(errors).toEqual([
    "ERR_OCTAVO_STATE",
    "ERR_OCTAVO_STATE",
    "ERR_OCTAVO_STATE",
  ]);
  expect(runner.state).toBe("open");
  const steps: number[] = [];
  runner.load((done, total) => steps.push(done / total));
  expect(steps[0]).toBe(0);
  expect(steps.at(-1)).toBe(1);
  expect([...steps].sort((a, b) => a - b)).toEqual(steps);
  runner.close();
});

it("checks the types of every argument", () => {
  const runner = STATES.ready() as unknown as Record<
    string,
    (...args: unknown[]) => unknown
  >;
  const cases: [string, unknown[]][] = [
    ["arena", []],
    ["arena", [2]],
    ["arena", [-1]],
    ["arena", [0.5]],
    ["arena", ["0"]],
    ["launch", [0, 1, 1, NaN, false]],
    ["launch", [0, 1, 1, 0]],
    ["launch", [0, 1, 1, 0, false, 1]],
    ["launch", [{}, 1, 1, 0, false]],
    ["launch", [0, 2 ** 40, 1, 0, false]],
    ["setHistory", [0, 0, [1, 2]]],
    ["setHistory", [0, 0, new Float32Array(2)]],
    ["setHistory", [0, 4, new Int32Array(2)]],
    ["setHistory", [0, 0, new Int32Array(101)]],
    ["setHistory", [0, 0, new Int32Array([40])]],
    ["setHistory", [0, 0, new Int32Array([-1])]],
    ["sample", [2]],
    ["collect", [7]],
  ];
  for (const [method, args] of cases)
    expect(
      errorOf(() => runner[method]?.(...args)).code,
      `${method}(${String(args)})`,
    ).toBe("ERR_OCTAVO_ARGUMENT");
  expect(
    errorOf(() => (STATES.open() as unknown as typeof runner)["load"]?.("x"))
      .code,
  ).toBe("ERR_OCTAVO_ARGUMENT");
  runner["close"]?.();
});

it("refuses strangers as this", () => {
  const runner = STATES.ready();
  const prototype = Object.getPrototypeOf(runner) as object;
  const call = (name: string, self: object) =>
    Reflect.apply(Reflect.get(prototype, name) as () => unknown, self, [
      0,
      1,
      1,
      0,
      false,
    ] as unknown as []);
  for (const name of ["launch", "collect", "load", "arena", "close"])
    for (const stranger of [
      {},
      Object.create(prototype) as object,
      new Map(),
      loadAddon(),
    ])
      expect(() => call(name, stranger), name).toThrow(TypeError);
  const bare = loadAddon().Runner as unknown as () => unknown;
  expect(() =>
    Reflect.apply(bare, undefined, [specOf(model)] as unknown as []),
  ).toThrow(TypeError);
  runner.close();
});
