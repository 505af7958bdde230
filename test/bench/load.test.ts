import { describe, expect, it } from "vitest";
import { runLoad } from "../../bench/serve/load.js";
import type { Outcome } from "../../bench/serve/outcome.js";
import { sleep } from "./scripted-server.js";

const OUTCOME: Outcome = {
  error: null,
  promptLen: 1,
  outputLen: 1,
  startTime: 0,
  ttft: 0,
  itls: [],
  latency: 0,
  text: "",
  usageReported: true,
};

describe("the open loop", () => {
  it("sends when it is time, whatever becomes of the others", async () => {
    const arrivals = [0, 0.02, 0.02, 0.05, 0.11];
    const sent: number[] = [];
    const progress: number[] = [];
    const { outcomes, lateness, duration } = await runLoad(
      arrivals,
      async (index, origin) => {
        sent[index] = (performance.now() - origin) / 1000;
        await sleep(index === 0 ? 200 : 1);
        return { ...OUTCOME, promptLen: index };
      },
      null,
      (done, total) => progress.push(done / total),
    );
    expect(outcomes.map(({ promptLen }) => promptLen)).toEqual([0, 1, 2, 3, 4]);
    arrivals.forEach((due, i) => {
      // Never early; late only as far as the machine is busy, and then reported.
      expect(sent[i]).toBeGreaterThanOrEqual(due);
      expect((sent[i] ?? 0) - due).toBeLessThan(0.1);
      expect(lateness[i]).toBeGreaterThanOrEqual(0);
      expect(due + (lateness[i] ?? 0)).toBeLessThanOrEqual(sent[i] ?? 0);
    });
    expect(duration).toBeGreaterThan(0.195);
    expect(progress).toEqual([0.2, 0.4, 0.6, 0.8, 1]);
  });

  it("holds back beyond the limit, in order, and does not call that late", async () => {
    let running = 0;
    let most = 0;
    const order: number[] = [];
    const { lateness } = await runLoad(
      new Float64Array(9),
      async (index) => {
        order.push(index);
        most = Math.max(most, ++running);
        await sleep(40);
        running--;
        return OUTCOME;
      },
      3,
      () => undefined,
    );
    expect(most).toBe(3);
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(Math.max(...lateness)).toBeLessThan(0.04);
  });
});
