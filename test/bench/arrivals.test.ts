import { describe, expect, it } from "vitest";
import { arrivalTimes } from "../../bench/serve/arrivals.js";
import { Random } from "../../bench/random.js";

/** Gaps in units of the mean gap, before which nothing is rescaled by much at this count. */
function gaps(burstiness: number, count = 20_000): number[] {
  const times = arrivalTimes(count, 8, burstiness, new Random(1));
  return Array.from(times, (time, i) => (time - (times[i - 1] ?? 0)) * 8);
}

describe("arrivals", () => {
  it.each([0.3, 1, 4])("burstiness %d is the shape of a Gamma", (shape) => {
    const values = gaps(shape);
    const mean = (of: (x: number) => number): number =>
      values.reduce((sum, x) => sum + of(x), 0) / values.length;
    expect(mean((x) => x)).toBeCloseTo(1, 9);
    // Variance 1 / shape, third central moment 2 / shape^2; tolerances are 5 and more standard errors.
    expect(mean((x) => (x - 1) ** 2) * shape).toBeGreaterThan(0.85);
    expect(mean((x) => (x - 1) ** 2) * shape).toBeLessThan(1.15);
    const third = (mean((x) => (x - 1) ** 3) * shape ** 2) / 2;
    expect(third).toBeGreaterThan(0.6);
    expect(third).toBeLessThan(1.4);
  });

  it("burstiness 1 has exponential gaps (Kolmogorov and Smirnov, 0.1 %)", () => {
    const values = gaps(1).sort((a, b) => a - b);
    const n = values.length;
    const distance = values.reduce((most, x, i) => {
      const expected = 1 - Math.exp(-x);
      return Math.max(
        most,
        Math.abs(expected - i / n),
        Math.abs(expected - (i + 1) / n),
      );
    }, 0);
    expect(distance).toBeLessThan(1.95 / Math.sqrt(n));
  });

  it("end exactly at count / rate, in order", () => {
    for (const [count, rate, burstiness] of [
      [1, 3, 1],
      [7, 0.5, 0.1],
      [500, 20, 10],
    ] as const) {
      const times = arrivalTimes(count, rate, burstiness, new Random(5));
      expect(times.length).toBe(count);
      expect(times.at(-1)).toBeCloseTo(count / rate, 9);
      expect([...times].every((t, i) => t >= (times[i - 1] ?? 0))).toBe(true);
      expect(times[0]).toBeGreaterThan(0);
    }
  });

  it("come all at once without a rate", () => {
    expect([...arrivalTimes(3, Infinity, 1, new Random(0))]).toEqual([0, 0, 0]);
  });

  it("are a function of the seed", () => {
    const at = (seed: number) => [
      ...arrivalTimes(10, 2, 1, new Random(seed, 5)),
    ];
    expect(at(3)).toEqual(at(3));
    expect(at(3)).not.toEqual(at(4));
  });
});

describe("the generator", () => {
  it("has streams that do not meet", () => {
    const words = new Set<number>();
    for (let stream = -50; stream < 50; stream++) {
      const random = new Random(0, stream);
      for (let i = 0; i < 20; i++) words.add(random.word());
    }
    // 2,000 draws of 2^32: a repetition has a chance of 1 in 2,000.
    expect(words.size).toBeGreaterThan(1997);
  });

  it("draws whole numbers evenly, bounds included", () => {
    const random = new Random(9);
    const counts = new Map<number, number>();
    for (let i = 0; i < 6000; i++) {
      const value = random.integer(-1, 4);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual([
      -1, 0, 1, 2, 3, 4,
    ]);
    // Chi-square of 5 degrees, 0.1 %.
    const chi = [...counts.values()].reduce(
      (sum, count) => sum + (count - 1000) ** 2 / 1000,
      0,
    );
    expect(chi).toBeLessThan(20.5);
  });

  it("shuffles without losing anything", () => {
    const shuffled = new Random(2).shuffle([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(shuffled).not.toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect([...shuffled].sort()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });
});
