import { describe, expect, it } from "vitest";
import { EventKind, readEvents } from "../../src/core/events.js";
import { FinishReason } from "../../src/core/request.js";
import type { SchedulerConfig } from "../../src/scheduler/scheduler-config.js";
import { text } from "../engine/simulation.js";
import { Bench } from "./scheduler-bench.js";

describe("chunked prefill", () => {
  it("computes a prompt in chunks of the budget and samples at its end", () => {
    const bench = new Bench();
    const { handle } = bench.add({
      prompt: text(150),
      params: { maxTokens: 2 },
    });
    expect(bench.step()).toEqual([[handle, 0, 64, 0]]);
    expect(bench.step()).toEqual([[handle, 64, 64, 0]]);
    expect(bench.step()).toEqual([[handle, 128, 22, 1]]);
    expect(bench.step()).toEqual([[handle, 150, 1, 1]]);
    expect(bench.step()).toEqual([]);
    expect(bench.report.finishReasons).toEqual([FinishReason.length]);
  });

  it("lets an older prompt go first, and those that decode before new ones", () => {
    const bench = new Bench();
    const long = bench.add({ prompt: text(200, 1) });
    bench.step();
    const short = bench.add({ prompt: text(5, 2) });
    // The long prompt is older and takes the whole budget until it is done.
    expect(bench.step()).toEqual([[long.handle, 64, 64, 0]]);
    expect(bench.step()).toEqual([[long.handle, 128, 64, 0]]);
    expect(bench.step()).toEqual([
      [long.handle, 192, 8, 1],
      [short.handle, 0, 5, 1],
    ]);
    const later = bench.add({ prompt: text(100, 3) });
    expect(bench.step()).toEqual([
      [long.handle, 200, 1, 1],
      [short.handle, 5, 1, 1],
      [later.handle, 0, 62, 0],
    ]);
  });

  it("keeps a decode token for younger sequences while an older prompt goes on", () => {
    const bench = new Bench({ schedulingPolicy: "priority" });
    const young = bench.add({ prompt: text(5, 2), priority: 1 });
    bench.step();
    const first = bench.add({ prompt: text(200, 1), priority: 0 });
    bench.step();
    expect(bench.step()).toEqual([
      [first.handle, 63, 63, 0],
      [young.handle, 6, 1, 1],
    ]);
  });

  it("bounds each chunk by the long-prefill threshold", () => {
    const bench = new Bench({ longPrefillTokenThreshold: 20 });
    const a = bench.add({ prompt: text(50, 1) });
    const b = bench.add({ prompt: text(50, 2) });
    expect(bench.step()).toEqual([
      [a.handle, 0, 20, 0],
      [b.handle, 0, 20, 0],
    ]);
  });

  it("cuts a prompt whose log-probabilities are wanted to the free sample rows", () => {
    const bench = new Bench();
    const { handle } = bench.add({
      prompt: text(10),
      params: { promptLogprobs: 0, maxTokens: 1 },
    });
    expect(bench.step()).toEqual([[handle, 0, 4, 4]]);
    expect(bench.step()).toEqual([[handle, 4, 4, 4]]);
    expect(bench.step()).toEqual([[handle, 8, 2, 2]]);
    const kinds: number[] = [];
    readEvents(bench.report.events.toMessage(), ({ kind }) => kinds.push(kind));
    expect(kinds).toEqual([
      ...Array<number>(9).fill(EventKind.promptLogprob),
      EventKind.token,
    ]);
  });
});

describe("admission", () => {
  it("is bounded by the number of sequences, in order of arrival", () => {
    const bench = new Bench({ maxNumSeqs: 2 });
    const handles = [1, 2, 3].map(
      (seed) => bench.add({ prompt: text(5, seed) }).handle,
    );
    expect(bench.step().map(([handle]) => handle)).toEqual(handles.slice(0, 2));
    expect(bench.scheduler.numQueued).toBe(1);
    bench.scheduler.abort(handles[0] ?? 0, -1, FinishReason.abort);
    expect(bench.step().map(([handle]) => handle)).toEqual(handles.slice(1));
  });

  it("is by priority under that policy", () => {
    const bench = new Bench({ maxNumSeqs: 1, schedulingPolicy: "priority" });
    const low = bench.add({ prompt: text(5, 1), priority: 5 });
    const high = bench.add({
      prompt: text(5, 2),
      priority: -5,
      params: { maxTokens: 1 },
    });
    expect(bench.step()[0]?.[0]).toBe(high.handle);
    expect(bench.step()[0]?.[0]).toBe(low.handle);
  });

  it("waits until the whole prompt has room beside what runs", () => {
    const bench = new Bench({ numBlocks: 16, maxNumBatchedTokens: 16 });
    bench.add({ prompt: text(200, 1) });
    bench.step();
    const second = bench.add({ prompt: text(100, 2) });
    for (let i = 0; i < 14; i++)
      expect(bench.step().map(([handle]) => handle)).not.toContain(
        second.handle,
      );
    expect(bench.scheduler.numQueued).toBe(1);
    expect(bench.scheduler.numPreemptions).toBe(0);
  });
});

