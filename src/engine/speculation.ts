import type { ScheduledBatch } from "../core/batch.js";
import type { EngineConfig } from "../core/config.js";
import type { RunnerLimits } from "../runner/runner.js";
import { roomForDrafts } from "../scheduler/stop.js";
import type { StepKind } from "../spec/draft-controller.js";
import type { Drafter } from "../spec/drafter.js";
import { Speculator } from "../spec/speculator.js";
import type { Constraints } from "./constraints.js";

/** Null where nothing is to be speculated. */
export function makeSpeculator(
  drafter: Drafter | undefined,
  config: Pick<EngineConfig, "speculativeConfig" | "maxNumBatchedTokens">,
  limits: RunnerLimits,
  constraints: Constraints,
): Speculator | null {
  const { speculativeConfig, maxNumBatchedTokens } = config;
  if (!drafter || !speculativeConfig) return null;
  return new Speculator({
    drafter,
    config: speculativeConfig,
    maxNumSeqs: limits.maxNumSeqs,
    vocabSize: limits.vocabSize,
    mostRows: Math.min(limits.maxNumSamples, maxNumBatchedTokens),
    room: (sequence) => roomForDrafts(sequence, limits.maxModelLen),
    verifiable: (sequence, drafts) =>
      constraints.numVerifiable(sequence, drafts),
  });
}

/** `isAhead`: the step after this one is under way already; `wasAhead`: so it was with this one. */
export function kindOf(
  { numDraftTokens }: ScheduledBatch,
  wasAhead: boolean,
  isAhead: boolean,
  { asyncScheduling }: Pick<EngineConfig, "asyncScheduling">,
): StepKind {
  if (numDraftTokens > 0) return wasAhead ? "other" : "drafted";
  if (!asyncScheduling) return "plain";
  if (wasAhead !== isAhead) return "other";
  return isAhead ? "plain" : "waited";
}

/** Whether every row of the step is one of a token to come. */
export function onlyDecodes(batch: ScheduledBatch): boolean {
  const { numSamples, numTokens, numSeqs, numDraftTokens } = batch;
  return numSamples === numTokens && numTokens === numSeqs + numDraftTokens;
}
