import { describe, expect, it } from "vitest";
import { Random } from "../../bench/random.js";
import { Acceptance, OverallAcceptance } from "../../src/spec/acceptance.js";
import { DraftController } from "../../src/spec/draft-controller.js";
import {
  expectedAccepted,
  planDrafts,
  type DraftCandidates,
} from "../../src/spec/draft-plan.js";
import { StepTimes } from "../../src/spec/step-times.js";
import { Waiting } from "../../src/spec/waiting.js";

function candidates(acceptance: number[], limit: number): DraftCandidates {
  const count = acceptance.length;
  return {
    count,
    acceptance: Float64Array.from(acceptance),
    reach: new Float64Array(count).fill(1),
    limit: new Int32Array(count).fill(limit),
  };
}

const many = (n: number, a: number): number[] => new Array<number>(n).fill(a);

/** Seconds of a step of `rows` rows. */
type Cost = (rows: number) => number;

const free: Cost = () => 0.01;
const linear: Cost = (rows) => 0.001 * rows;
/** Memory-bound up to 16 rows, then compute-bound. */
const roofline: Cost = (rows) => 0.01 * Math.max(1, rows / 16);
const shallow: Cost = (rows) => 0.05 + 0.0009 * rows;
const sloped: Cost = (rows) => 0.008 + 0.002 * rows;

describe("planDrafts", () => {
  const plan = (
    cost: Cost,
    acceptance: number[],
    limit: number,
    mostRows = 1000,
  ): number[] => {
    const out = new Int32Array(acceptance.length);
    const numSeqs = acceptance.length;
    planDrafts(
      numSeqs,
      candidates(acceptance, limit),
      { plain: cost(numSeqs), drafting: cost, mostRows },
      out,
    );
    return [...out];
  };

  it("takes all there is where rows are free, and nothing where each costs what it may bring", () => {
    expect(plan(free, [0.9, 0.8], 5)).toEqual([5, 5]);
    expect(plan(linear, [0.9, 0.8], 5)).toEqual([0, 0]);
  });

  it("gives more to the sequences whose drafts are right", () => {
    const [sure, likely, unlikely] = plan(shallow, [0.98, 0.7, 0.1], 8);
    expect(sure).toBeGreaterThan(likely as number);
    expect(likely).toBeGreaterThan(0);
    expect(unlikely).toBe(0);
  });

  it("is within 3 % of the best same length for all, tried one by one", () => {
    for (const cost of [roofline, sloped])
      for (const a of [0.3, 0.6, 0.9])
        for (const numSeqs of [1, 4, 16]) {
          const speed = (k: number): number =>
            (numSeqs * (1 + expectedAccepted(a, k))) / cost(numSeqs * (1 + k));
          const best = Math.max(
            ...Array.from({ length: 9 }, (_, k) => speed(k)),
          );
          const [planned] = plan(cost, new Array<number>(numSeqs).fill(a), 8);
          expect(speed(planned as number)).toBeGreaterThan(0.97 * best);
        }
  });

  it("keeps back a sequence without drafts by 2 %, or for a gain many times as large", () => {
    // A row takes 1.25 % of the step without drafts.
    const cost: Cost = (rows) => 0.8 + 0.0125 * rows;
    const rightFor = (numSure: number, numSeqs: number): number => {
      const acceptance = many(numSeqs, 0).fill(0.9, 0, numSure);
      return plan(cost, acceptance, 4).reduce((sum, k) => sum + k, 0);
    };
    // One draft more brings 5 % and takes 1.25; four for one sequence, 20 and 5.
    expect(rightFor(1, 16)).toBe(1);
    expect(rightFor(4, 16)).toBe(0);
    expect(rightFor(1, 2)).toBe(4);
    // Where all have drafts nobody is kept back.
    expect(rightFor(16, 16)).toBe(64);
  });

  it("stays within the rows it may have", () => {
    expect(plan(free, [0.99, 0.99, 0.99, 0.99], 5, 12)).toEqual([2, 2, 2, 2]);
    expect(plan(free, [0.99, 0.99], 5, 2)).toEqual([0, 0]);
  });
});

