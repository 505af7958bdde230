import { describe, expect, it } from "vitest";
import { computeMetrics } from "../../bench/serve/metrics.js";
import type { Outcome } from "../../bench/serve/outcome.js";
import { percentile, summarize } from "../../bench/serve/statistics.js";

describe("percentiles", () => {
  const sorted = Float64Array.of(10, 20, 40, 80);

  it.each([
    [0, 10],
    [25, 17.5], // rank 0.75: 10 + 0.75 * 10
    [50, 30],
    [90, 68], // rank 2.7: 40 + 0.7 * 40
    [99, 78.8], // rank 2.97
    [100, 80],
  ])("interpolate linearly between ranks: P%d is %d", (p, expected) => {
    expect(percentile(sorted, p)).toBeCloseTo(expected, 10);
  });

  it("of one value are that value, of none 0", () => {
    expect(percentile(Float64Array.of(7), 99)).toBe(7);
    expect(percentile(new Float64Array(), 99)).toBe(0);
  });
});

describe("summarize", () => {
  it("sorts by number and divides the variance by n", () => {
    const { mean, median, std, percentiles } = summarize(
      [9, 100, 2, 4, 4, 5, 5, 7],
      [50, 75],
    );
    expect(mean).toBe(17);
    expect(median).toBe(5);
    // Squares of the distances: 64, 6889, 225, 169, 169, 144, 144, 100.
    expect(std).toBeCloseTo(Math.sqrt(7904 / 8), 10);
    expect([...percentiles]).toEqual([
      [50, 5],
      [75, 7.5],
    ]);
  });

  it("of nothing is 0, not NaN", () => {
    expect(summarize([], [99])).toEqual({
      mean: 0,
      median: 0,
      std: 0,
      percentiles: new Map([[99, 0]]),
    });
  });
});

describe("the figures of a run", () => {
  const outcome = (fields: Partial<Outcome>): Outcome => ({
    error: null,
    promptLen: 10,
    outputLen: 1,
    startTime: 0,
    ttft: 0.1,
    itls: [],
    latency: 0.1,
    text: "",
    usageReported: true,
    ...fields,
  });
  const outcomes = [
    // Chunks at 0.1, 0.6, 1.1 s; the last second has one.
    outcome({ outputLen: 3, itls: [0.5, 0.5], latency: 1.1 }),
    // Four tokens in two chunks, at 1.2 and 1.4 s of the run.
    outcome({
      startTime: 1,
      outputLen: 4,
      ttft: 0.2,
      itls: [0.2],
      latency: 0.4,
    }),
    // A single token: no TPOT.
    outcome({ startTime: 1.4, latency: 0.1 }),
    outcome({ startTime: 1, latency: 0.05, error: "HTTP 503", outputLen: 9 }),
  ];
  const metrics = computeMetrics(outcomes, 2, [99], { ttft: 150, tpot: 600 });

  it("count what went well and what did not", () => {
    expect(metrics.completed).toBe(3);
    expect(metrics.failed).toBe(1);
    expect(metrics.totalInputTokens).toBe(30);
    expect(metrics.totalOutputTokens).toBe(8);
  });

  it("are per second of the run", () => {
    expect(metrics.requestThroughput).toBe(1.5);
    expect(metrics.outputThroughput).toBe(4);
    expect(metrics.totalTokenThroughput).toBe(19);
    // The second request misses its TTFT; the first and the third keep both bounds.
    expect(metrics.requestGoodput).toBe(1);
    expect(computeMetrics(outcomes, 2, [], null).requestGoodput).toBeNull();
    expect(computeMetrics(outcomes, 2, [], { e2el: 400 }).requestGoodput).toBe(
      1,
    );
  });

  it("take latencies over requests, ITL over all gaps", () => {
    const { ttft, tpot, itl, e2el } = metrics.latencies;
    expect(ttft.mean).toBeCloseTo(400 / 3, 9);
    // 1000 / 2 and 200 / 3 ms.
    expect(tpot.mean).toBeCloseTo((500 + 200 / 3) / 2, 9);
    expect(itl.mean).toBeCloseTo(400, 9);
    expect(e2el.median).toBeCloseTo(400, 9);
    expect(e2el.percentiles.get(99)).toBeCloseTo(400 + 0.98 * 700, 9);
  });

  it("find the best second and the most in flight", () => {
    // [1, 2): 1 + 2 + 2 + 1 tokens; [0, 1) has 2.
    expect(metrics.maxOutputTokensPerSecond).toBe(6);
    // At 1.0 s: the first, the second and the failed one. At 1.4 the second ends as the third begins.
    expect(metrics.maxConcurrentRequests).toBe(3);
  });

  it("of nothing are 0", () => {
    const none = computeMetrics([], 0, [99], null);
    expect(none.requestThroughput).toBe(0);
    expect(none.maxOutputTokensPerSecond).toBe(0);
    expect(none.latencies.ttft.mean).toBe(0);
  });
});
