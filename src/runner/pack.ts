import type { ScheduledBatch } from "../core/batch.js";
import { assert } from "../core/errors.js";
import { MAX_BIAS_PER_ROW } from "../core/sampling-params.js";
import type { Sequence } from "../core/sequence.js";
import { requestBias } from "./sampling-rows.js";
import type { BiasList, RequestBias } from "./sampling-rows.js";
import type { StepArena } from "./step-arena.js";

export interface PackSizes {
  maxBlocksPerSeq: number;
  blockSize: number;
  vocabSize: number;
}

/**
 * Writes the inputs of one step into the arena: every input array, for the batch's tokens, sequences and sampled rows
 * (see StepArena for lengths). Makes no garbage.
 *
 *   row of sequence i    start[i] ......................................... start[i] + count[i]
 *                        known tokens | token in flight, -1 - feedbackRow | the last numDrafts[i]: drafts
 *                                                        the last samplesOf[i] of them are sampled
 */
export function packBatch(
  arena: StepArena,
  batch: ScheduledBatch,
  sizes: PackSizes,
): void {
  cursor.tokenRow = 0;
  cursor.sampleRow = 0;
  cursor.bias = 0;
  arena.queryStart[0] = 0;
  arena.biasStart[0] = 0;
  for (let i = 0; i < batch.numSeqs; i++) {
    const sequence = batch.sequence(i);
    packSequence(arena, batch, i, sequence, sizes);
    packTokens(arena, batch, i, sequence, sizes.blockSize);
    if ((batch.samplesOf[i] as number) > 0)
      packSamples(arena, batch, i, sequence, sizes.vocabSize);
  }
}

/** Bounds of what native takes: a valid double of a request may still be 0 or Infinity as float32. */
const SMALLEST = 2 ** -126;
const LARGEST = 2 ** 127;
const LARGEST_INT = 0x7fffffff;

/** Where the next row, and bias entry go; kept between calls only so that a step makes no garbage. */
const cursor = { tokenRow: 0, sampleRow: 0, bias: 0 };

function packSequence(
  arena: StepArena,
  batch: ScheduledBatch,
  i: number,
  sequence: Sequence,
  { maxBlocksPerSeq, blockSize }: PackSizes,
): void {
  const contextLen = (batch.start[i] as number) + (batch.count[i] as number);
  arena.queryStart[i + 1] = cursor.tokenRow + (batch.count[i] as number);
  arena.contextLens[i] = contextLen;
  arena.seqSlot[i] = sequence.slot;
  arena.numPromptTokens[i] = sequence.numPromptTokens;
  const { ids } = sequence.blockTable;
  const { blockTables } = arena;
  const numBlocks = Math.ceil(contextLen / blockSize);
  const table = i * maxBlocksPerSeq;
  for (let b = 0; b < numBlocks; b++) blockTables[table + b] = ids[b] as number;
}

function packTokens(
  arena: StepArena,
  batch: ScheduledBatch,
  i: number,
  sequence: Sequence,
  blockSize: number,
): void {
  const { inputIds, positions, slotMapping } = arena;
  const { tokens, numTokens, draftTokens } = sequence;
  const { ids } = sequence.blockTable;
  const start = batch.start[i] as number;
  const end = start + (batch.count[i] as number);
  const firstDraft = end - (batch.numDrafts[i] as number);
  let row = cursor.tokenRow;
  for (let p = start; p < end; p++, row++) {
    if (p >= firstDraft) inputIds[row] = draftTokens[p - firstDraft] as number;
    else if (p < numTokens) inputIds[row] = tokens[p] as number;
    else inputIds[row] = -1 - feedbackRow(batch, i, p, firstDraft);
    positions[row] = p;
    slotMapping[row] =
      (ids[Math.floor(p / blockSize)] as number) * blockSize + (p % blockSize);
  }
  cursor.tokenRow = row;
}

function feedbackRow(
  batch: ScheduledBatch,
  i: number,
  position: number,
  firstDraft: number,
): number {
  const row = batch.feedbackRow[i] as number;
  assert(
    row >= 0 && position === firstDraft - 1,
    `position ${position} of sequence ${i} in the batch is in flight: its row (${row}) of the previous launch is known, and it is the last before the drafts`,
  );
  return row;
}

function packSamples(
  arena: StepArena,
  batch: ScheduledBatch,
  i: number,
  sequence: Sequence,
  vocabSize: number,
): void {
  const samples = batch.samplesOf[i] as number;
  const end = (batch.start[i] as number) + (batch.count[i] as number);
  const firstDraft = end - (batch.numDrafts[i] as number);
  const bias = requestBias(sequence.request, vocabSize);
  for (let s = 0; s < samples; s++) {
    const position = end - samples + s;
    const r = cursor.sampleRow++;
    arena.sampleRows[r] = cursor.tokenRow - samples + s;
    arena.rowSlot[r] = sequence.slot;
    arena.rowPosition[r] = position;
    arena.maskRow[r] = -1;
    packSeed(arena, r, sequence);
    if (position < sequence.numPromptTokens - 1) {
      packPromptRow(arena, r, sequence, position);
    } else {
      packGeneratingRow(arena, r, sequence);
      packBias(arena, sequence, bias, position, firstDraft);
      if (bias.mask) setMask(arena, r, bias.mask);
    }
    arena.biasStart[r + 1] = cursor.bias;
  }
}

