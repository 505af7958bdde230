import type { Request } from "../core/request.js";
import type { SamplingParams } from "../core/sampling-params.js";

/** Ids and what is added to their logits; -Infinity bans an id. */
export interface BiasList {
  ids: Int32Array;
  values: Float32Array;
}

/**
 * What a request adds to its logits, worked out once. Ids outside of the vocabulary can't be sampled and are left out.
 */
export interface RequestBias {
  /** logit_bias and bad words of one token: every sampled row has them. */
  always: BiasList;
  /** The same, with the stop tokens banned: rows before min_tokens have these instead. */
  beforeMinTokens: BiasList;
  /** Bad words of several tokens: the last one is banned where the output ends in the others. */
  phrases: number[][];
  /** Bits of the only ids that may be sampled, [ceil(vocabSize / 32)], or null. */
  mask: Uint32Array | null;
}

const NO_BIAS: RequestBias = emptyBias();

/** Made for each request when it is first packed, gone with it. */
const cache = new WeakMap<Request, RequestBias>();

export function requestBias(request: Request, vocabSize: number): RequestBias {
  let bias = cache.get(request);
  if (!bias) {
    bias = isUnbiased(request.params)
      ? NO_BIAS
      : makeBias(request.params, vocabSize);
    cache.set(request, bias);
  }
  return bias;
}

/** True where penalties change nothing, so that the history of tokens is not read. */
export function penaltiesAreNeutral(params: SamplingParams): boolean {
  return (
    params.repetitionPenalty === 1 &&
    params.presencePenalty === 0 &&
    params.frequencyPenalty === 0
  );
}

/** The most entries that one row of the request can take in the arena's bias area; at most MAX_BIAS_PER_ROW may be used. */
export function maxBiasEntries(params: SamplingParams): number {
  const ids = new Set(params.logitBias.map(([id]) => id));
  for (const word of params.badWordsTokenIds) {
    const last = word.at(-1);
    if (last !== undefined) ids.add(last);
  }
  if (params.minTokens > 0) for (const id of endingIds(params)) ids.add(id);
  return ids.size;
}

/** The tokens that end the output, and so may not be sampled before min_tokens. */
function endingIds(params: SamplingParams): number[] {
  return params.ignoreEos
    ? params.stopTokenIds
    : [...params.stopTokenIds, ...params.eosTokenIds];
}

function isUnbiased(params: SamplingParams): boolean {
  return (
    params.logitBias.length === 0 &&
    params.badWordsTokenIds.length === 0 &&
    params.minTokens === 0 &&
    params.allowedTokenIds === null
  );
}

function makeBias(params: SamplingParams, vocabSize: number): RequestBias {
  const inVocabulary = (id: number): boolean => id >= 0 && id < vocabSize;
  const merged = new Map<number, number>();
  // Adding covers both rules: values of one id are summed, and nothing finite lifts a ban.
  const add = (id: number, value: number): void => {
    if (inVocabulary(id)) merged.set(id, (merged.get(id) ?? 0) + value);
  };
  for (const [id, value] of params.logitBias) add(id, value);
  const phrases: number[][] = [];
  for (const word of params.badWordsTokenIds) {
    if (word.length === 1) add(word[0] as number, -Infinity);
    else if (word.length > 1 && word.every(inVocabulary)) phrases.push(word);
  }
  const always = toList(merged);
  if (params.minTokens > 0)
    for (const id of endingIds(params)) add(id, -Infinity);
  return {
    always,
    beforeMinTokens: toList(merged),
    phrases,
    mask:
      params.allowedTokenIds &&
      makeMask(params.allowedTokenIds.filter(inVocabulary), vocabSize),
  };
}

function toList(merged: Map<number, number>): BiasList {
  return {
    ids: Int32Array.from(merged.keys()),
    values: Float32Array.from(merged.values()),
  };
}

function makeMask(allowed: number[], vocabSize: number): Uint32Array {
  const mask = new Uint32Array(Math.ceil(vocabSize / 32));
  for (const id of allowed)
    mask[id >>> 5] = (mask[id >>> 5] as number) | (1 << (id & 31));
  return mask;
}

function emptyBias(): RequestBias {
  const nothing: BiasList = {
    ids: new Int32Array(0),
    values: new Float32Array(0),
  };
  return { always: nothing, beforeMinTokens: nothing, phrases: [], mask: null };
}
