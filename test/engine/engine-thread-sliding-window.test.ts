import { existsSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { prepareModel } from "../../src/engine/prepare-model.js";
import { slidingWindowOf } from "../../src/engine/sliding-window.js";
import { Opcode } from "../../src/program/program.js";

/** Two instructions of other ops around attention layers of these windows. */
function codeOf(...windows: number[]): Int32Array {
  const layers = windows.flatMap((window) => [
    Opcode.attention,
    9,
    ...[0, 1, 0, 2, 1, 8, 0, window, 0],
  ]);
  const add = [Opcode.add, 3, Opcode.attention, 9, 5];
  return Int32Array.from([...add, ...layers, ...add]);
}

describe("slidingWindowOf", () => {
  it.each([
    [[], null],
    [[0], null],
    [[32, 32], 32],
    [[32, 64], 64],
    [[32, 0], null],
  ])("windows %j: %s", (windows, expected) => {
    expect(slidingWindowOf({ code: codeOf(...windows) })).toBe(expected);
  });

  const models = path.resolve("../shared/models");
  it.skipIf(!existsSync(models)).each([
    ["tiny-mistral", true],
    ["tiny-llama3", false],
  ])("%s is windowed: %s (needs ../shared/models)", async (name, windowed) => {
    const model = path.join(models, name);
    const { program } = await prepareModel({
      model,
      modelFile: null,
      loadFormat: "auto",
    });
    expect(slidingWindowOf(program) !== null).toBe(windowed);
  });
});
