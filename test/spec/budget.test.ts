import { describe, expect, it } from "vitest";
import { Budget } from "../../src/spec/budget.js";

/** Steps of a second, each tried for `worth` seconds' tokens when the budget allows it; returns what was lost. */
function lossOf(budget: Budget, steps: number, worth: number): number {
  let lost = 0;
  for (let step = 0; step < steps; step++) {
    budget.earn(1);
    if (budget.isSpent) continue;
    budget.settle(worth, 1);
    lost += 1 - worth;
  }
  return lost;
}

describe("Budget", () => {
  it("allows a first try, and then no more than half a percent of the time", () => {
    const budget = new Budget(0);
    expect(budget.isSpent).toBe(false);
    const lost = lossOf(budget, 10_000, 0.5);
    expect(lost).toBeGreaterThan(0.9 * 50);
    expect(lost).toBeLessThan(1.1 * 50);
  });

  it("lets the first tries pass, as their code is being compiled", () => {
    const budget = new Budget(0.1);
    for (let i = 0; i < 10; i++) {
      expect(budget.isWarm).toBe(false);
      budget.spend(0.011);
      expect(budget.isSpent).toBe(false);
    }
    expect(budget.isWarm).toBe(true);
    budget.spend(0.011);
    expect(budget.isSpent).toBe(true);
  });

  it("goes on while more is gained than lost", () => {
    const budget = new Budget(0);
    for (let i = 0; i < 1000; i++) {
      budget.settle(3, 1);
      budget.spend(1);
      expect(budget.isSpent).toBe(false);
    }
  });

  it("keeps of what was gained what a few tries lose", () => {
    const budget = new Budget(0);
    budget.spend(1);
    for (let i = 0; i < 10_000; i++) budget.settle(2, 1);
    let tries = 0;
    for (; !budget.isSpent; tries++) budget.spend(1);
    expect(tries).toBeGreaterThan(2);
    expect(tries).toBeLessThan(12);
  });

  it("takes what a large try has cost back from what it brings", () => {
    const budget = new Budget(0);
    budget.spend(5);
    for (let i = 0; i < 4; i++) budget.settle(2, 1);
    expect(budget.isSpent).toBe(true);
    budget.settle(2.5, 1);
    expect(budget.isSpent).toBe(false);
  });
});
