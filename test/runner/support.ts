import { ScheduledBatch } from "../../src/core/batch.js";
import type { Request } from "../../src/core/request.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import type { SamplingParams } from "../../src/core/sampling-params.js";
import { Sequence } from "../../src/core/sequence.js";

export const NEUTRAL_PARAMS: SamplingParams = {
  ...NEUTRAL_SAMPLING,
  seedLo: 1,
};

export function makeRequest(
  prompt: number[],
  params: Partial<SamplingParams> = {},
  fields: Partial<Request> = {},
): Request {
  return {
    id: "r",
    handle: 1,
    promptTokenIds: Int32Array.from(prompt),
    params: { ...NEUTRAL_PARAMS, ...params },
    n: 1,
    priority: 0,
    cacheSalt: "",
    arrivalTime: 0,
    bypassPrefixCache: false,
    ...fields,
  };
}

export interface SequenceState {
  output?: number[];
  drafts?: number[];
  slot?: number;
  choice?: number;
  blocks: number[];
}

export function makeSequence(request: Request, state: SequenceState): Sequence {
  const table = {
    ids: Int32Array.from(state.blocks),
    length: state.blocks.length,
  };
  const sequence = new Sequence(request, state.choice ?? 0, table, 0);
  for (const token of state.output ?? []) sequence.append(token);
  sequence.slot = state.slot ?? 0;
  sequence.draftTokens = Int32Array.from(state.drafts ?? []);
  return sequence;
}

export function batchOf(
  ...entries: [
    sequence: Sequence,
    start: number,
    count: number,
    samples: number,
    feedbackRow?: number,
  ][]
): ScheduledBatch {
  const batch = new ScheduledBatch(Math.max(entries.length, 1));
  for (const [sequence, start, count, samples, feedbackRow] of entries)
    batch.add(
      sequence,
      start,
      count,
      sequence.draftTokens.length,
      samples,
      feedbackRow ?? -1,
    );
  return batch;
}
