import { EventKind } from "../core/events.js";
import type { TokenEvents } from "../core/events.js";
import { FinishReason } from "../core/request.js";
import { MAX_LOGPROBS } from "../core/sampling-params.js";
import type { Sequence } from "../core/sequence.js";
import { reportedStopToken } from "./stop.js";

/** What the scheduler reads of a runner's results; row r of each array belongs to the r-th sampled row of the batch. */
export interface StepRows {
  sampledIds: Int32Array;
  logprob: Float32Array;
  rank: Int32Array;
  targetLogprob: Float32Array;
  targetRank: Int32Array;
  /** [numSamples * MAX_LOGPROBS] */
  topIds: Int32Array;
  topLogprobs: Float32Array;
}

/** The sampled rows of one sequence in a batch: `count` rows from `first` on, of positions from `firstPosition` on. */
export interface SampledRows {
  first: number;
  count: number;
  firstPosition: number;
}

/** Whether prompt rows of this choice are still to be sampled; they are reported once a request, with choice 0. */
export function needsPromptRows(sequence: Sequence): boolean {
  return (
    sequence.request.params.promptLogprobs !== null &&
    sequence.choice === 0 &&
    sequence.numPromptTokens > 1 &&
    sequence.numPromptLogprobs < sequence.numPromptTokens
  );
}

/** Position of the first row whose target's log-probability is not reported yet: the target is the next token. */
export function firstPromptRow(sequence: Sequence): number {
  return Math.max(0, sequence.numPromptLogprobs - 1);
}

/** Reports the log-probabilities of the prompt tokens that follow the rows. */
export function bookPromptLogprobs(
  sequence: Sequence,
  rows: SampledRows,
  output: StepRows,
  events: TokenEvents,
): void {
  const { handle, params } = sequence.request;
  const end = Math.min(
    rows.firstPosition + rows.count,
    sequence.numPromptTokens - 1,
  );
  for (let p = firstPromptRow(sequence); p < end; p++) {
    const row = rows.first + p - rows.firstPosition;
    events.pushWithLogprobs(
      handle,
      sequence.choice,
      EventKind.promptLogprob,
      sequence.tokens[p + 1] as number,
      FinishReason.none,
      -1,
      output.targetLogprob[row] as number,
      output.targetRank[row] as number,
      params.promptLogprobs ?? 0,
      output.topIds,
      output.topLogprobs,
      row * MAX_LOGPROBS,
    );
    sequence.numPromptLogprobs = p + 2;
  }
}

/** Reports the token that was appended last, sampled in `row`. */
export function pushToken(
  sequence: Sequence,
  reason: FinishReason,
  row: number,
  output: StepRows,
  events: TokenEvents,
): void {
  const { request, choice } = sequence;
  const { logprobs } = request.params;
  const token = output.sampledIds[row] as number;
  const stop = reportedStopToken(sequence, reason);
  if (logprobs === null) {
    events.push(request.handle, choice, EventKind.token, token, reason, stop);
    return;
  }
  events.pushWithLogprobs(
    request.handle,
    choice,
    EventKind.token,
    token,
    reason,
    stop,
    output.logprob[row] as number,
    output.rank[row] as number,
    logprobs,
    output.topIds,
    output.topLogprobs,
    row * MAX_LOGPROBS,
  );
}

/** Prompt tokens up to `end` are computed. */
export function notePromptComputed(sequence: Sequence, end: number): void {
  const found = Math.max(0, sequence.numCachedTokens);
  sequence.numPromptTokensComputed = Math.max(
    sequence.numPromptTokensComputed,
    Math.min(end, sequence.numPromptTokens) - found,
  );
}