describe("preemption", () => {
  function fill(
    config: Partial<SchedulerConfig>,
    priorities: number[],
  ): { bench: Bench; handles: number[] } {
    const bench = new Bench({
      numBlocks: 6,
      maxModelLen: 96,
      enablePrefixCaching: false,
      ...config,
    });
    const handles = priorities.map(
      (priority, i) =>
        bench.add({ prompt: text(31, i), priority, params: { maxTokens: 60 } })
          .handle,
    );
    for (let i = 0; i < 2; i++) bench.step();
    return { bench, handles };
  }

  it("drops the youngest, which keeps its tokens and comes back first", () => {
    const { bench, handles } = fill({}, [0, 0, 0]);
    const [a, b, c] = handles;
    const newcomer = bench.add({ prompt: text(5, 9) });
    expect(bench.step().map(([handle]) => handle)).toEqual([a, b]);
    expect(bench.scheduler.numPreemptions).toBe(1);
    bench.scheduler.abort(a ?? 0, -1, FinishReason.abort);
    // 31 prompt tokens and the one that it had made; the newcomer is behind.
    const scheduled = bench.step();
    expect(scheduled[1]).toEqual([c, 0, 32, 1]);
    expect(scheduled.map(([handle]) => handle)).toEqual([
      b,
      c,
      newcomer.handle,
    ]);
  });

  it("drops the drafts of a sequence too: they were for its next step, and may be anything in a later one", () => {
    const bench = new Bench({
      numBlocks: 4,
      maxModelLen: 64,
      maxNumSamples: 8,
    });
    const prefix = text(32, 1);
    const old = bench.add({ prompt: [...prefix, ...text(15, 2)] });
    bench.step();
    const young = bench.add({ prompt: prefix });
    bench.step();
    // The old one needs a fourth block, and none is left for the young one, which shares the first two.
    const { runningSequences } = bench.scheduler;
    expect(runningSequences.at(1).request.handle).toBe(young.handle);
    runningSequences.at(1).draftTokens = Int32Array.of(5, 1 << 20);
    expect(bench.schedule(true).map(([handle]) => handle)).toEqual([
      old.handle,
    ]);
    bench.scheduler.abort(old.handle, -1, FinishReason.abort);
    expect(bench.schedule(true)).toEqual([[young.handle, 32, 1, 1]]);
  });

  it("drops the lowest priority before the youngest", () => {
    const { bench, handles } = fill(
      { schedulingPolicy: "priority" },
      [1, 3, 2],
    );
    const [a, , c] = handles;
    expect(bench.step().map(([handle]) => handle)).toEqual([a, c]);
  });
});

describe("ends", () => {
  it.each([
    ["a stop token", { stopTokenIds: [5] }, 1, FinishReason.stop],
    [
      "a stop token after min_tokens others",
      { stopTokenIds: [5], minTokens: 3 },
      4,
      FinishReason.stop,
    ],
    ["max_tokens", { maxTokens: 7 }, 7, FinishReason.length],
    ["the model's length", { maxTokens: 10_000 }, 246, FinishReason.length],
  ])("with %s", (_, params, numTokens, reason) => {
    const bench = new Bench();
    bench.add({ prompt: text(10), params });
    while (bench.scheduler.hasUnfinished) bench.step();
    expect(bench.report.finished[0]?.numOutputTokens).toBe(numTokens);
    expect(bench.report.finishReasons).toEqual([reason]);
  });

  it("reports the stop token, but not an end of sequence", () => {
    const stops: number[] = [];
    for (const eosTokenIds of [[], [5]]) {
      const bench = new Bench();
      bench.add({
        prompt: text(10),
        params: { stopTokenIds: [5], eosTokenIds },
      });
      bench.step();
      readEvents(bench.report.events.toMessage(), (event) =>
        stops.push(event.stopTokenId),
      );
    }
    expect(stops).toEqual([5, -1]);
  });
});

describe("refusals", () => {
  it("names the flags when one sequence would not fit", () => {
    expect(() => new Bench({ numBlocks: 15 })).toThrow(
      expect.objectContaining({
        code: "invalid_config",
        message: expect.stringMatching(
          /needs 16 KV blocks.*--num-gpu-blocks-override.*--max-model-len/,
        ),
      }),
    );
    // A windowed sequence needs its window and two chunks only.
    expect(() => new Bench({ numBlocks: 15, slidingWindow: 32 })).not.toThrow();
  });

  it("refuses prompts without room for a token, without tokens, and handles in use", () => {
    const bench = new Bench();
    expect(() => bench.add({ prompt: text(256) })).toThrow(
      expect.objectContaining({ code: "context_length_exceeded" }),
    );
    expect(() => bench.add({ prompt: [] })).toThrow(
      expect.objectContaining({ code: "invalid_request" }),
    );
    bench.add({ prompt: text(5), handle: 1 });
    expect(() => bench.add({ prompt: text(5), handle: 1 })).toThrow(
      expect.objectContaining({ code: "invalid_request" }),
    );
    expect(bench.scheduler.numQueued).toBe(1);
  });
});
