import { expect, it } from "vitest";
import { cellsOf } from "../../src/page/block-map.js";
import { Exposition, quantile } from "../../src/page/exposition.js";
import { History, SPAN } from "../../src/page/history.js";
import { readSnapshot } from "../../src/page/snapshot.js";
import { pagedEngine } from "../server/known-engine.js";
import { bytes, serve } from "../server/support.js";

/** A histogram's values as /metrics has them. */
const histogram = (bounds: number[], cumulative: number[]) => ({
  bounds: [...bounds, Infinity],
  cumulative,
});

it("reads quantiles off what was counted between two readings", () => {
  const before = histogram([1, 2, 4], [10, 10, 10, 10]);
  const after = histogram([1, 2, 4], [10, 14, 18, 20]);
  expect(quantile(0.2, after, before)).toBeCloseTo(1.5);
  expect(quantile(0.6, after, before)).toBeCloseTo(3);
  // In the open bucket only its beginning is known.
  expect(quantile(0.95, after, before)).toBe(4);
  expect(quantile(0.5, after, after)).toBeNull();
  expect(quantile(0.5, after, null)).toBeCloseTo(1);
});

it("reads series by name, label and all there is", () => {
  const read = new Exposition(
    '# HELP a b\na{x="1",y="2"} 3\na{x="2",y="2"} 4\nab 5\nh_bucket{le="+Inf"} 7\nh_bucket{le="0.5"} 2\n',
  );
  expect(read.sum("a")).toBe(7);
  expect(read.sum("a", 'x="2"')).toBe(4);
  expect(read.sum("none")).toBe(0);
  expect(read.label("a", "y")).toBe("2");
  expect([...read.byLabel("a", "x")]).toEqual([
    ["1", 3],
    ["2", 4],
  ]);
  expect(read.histogram("h")).toEqual({
    bounds: [0.5, Infinity],
    cumulative: [2, 7],
  });
});

const at = (time: number, generated: number, steps = generated) =>
  readSnapshot(
    `vllm:generation_tokens_total ${generated}\nvllm:iteration_tokens_total_count ${steps}\n`,
    time,
  );

it("draws rates, with gaps where the page was hidden, and begins anew with another server", () => {
  const history = new History();
  for (const [time, total] of [
    [1, 0],
    [3, 10],
    [60, 1000],
    [61, 1007],
  ] as const)
    history.add(at(time, total));
  const rates = history.rates((s) => s.generationTokens);
  expect(rates).toEqual([
    { time: 1, value: null },
    { time: 3, value: 5 },
    { time: 3, value: null },
    { time: 60, value: null },
    { time: 61, value: 7 },
  ]);
  expect(history.growth((s) => s.generationTokens, 10)).toBe(7);
  expect(history.known(10)).toBe(1);
  expect(history.growth((s) => s.generationTokens, 58)).toBe(997);
  expect(history.growth((s) => s.generationTokens, 1)).toBe(7);
  history.add(at(61 + SPAN, 1007));
  expect(history.values((s) => s.steps)).toHaveLength(4);
  history.add(at(63 + SPAN, 2));
  expect(history.rates((s) => s.generationTokens)).toEqual([
    { time: 63 + SPAN, value: null },
  ]);
});

it("has a cell for every block, or for equally many, and one for whatever is there", () => {
  expect(cellsOf({ used: 3, cached: 4, free: 5 }, 400)).toEqual({
    perCell: 1,
    cells: { used: 3, cached: 4, free: 5 },
  });
  expect(cellsOf({ used: 1, cached: 1, free: 9998 }, 400)).toEqual({
    perCell: 25,
    cells: { used: 1, cached: 1, free: 398 },
  });
  expect(cellsOf({ used: 9999, cached: 1, free: 0 }, 400)).toEqual({
    perCell: 25,
    cells: { used: 400, cached: 0, free: 0 },
  });
});

it("finds every figure in what the server exposes", async () => {
  const { app, post } = await serve(pagedEngine({ numBlocks: 32 }), {
    info: { numBlocks: 32 },
  });
  const prompt = bytes("p".repeat(50));
  for (let i = 0; i < 2; i++)
    await post("/v1/completions", { prompt, max_tokens: 3, ignore_eos: true });
  const snapshot = readSnapshot((await app.inject("/metrics")).body, 1);
  expect(snapshot).toMatchObject({
    running: 0,
    waiting: 0,
    promptTokens: 100,
    generationTokens: 6,
    prefixQueries: 100,
    prefixHits: 48,
    blocks: { used: 0, cached: 3, free: 29, size: 16 },
    speculation: null,
  });
  expect(snapshot.steps).toBeGreaterThanOrEqual(6);
  expect(snapshot.stepTokens).toBe(52 + 4);
  expect([...snapshot.stageSeconds.keys()]).toEqual(
    expect.arrayContaining(["schedule", "pack", "launch", "collect", "update"]),
  );
  expect(snapshot.ttft.cumulative.at(-1)).toBe(2);
  expect(snapshot.itl.cumulative.at(-1)).toBe(4);
  // The figure of steps by their tokens reads off these bounds.
  for (const bound of [1, 8, 64, 512, Infinity])
    expect(snapshot.stepSizes.bounds).toContain(bound);
  expect(snapshot.stepSizes.cumulative.at(-1)).toBe(snapshot.steps);
});