describe("StepTimes", () => {
  it("believes a time after three steps, the middle one of them", () => {
    const times = new StepTimes();
    times.observe(4, 0.5);
    times.observe(4, 0.1);
    expect(times.at(4)).toBeNaN();
    times.observe(4, 0.2);
    expect(times.at(4)).toBe(0.2);
  });

  it("is linear between what is known, and level beyond", () => {
    const times = new StepTimes();
    for (const rows of [2, 10])
      for (let i = 0; i < 3; i++) times.observe(rows, rows);
    expect(times.at(6)).toBe(6);
    expect(times.at(1)).toBe(2);
    expect(times.at(50)).toBe(10);
    expect(times.at(6, 4, 4)).toBe(6);
    expect(times.at(6, 4, 1)).toBe(4);
  });

  it("follows what changes, and is not led astray by one slow step", () => {
    const times = new StepTimes();
    for (let i = 0; i < 10; i++) times.observe(1, 1);
    times.observe(1, 1000);
    expect(times.at(1)).toBeLessThan(1.2);
    for (let i = 0; i < 100; i++) times.observe(1, 3);
    expect(times.at(1)).toBeCloseTo(3, 1);
  });

  it("hopes that cold steps become shorter, for a while", () => {
    const times = new StepTimes(true);
    for (const seconds of [9, 4, 5, 3, 6, 2, 7]) times.observe(4, seconds);
    expect(times.at(4)).toBe(2);
    for (let i = 0; i < 100; i++) times.observe(4, 3);
    expect(times.at(4)).toBeCloseTo(3, 1);
  });

  it("forgets what was not seen for long, later when it was the same again", () => {
    const times = new StepTimes();
    const pass = (steps: number): void => {
      for (let i = 0; i < steps; i++) times.tick();
    };
    for (let i = 0; i < 3; i++) times.observe(8, 1);
    pass(500);
    expect(times.knows(8)).toBe(true);
    pass(50);
    expect(times.knows(8)).toBe(false);
    times.observe(8, 1.1);
    pass(900);
    expect(times.knows(8)).toBe(true);
    pass(200);
    times.observe(8, 5);
    expect(times.knows(8)).toBe(false);
  });
});

describe("StepTimes between and beyond", () => {
  it("knows what lies between two sizes, and nothing beyond them", () => {
    const times = new StepTimes();
    for (const rows of [1, 16])
      for (let i = 0; i < 3; i++) times.observe(rows, rows);
    expect(times.knows(8)).toBe(true);
    expect(times.knows(40)).toBe(false);
    expect(times.slopeUpTo(16)).toBe(1);
    expect(times.slopeUpTo(1)).toBe(0);
  });
});

describe("OverallAcceptance", () => {
  it("tells drafts that rest on much from those that rest on little", () => {
    const overall = new OverallAcceptance();
    for (let i = 0; i < 50; i++) {
      overall.note(0, 1, 1);
      overall.note(5, 5, 4);
    }
    expect(overall.of(1)).toBeLessThan(0.1);
    expect(overall.of(4)).toBeGreaterThan(0.95);
    expect(overall.of(2)).toBeCloseTo(overall.estimate, 10);
  });
});

describe("Waiting", () => {
  const steps = (waiting: Waiting, worth: number, cost: number): number => {
    for (let step = 0; step < 1000; step++) {
      if (!waiting.pays) return step;
      waiting.note(worth, cost);
    }
    return 1000;
  };

  it("does not begin by itself, and ends once it has lost the time of a few steps", () => {
    const waiting = new Waiting();
    expect(waiting.pays).toBe(false);
    waiting.note(5, 1);
    expect(waiting.pays).toBe(false);
    waiting.begin();
    expect(steps(waiting, 1, 1.25)).toBeLessThan(60);
  });

  it("goes on where it costs nothing or drafts make up for it", () => {
    const waiting = new Waiting();
    waiting.begin();
    expect(steps(waiting, 1, 1)).toBe(1000);
    for (let i = 0; i < 100; i++) {
      waiting.note(3, 1.5);
      for (let without = 0; without < 5; without++) waiting.note(1, 1.2);
      expect(waiting.pays).toBe(true);
    }
    expect(steps(waiting, 1, 1.2)).toBeLessThan(100);
  });
});

interface World {
  cost: Cost;
  /** Of each sequence. */
  acceptance: number[];
  /** Share of plain's time that waiting for the step before costs. */
  waiting: number;
  noise: number;
}

