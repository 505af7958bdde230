import { expect, it } from "vitest";
import { Sequence } from "../../src/core/sequence.js";
import { BlockTable } from "../../src/kv/block-table.js";
import { Speculator } from "../../src/spec/speculator.js";
import { request, text } from "../engine/simulation.js";

it("leaves no drafts of before when the drafter has failed", () => {
  const drafter = {
    method: "draft_model" as const,
    failure: null as string | null,
    propose: (batch: { push(i: number, token: number): void }) =>
      batch.push(0, 7),
    release: () => undefined,
    reset: () => undefined,
    close: () => undefined,
  };
  const speculator = new Speculator({
    drafter,
    config: { numSpeculativeTokens: 2, adaptive: false },
    maxNumSeqs: 1,
    vocabSize: 100,
    mostRows: 4,
    room: () => 2,
  });
  const sequence = new Sequence(
    request({ prompt: text(5) }),
    0,
    new BlockTable(),
    0,
  );
  sequence.numComputedTokens = 4;
  const running = { length: 1, at: () => sequence };
  speculator.propose(running);
  expect([...sequence.draftTokens]).toEqual([7]);
  // No step had room for them.
  drafter.failure = "it is gone";
  speculator.propose(running);
  expect([...sequence.draftTokens]).toEqual([]);
});
