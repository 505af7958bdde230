import { describe, expect, it } from "vitest";
import { element, render } from "../../bench/report/markup.js";
import {
  formatValue,
  linearScale,
  logScale,
  niceStep,
} from "../../src/page/scale.js";
import {
  concurrencyOverTime,
  histogram,
  throughputOverTime,
} from "../../bench/report/series.js";
import type { Outcome } from "../../bench/serve/outcome.js";
import { seriesSum } from "../../bench/serve/server-samples.js";

const outcome = (
  startTime: number,
  ttft: number,
  itls: number[],
  outputLen = itls.length + 1,
): Outcome => ({
  error: null,
  promptLen: 1,
  outputLen,
  startTime,
  ttft,
  itls,
  latency: ttft + itls.reduce((a, b) => a + b, 0),
  text: "",
  usageReported: true,
});

describe("markup", () => {
  it("escapes text and attributes, and leaves out what is null", () => {
    const markup = element(
      "a",
      { href: '"<>&', b: null, c: 1.23456 },
      "<i>&",
      null,
      3,
    );
    expect(markup.text).toBe(
      '<a href="&quot;&lt;&gt;&amp;" c="1.23">&lt;i&gt;&amp;3</a>',
    );
    expect(render([markup, "<"])).toBe(`${markup.text}&lt;`);
  });
});

describe("scales", () => {
  it("go from round number to round number", () => {
    const scale = linearScale(0, 9.3, [100, 0], 5);
    expect(scale.ticks).toEqual([0, 2, 4, 6, 8, 10]);
    expect([scale.at(0), scale.at(5), scale.at(10)]).toEqual([100, 50, 0]);
    expect(linearScale(0, 0.0007, [0, 1]).ticks).toEqual([
      0, 0.0002, 0.0004, 0.0006, 0.0008,
    ]);
    expect(linearScale(5, 5, [0, 1]).ticks.length).toBeGreaterThan(1);
  });

  it("are even in ratios where they are logarithmic", () => {
    const scale = logScale(0.9, 93, [0, 300]);
    expect(scale.domain).toEqual([0.5, 100]);
    expect(scale.ticks).toEqual([0.5, 1, 2, 5, 10, 20, 50, 100]);
    expect(scale.at(10) - scale.at(1)).toBeCloseTo(
      scale.at(100) - scale.at(10),
      9,
    );
    expect(logScale(0.001, 900, [0, 1]).ticks).toEqual([
      0.001, 0.01, 0.1, 1, 10, 100, 1000,
    ]);
  });

  it.each([
    [10, 5, 2],
    [1, 60, 0.02],
    [100, 3, 50],
  ])("cut %d into about %d parts by steps of %d", (span, count, step) => {
    expect(niceStep(span, count)).toBeCloseTo(step, 12);
  });

  it.each([
    [0, "0"],
    [12345.6, "12,346"],
    [123.4, "123"],
    [0.051234, "0.0512"],
    [2.5, "2.5"],
  ])("show %d as %s", (value, text) => {
    expect(formatValue(value)).toBe(text);
  });
});

describe("series", () => {
  it("have every value in a bin of a histogram", () => {
    const values = [1, 1, 2, 3, 5, 8, 13];
    const { bins, kind, count } = histogram(values);
    expect([kind, count]).toEqual(["linear", 7]);
    for (const { from, to, count: inBin } of bins) {
      const last = to >= 13;
      expect(inBin).toBe(
        values.filter((x) => x >= from - 1e-9 && (x < to - 1e-9 || last))
          .length,
      );
    }
    const wide = histogram([0.01, 0.02, 0.5, 4, 90]);
    expect(wide.kind).toBe("log");
    expect(wide.bins.reduce((sum, bin) => sum + bin.count, 0)).toBe(5);
    expect(histogram([]).count).toBe(0);
    expect(
      histogram([3, 3]).bins.reduce((sum, bin) => sum + bin.count, 0),
    ).toBe(2);
  });

  it("spread a request's tokens over its chunks and keep their sum", () => {
    // 8 tokens in 4 chunks at 0.5, 0.6, 1.6 and 2.6 s; another with one token at 2.0 s; a failed one.
    const outcomes = [
      outcome(0, 0.5, [0.1, 1, 1], 8),
      outcome(1, 1, []),
      { ...outcome(0, 0.1, [0.1]), error: "gone" },
    ];
    const { points, width } = throughputOverTime(outcomes, 3);
    expect(width).toBeCloseTo(0.05, 12);
    expect(points.reduce((sum, { y }) => sum + y * width, 0)).toBeCloseTo(9, 9);
    const at = (time: number) =>
      points[Math.floor(time / width + 1e-6)]?.y ?? NaN;
    expect(at(0.5) * width).toBeCloseTo(2, 9);
    expect(at(2.0) * width).toBeCloseTo(1, 9);
  });

  it("count requests in flight, an end before a start at the same instant", () => {
    const points = concurrencyOverTime(
      [outcome(0, 1, [1]), outcome(1, 0.5, [0.5]), outcome(2, 1, [])],
      3,
    );
    expect(points.map(({ y }) => y)).toEqual([0, 1, 2, 1, 0, 1, 0]);
    const many = Array.from({ length: 3000 }, (_, i) =>
      outcome(i / 1000, 1, []),
    );
    const long = concurrencyOverTime(many, 4);
    expect(long.length).toBeLessThanOrEqual(1001);
    expect(Math.max(...long.map(({ y }) => y))).toBeGreaterThanOrEqual(1000);
  });
});

describe("a sample of /metrics", () => {
  it("is the sum over a metric's labels", () => {
    const text =
      '# TYPE a gauge\na{engine="0"} 2\na{engine="1"} 3.5\nab 9\nb 7 1700000000\n';
    expect(seriesSum(text, "a")).toBe(5.5);
    expect(seriesSum(text, "b")).toBe(7);
    expect(seriesSum(text, "c")).toBeNull();
  });
});
