import { Random } from "../../bench/random.js";
import type { Request } from "../../src/core/request.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import type { SamplingParams } from "../../src/core/sampling-params.js";

/** Uniform in [0, 1), the same sequence every time. */
export function randomSource(seed: number): () => number {
  const random = new Random(seed);
  return () => random.uniform();
}

export const NEUTRAL_PARAMS: SamplingParams = {
  ...NEUTRAL_SAMPLING,
  ignoreEos: true,
  logprobs: 0,
};

export function requestOf(
  handle: number,
  prompt: readonly number[],
  params: Partial<SamplingParams> = {},
  rest: Partial<Omit<Request, "params">> = {},
): Request {
  return {
    id: `request-${handle}`,
    handle,
    promptTokenIds: Int32Array.from(prompt),
    params: { ...NEUTRAL_PARAMS, ...params },
    n: 1,
    priority: 0,
    cacheSalt: "",
    arrivalTime: 0,
    bypassPrefixCache: params.promptLogprobs != null,
    ...rest,
  };
}

/**
 * Requests of mixed lengths and samplings; half of them start with one of three prefixes. `vocab` ids, prompts of up to
 * `maxPrompt` tokens, outputs of up to `maxOutput`.
 */
export function randomRequests(
  count: number,
  vocab: number,
  maxPrompt: number,
  maxOutput: number,
  seed: number,
): Request[] {
  const random = randomSource(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const ids = (n: number): number[] =>
    Array.from({ length: n }, () => 3 + below(vocab - 3));
  const prefixes = [ids(33), ids(48), ids(80)];
  return Array.from({ length: count }, (_, i) => {
    const shared = random() < 0.5 ? (prefixes[below(3)] ?? []) : [];
    const prompt = [...shared, ...ids(1 + below(maxPrompt - shared.length))];
    return requestOf(i + 1, prompt, randomParams(random, ids, i, maxOutput), {
      n: i % 7 === 3 ? 3 : 1,
      priority: below(3),
    });
  });
}

function randomParams(
  random: () => number,
  ids: (n: number) => number[],
  i: number,
  maxOutput: number,
): Partial<SamplingParams> {
  const params: Partial<SamplingParams> = {
    temperature: [0, 0.7, 1, 1.4][i % 4] ?? 0,
    seedLo: Math.floor(random() * 2 ** 32) | 0,
    seedHi: i,
    maxTokens: 1 + Math.floor(random() * maxOutput),
    logprobs: i % 5,
  };
  const option = i % 8;
  if (option === 1) params.topP = 0.8;
  if (option === 2) params.topK = 12;
  if (option === 3) params.minP = 0.05;
  if (option === 4)
    Object.assign(params, {
      repetitionPenalty: 1.3,
      presencePenalty: 0.4,
      frequencyPenalty: 0.6,
    });
  if (option === 5)
    Object.assign(params, {
      logitBias: ids(20).map((id) => [id, random() * 8 - 4]),
      badWordsTokenIds: [...ids(40).map((id) => [id]), ids(2), ids(3)],
    });
  if (option === 6)
    Object.assign(params, {
      allowedTokenIds: [...new Set(ids(60))],
      stopTokenIds: ids(30),
      minTokens: 3,
    });
  if (option === 7) params.promptLogprobs = 2;
  return params;
}
