import { expect, it } from "vitest";
import { graphRows } from "../../src/engine/graph-rows.js";

it("has small sizes densely, the largest, and none where there are no graphs", () => {
  expect([...graphRows(0)]).toEqual([]);
  expect([...graphRows(1)]).toEqual([1]);
  expect([...graphRows(12)]).toEqual([1, 2, 4, 8, 12]);
  expect([...graphRows(64)]).toEqual([1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64]);
  expect([...graphRows(200)].slice(-6)).toEqual([96, 112, 128, 160, 192, 200]);
});

it("never fills up a step by more than it says", () => {
  const rows = graphRows(256);
  for (let wanted = 1; wanted <= 256; wanted++) {
    const taken = rows.find((count) => count >= wanted) ?? 0;
    expect(taken - wanted).toBeLessThanOrEqual(
      wanted <= 64 ? 7 : Math.ceil(wanted / 4),
    );
  }
});
