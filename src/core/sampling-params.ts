/**
 * How the next token is chosen, in the order in which it is applied, the same on every device:
 * allowed ids, bad words, min tokens, logit bias; penalties; temperature; min-p; top-k; top-p; Gumbel-max draw.
 * All values are validated by the server before a Request is made.
 */
export interface SamplingParams {
  /** 0 is argmax (after bias and penalties). */
  temperature: number;
  /** (0, 1]; 1 keeps all. */
  topP: number;
  /** 0 keeps all. */
  topK: number;
  /** [0, 1]; 0 keeps all. Relative to the most likely token's probability. */
  minP: number;
  /** > 0; 1 is off. Over prompt and output. */
  repetitionPenalty: number;
  /** [-2, 2]; over output. */
  presencePenalty: number;
  /** [-2, 2]; over output. */
  frequencyPenalty: number;
  /** 64 bits as two unsigned halves; drawn at arrival when the request has none. Choice i of n uses seed + i. */
  seedLo: number;
  seedHi: number;
  maxTokens: number;
  /** No stop token is sampled, and no stop string ends the output, before this many tokens. */
  minTokens: number;
  /** End on these (the model's own eos ids included unless ignoreEos). */
  stopTokenIds: number[];
  /** Only these end the output as "eos" (stop_reason null); the rest of stopTokenIds report their id. */
  eosTokenIds: number[];
  ignoreEos: boolean;
  /** null, or the number of most likely tokens reported beside the sampled one (0..20). */
  logprobs: number | null;
  /** null, or the number of most likely tokens reported beside each prompt token (0..20). */
  promptLogprobs: number | null;
  /** Pairs (id, value); at most MAX_LOGIT_BIAS. */
  logitBias: [id: number, value: number][];
  /** null, or the only ids that may be sampled. */
  allowedTokenIds: number[] | null;
  /** Token sequences that may not appear in the output. */
  badWordsTokenIds: number[][];
  /** null, or the most drafts that are verified in a step for this request, instead of as many as the engine may; 0: none. Never changes the output. */
  numSpeculativeTokens: number | null;
}

/** Argmax over the raw logits: every option at the value that changes nothing. Arrays are not to be written to. */
export const NEUTRAL_SAMPLING: Readonly<SamplingParams> = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seedLo: 0,
  seedHi: 0,
  maxTokens: 16,
  minTokens: 0,
  stopTokenIds: [],
  eosTokenIds: [],
  ignoreEos: false,
  logprobs: null,
  promptLogprobs: null,
  logitBias: [],
  allowedTokenIds: null,
  badWordsTokenIds: [],
  numSpeculativeTokens: null,
};

/** Capacity of the arena's bias area per sampled row: logit_bias + bad words + banned stop ids. */
export const MAX_BIAS_PER_ROW = 1024;
/** Most alternatives reported per token (vLLM's default for max_logprobs). */
export const MAX_LOGPROBS = 20;
