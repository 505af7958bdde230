import { OctavoError } from "../core/errors.js";
import type { SamplingParams } from "../core/sampling-params.js";
import { MAX_BIAS_PER_ROW } from "../core/sampling-params.js";
import type { EngineInfo } from "../engine/messages.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { speculativeTokens } from "./speculation.js";
import { invalidField } from "./errors.js";
import type { CommonBody } from "./schemas.js";
import type { SeedSource } from "./seeds.js";

/** Most stop strings of a request. */
const MAX_STOP_STRINGS = 64;
const MAX_STOP_LENGTH = 4096;

/** All of SamplingParams but what depends on the prompt's length. */
export type PartialParams = Omit<SamplingParams, "maxTokens">;

export interface LogprobsWanted {
  logprobs: number | null;
  promptLogprobs: number | null;
}

/**
 * Sampling parameters of a body whose types and ranges the schema has checked; values against the vocabulary are
 * checked here. Defaults are the model's (generation_config.json). Errors: 400 that names the field.
 */
export async function samplingParams(
  body: CommonBody,
  wanted: LogprobsWanted,
  info: EngineInfo,
  tokenizer: Tokenizer,
  seeds: SeedSource,
): Promise<PartialParams> {
  const { generationDefaults: defaults, vocabSize } = info;
  const stopIds = body.stop_token_ids ?? [];
  checkIds("stop_token_ids", stopIds, vocabSize);
  const allowed = body.allowed_token_ids ?? null;
  if (allowed !== null) checkIds("allowed_token_ids", allowed, vocabSize);
  const ignoreEos = body.ignore_eos ?? false;
  const topK = body.top_k ?? defaults.topK ?? 0;
  return {
    temperature: body.temperature ?? defaults.temperature ?? 1,
    topP: body.top_p ?? defaults.topP ?? 1,
    topK: topK <= 0 ? 0 : Math.min(topK, vocabSize),
    minP: body.min_p ?? defaults.minP ?? 0,
    repetitionPenalty:
      body.repetition_penalty ?? defaults.repetitionPenalty ?? 1,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    ...seeds.of(body.seed),
    minTokens: body.min_tokens ?? 0,
    stopTokenIds: [
      ...new Set([...stopIds, ...(ignoreEos ? [] : info.eosTokenIds)]),
    ],
    eosTokenIds: info.eosTokenIds.filter((id) => !stopIds.includes(id)),
    ignoreEos,
    logprobs: wanted.logprobs,
    promptLogprobs: wanted.promptLogprobs,
    logitBias: logitBias(body.logit_bias ?? {}, vocabSize),
    allowedTokenIds: allowed,
    badWordsTokenIds: await badWords(body.bad_words ?? [], tokenizer),
    numSpeculativeTokens: speculativeTokens(body.speculative, info),
  };
}

/** Throws 400 for an id outside of the vocabulary. */
export function checkIds(
  param: string,
  ids: readonly number[],
  vocabSize: number,
): void {
  const bad = ids.findIndex((id) => id >= vocabSize);
  if (bad >= 0)
    throw invalidField(
      `${param}[${bad}]`,
      `a token id below ${vocabSize}`,
      ids[bad],
    );
}

function logitBias(
  bias: Record<string, unknown>,
  vocabSize: number,
): [id: number, value: number][] {
  const entries = Object.entries(bias);
  if (entries.length > MAX_BIAS_PER_ROW)
    throw invalidField(
      "logit_bias",
      `at most ${MAX_BIAS_PER_ROW} entries`,
      entries.length,
    );
  return entries.map(([key, value]) => {
    const id = Number(key);
    // One spelling of each: none can be there twice.
    if (!/^(0|[1-9]\d*)$/.test(key) || id >= vocabSize)
      throw invalidField(
        "logit_bias",
        `keys that are token ids below ${vocabSize}`,
        key,
      );
    if (typeof value !== "number" || !(Math.abs(value) <= 100))
      throw invalidField(
        `logit_bias.${key}`,
        "a number from -100 to 100",
        value,
      );
    return [id, value];
  });
}

/**
 * Token sequences of each word, inside of another one and after a space. vLLM has the second only where it is as long as
 * the first: there a word of two tokens comes back as the one token that it is after a space.
 */
async function badWords(
  words: readonly string[],
  tokenizer: Tokenizer,
): Promise<number[][]> {
  const sequences: number[][] = [];
  for (const word of words) {
    const text = word.trimStart();
    const encode = async (spelling: string): Promise<number[]> =>
      Array.from(await tokenizer.encode(spelling, { addSpecialTokens: false }));
    const [plain, spaced] = [await encode(text), await encode(` ${text}`)];
    if (plain.length === 0)
      throw invalidField("bad_words", "words that have tokens", word);
    sequences.push(plain);
    // What ends with the other spelling cannot come anyway.
    const ending = spaced.slice(-plain.length);
    if (ending.length < plain.length || ending.some((id, i) => id !== plain[i]))
      sequences.push(spaced);
  }
  return sequences;
}

/** `stop`: null, a string or a list of them. */
export function stopStrings(stop: unknown): string[] {
  if (stop === null || stop === undefined) return [];
  const list: unknown[] = Array.isArray(stop) ? stop : [stop];
  if (list.length > MAX_STOP_STRINGS)
    throw invalidField(
      "stop",
      `at most ${MAX_STOP_STRINGS} strings`,
      list.length,
    );
  return list.map((entry, i) => {
    const param = Array.isArray(stop) ? `stop[${i}]` : "stop";
    if (typeof entry !== "string")
      throw invalidField(
        param,
        param === "stop" ? "a string or a list of strings" : "a string",
        entry,
      );
    if (entry === "" || entry.length > MAX_STOP_LENGTH)
      throw invalidField(
        param,
        `a string of 1 to ${MAX_STOP_LENGTH} characters`,
        entry,
      );
    return entry;
  });
}

export interface Room {
  /** As the request has it; null: the rest of the context. */
  maxTokens: number | null;
  /** False: a default, cut to what is left instead of refused. */
  explicit: boolean;
  /** The field that set it, for errors. */
  param: string;
}

/**
 * How many tokens may be generated after `numPromptTokens`. Errors: context_length_exceeded, with OpenAI's sentence;
 * 400 where min_tokens asks for more.
 */
export function fitMaxTokens(
  numPromptTokens: number,
  room: Room,
  minTokens: number,
  maxModelLen: number,
  promptParam: string,
): number {
  const left = maxModelLen - numPromptTokens;
  const asked = room.maxTokens ?? left;
  if (left < 1 || (room.explicit && asked > left)) {
    const completion = room.explicit ? asked : Math.max(0, Math.min(asked, 1));
    throw new OctavoError(
      "context_length_exceeded",
      `This model's maximum context length is ${maxModelLen} tokens. However, you requested ${numPromptTokens + completion} tokens ` +
        `(${numPromptTokens} in the ${promptParam}, ${completion} in the completion). Please reduce the length of the ${promptParam} or completion.`,
      left < 1 ? promptParam : room.param,
    );
  }
  const maxTokens = Math.min(asked, left);
  if (minTokens > maxTokens)
    throw invalidField(
      "min_tokens",
      `at most max_tokens (${maxTokens})`,
      minTokens,
    );
  return maxTokens;
}