/** Decodes with the controller, whose only clock is the cost; returns tokens a second as a multiple of plain decoding's. */
function speedUp({ cost, acceptance, waiting, noise }: World, steps: number) {
  const random = new Random(7);
  const numSeqs = acceptance.length;
  const controller = new DraftController(512);
  const estimates = acceptance.map(() => new Acceptance());
  const choice = candidates(acceptance, 5);
  const out = new Int32Array(numSeqs);
  const plainTime = cost(numSeqs);
  let seconds = 0;
  let tokens = 0;
  let previous = "";
  for (let step = 0; step < steps; step++) {
    for (const [i, estimate] of estimates.entries())
      choice.acceptance[i] = estimate.estimate(0.7);
    const drafts = controller.plan(numSeqs, choice, out);
    let rows = numSeqs;
    for (let i = 0; i < numSeqs; i++) {
      // Without drafts what would have been right is seen all the same (Forecast).
      const length = drafts ? (out[i] as number) : 1;
      let right = 0;
      while (right < length && random.uniform() < (acceptance[i] as number))
        right++;
      estimates[i]?.note(right, Math.min(right + 1, length));
      rows += drafts ? length : 0;
      tokens += 1 + (drafts ? right : 0);
    }
    const factor = 1 + noise * (random.uniform() - 0.5);
    const took = factor * (cost(rows) + (drafts ? waiting * plainTime : 0));
    seconds += took;
    const kind = drafts ? "drafted" : "plain";
    controller.noteStep(kind === previous ? kind : "other", rows, took);
    previous = kind;
  }
  return tokens / seconds / (numSeqs / plainTime);
}

describe("DraftController", () => {
  it("expects rows beyond the known ones to cost what rows cost", () => {
    const controller = new DraftController(512);
    const out = new Int32Array(16);
    for (const rows of [1, 16])
      for (let i = 0; i < 3; i++)
        controller.noteStep("plain", rows, linear(rows));
    expect(controller.plan(16, candidates(many(16, 0.6), 1), out)).toBe(false);
    expect(controller.costOfWaiting(16, 32)).toBeGreaterThan(1.6);
    for (let i = 0; i < 3; i++) controller.noteStep("waited", 16, 0.02);
    expect(controller.costOfWaiting(16, 16)).toBeCloseTo(1.25, 10);
  });

  it.each<[string, World]>([
    [
      "linear cost",
      { cost: linear, acceptance: many(4, 0.7), waiting: 0.05, noise: 0.1 },
    ],
    [
      "drafts that are wrong",
      { cost: sloped, acceptance: many(1, 0.05), waiting: 0.05, noise: 0.1 },
    ],
    [
      "a batch beyond the roofline",
      { cost: roofline, acceptance: many(16, 0.5), waiting: 0.05, noise: 0.1 },
    ],
    [
      "a large batch",
      { cost: roofline, acceptance: many(64, 0.6), waiting: 0.02, noise: 0.1 },
    ],
    [
      "waiting that costs more than drafts bring",
      { cost: free, acceptance: many(2, 0.2), waiting: 0.5, noise: 0.1 },
    ],
    [
      "much noise",
      { cost: linear, acceptance: many(16, 0.6), waiting: 0.05, noise: 0.5 },
    ],
  ])("is not slower than plain by more than 2 %% (%s)", (_name, world) => {
    expect(speedUp(world, 3000)).toBeGreaterThan(0.98);
  });

  it.each<[string, World, number]>([
    [
      "free rows",
      { cost: free, acceptance: many(1, 0.8), waiting: 0.02, noise: 0.1 },
      1 + expectedAccepted(0.8, 5),
    ],
    [
      "below the roofline",
      { cost: roofline, acceptance: many(2, 0.9), waiting: 0.02, noise: 0.1 },
      1 + expectedAccepted(0.9, 5),
    ],
    [
      "one good sequence among bad ones",
      {
        cost: roofline,
        acceptance: [0.95, ...many(7, 0.05)],
        waiting: 0.02,
        noise: 0.1,
      },
      (8 + expectedAccepted(0.95, 5)) / 8,
    ],
  ])("gains nearly what there is to gain (%s)", (_name, world, ideal) => {
    expect(speedUp(world, 3000)).toBeGreaterThan(1 + 0.85 * (ideal - 1));
  });
});
