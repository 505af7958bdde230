import { FinishReason } from "../core/request.js";
import type { Sequence } from "../core/sequence.js";

/**
 * Whether the sequence ends with the token appended last. A stop token counts only after minTokens other ones. The end of
 * a grammar always ends the sequence, whatever ignoreEos and minTokens say: nothing could follow.
 */
export function finishReasonOf(
  sequence: Sequence,
  maxModelLen: number,
): FinishReason {
  const { params, constraint } = sequence.request;
  const { numOutputTokens } = sequence;
  const token = sequence.tokens[sequence.numTokens - 1] as number;
  if (numOutputTokens > params.minTokens && params.stopTokenIds.includes(token))
    return FinishReason.stop;
  if (constraint?.grammar?.endTokenIds.includes(token))
    return FinishReason.stop;
  return reachesLength(sequence, 0, maxModelLen)
    ? FinishReason.length
    : FinishReason.none;
}

/** Whether the sequence is as long as it may be, with `more` tokens on top of those booked. */
export function reachesLength(
  sequence: Sequence,
  more: number,
  maxModelLen: number,
): boolean {
  return (
    sequence.numOutputTokens + more >= sequence.request.params.maxTokens ||
    sequence.numTokens + more >= maxModelLen
  );
}

/** Most drafts that can be of use: each may be followed by one more token within the sequence's length. */
export function roomForDrafts(
  { request, numOutputTokens, numTokens }: Sequence,
  maxModelLen: number,
): number {
  const left = Math.min(
    request.params.maxTokens - numOutputTokens,
    maxModelLen - numTokens,
  );
  return Math.max(0, left - 1);
}

/** The stop token to report: -1 for an end of sequence, which the reader names "stop" without a token. */
export function reportedStopToken(
  sequence: Sequence,
  reason: FinishReason,
): number {
  if (reason !== FinishReason.stop) return -1;
  const token = sequence.tokens[sequence.numTokens - 1] as number;
  return sequence.request.params.eosTokenIds.includes(token) ? -1 : token;
}