/** seed + choice over 64 bits: each choice of a request draws for itself. */
function packSeed(
  arena: StepArena,
  r: number,
  { request, choice }: Sequence,
): void {
  const low = (request.params.seedLo >>> 0) + choice;
  arena.seedLo[r] = low;
  arena.seedHi[r] = (request.params.seedHi >>> 0) + (low > 0xffffffff ? 1 : 0);
}

/** A row inside of the prompt: what it samples is dropped, the log-probability of the prompt's next token is wanted. */
function packPromptRow(
  arena: StepArena,
  r: number,
  { tokens, request }: Sequence,
  position: number,
): void {
  const { promptLogprobs } = request.params;
  arena.temperature[r] = 0;
  arena.topP[r] = 1;
  arena.minP[r] = 0;
  arena.topK[r] = 0;
  arena.repetition[r] = 1;
  arena.presence[r] = 0;
  arena.frequency[r] = 0;
  arena.targetId[r] =
    promptLogprobs === null ? -1 : (tokens[position + 1] as number);
  arena.numTop[r] = promptLogprobs ?? -1;
}

function packGeneratingRow(
  arena: StepArena,
  r: number,
  { request: { params } }: Sequence,
): void {
  arena.temperature[r] = params.temperature;
  arena.topP[r] = Math.max(params.topP, SMALLEST);
  arena.minP[r] = params.minP;
  arena.topK[r] = Math.min(params.topK, LARGEST_INT);
  arena.repetition[r] = Math.min(
    Math.max(params.repetitionPenalty, SMALLEST),
    LARGEST,
  );
  arena.presence[r] = params.presencePenalty;
  arena.frequency[r] = params.frequencyPenalty;
  arena.targetId[r] = -1;
  arena.numTop[r] = params.logprobs ?? -1;
}

function packBias(
  arena: StepArena,
  sequence: Sequence,
  bias: RequestBias,
  position: number,
  firstDraft: number,
): void {
  const first = cursor.bias;
  // Tokens of output before the one that this row samples, those in flight and drafts included.
  const numOutput = position + 1 - sequence.numPromptTokens;
  copyBias(
    arena,
    numOutput < sequence.request.params.minTokens
      ? bias.beforeMinTokens
      : bias.always,
  );
  for (const phrase of bias.phrases)
    if (outputEndsInPhrase(sequence, phrase, position, numOutput, firstDraft))
      banId(arena, first, phrase[phrase.length - 1] as number);
  assert(
    cursor.bias - first <= MAX_BIAS_PER_ROW,
    `request ${sequence.request.id} has ${cursor.bias - first} biased tokens in a row, at most ${MAX_BIAS_PER_ROW} fit`,
  );
}

function copyBias(
  { biasId, biasValue }: StepArena,
  { ids, values }: BiasList,
): void {
  let at = cursor.bias;
  for (let k = 0; k < ids.length; k++, at++) {
    biasId[at] = ids[k] as number;
    biasValue[at] = values[k] as number;
  }
  cursor.bias = at;
}

/** An id appears once in a row's list: native adds what it finds, whatever the order. */
function banId(
  { biasId, biasValue }: StepArena,
  first: number,
  id: number,
): void {
  let at = first;
  while (at < cursor.bias && biasId[at] !== id) at++;
  if (at === cursor.bias) cursor.bias++;
  biasId[at] = id;
  biasValue[at] = -Infinity;
}

/** Whether the output up to `position` (never the prompt) ends in all of the phrase but its last token. */
function outputEndsInPhrase(
  sequence: Sequence,
  phrase: number[],
  position: number,
  numOutput: number,
  firstDraft: number,
): boolean {
  const length = phrase.length - 1;
  if (length > numOutput) return false;
  for (let k = 0; k < length; k++)
    if (tokenAt(sequence, position - length + 1 + k, firstDraft) !== phrase[k])
      return false;
  return true;
}

/** A booked token or a draft; -1 for a token in flight (sequences with such phrases are not run ahead). */
function tokenAt(
  { tokens, numTokens, draftTokens }: Sequence,
  position: number,
  firstDraft: number,
): number {
  if (position >= firstDraft)
    return draftTokens[position - firstDraft] as number;
  return position < numTokens ? (tokens[position] as number) : -1;
}

/** Allows sampled row `r` only the tokens of `mask` (Uint32 [ceil(vocabSize / 32)]) that it was allowed before. */
export function setMask(
  { maskRow, masks }: StepArena,
  r: number,
  mask: Uint32Array,
): void {
  const first = r * mask.length;
  if (maskRow[r] === -1) {
    masks.set(mask, first);
    maskRow[r] = r;
  } else {
    for (let w = 0; w < mask.length; w++)
      masks[first + w] = (masks[first + w] as number) & (mask[w] as number);
  }
}
