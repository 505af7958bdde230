import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenBucket } from "../../../src/server/token-bucket.js";

const MINUTE = 60_000;

describe("a token bucket", () => {
  it("has a minute's worth at once, then refills evenly", () => {
    const bucket = new TokenBucket(60, 0);
    bucket.spend(60, 0);
    expect([bucket.remaining(0), bucket.untilOne(0)]).toEqual([0, 1000]);
    expect([bucket.remaining(999), bucket.remaining(1000)]).toEqual([0, 1]);
    expect(bucket.untilFull(1000)).toBeCloseTo(59_000, 6);
    expect(bucket.remaining(10 * MINUTE)).toBe(60);
  });

  it("refills a debt first, and takes back what was paid", () => {
    const bucket = new TokenBucket(60, 0);
    bucket.spend(90, 0);
    expect([bucket.remaining(0), bucket.untilOne(0)]).toEqual([0, 31_000]);
    bucket.spend(-1000, 0);
    expect(bucket.remaining(0)).toBe(60);
  });

  it("keeps what was used when its limit changes; a lower one makes no debt", () => {
    const bucket = new TokenBucket(10, 0);
    bucket.spend(4, 0);
    bucket.resize(20, 0);
    expect(bucket.remaining(0)).toBe(16);
    bucket.resize(5, 0);
    expect(bucket.remaining(0)).toBe(5);
    bucket.spend(8, 0);
    bucket.resize(2, 0);
    expect(bucket.untilOne(0)).toBe((4 / 2) * MINUTE);
  });

  it("never lets more through than a minute's worth and its rate, and says truly when the next may come", () => {
    const steps = fc.array(
      fc.record({
        wait: fc.integer({ min: 0, max: 2 * MINUTE }),
        amount: fc.integer({ min: 1, max: 50 }),
      }),
      { maxLength: 60 },
    );
    const limits = fc.oneof(
      fc.integer({ min: 1, max: 100 }),
      fc.integer({ min: 1, max: 999_999_999 }),
    );
    fc.assert(
      fc.property(limits, steps, (limit, arrivals) => {
        const bucket = new TokenBucket(limit, 0);
        const taken: { time: number; amount: number }[] = [];
        let time = 0;
        for (const { wait, amount } of arrivals) {
          time += wait;
          const until = bucket.untilOne(time);
          if (until > 0) {
            expect(bucket.remaining(time)).toBe(0);
            expect(bucket.untilOne(time + 0.9 * until)).toBeGreaterThan(0);
            time += Math.ceil(until / 1000) * 1000;
            expect(bucket.untilOne(time)).toBe(0);
          }
          bucket.spend(amount, time);
          taken.push({ time, amount });
        }
        // The last one may run up a debt; those before it in any span were paid.
        for (const [i, from] of taken.entries()) {
          let sum = 0;
          for (const { time: to, amount } of taken.slice(i)) {
            const paid = limit * (1 + (to - from.time) / MINUTE);
            expect(sum).toBeLessThanOrEqual(paid + 1e-3);
            sum += amount;
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
