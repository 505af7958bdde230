import type { Tokenizer } from "../text/tokenizer.js";
import type { TokenLogprobs } from "./output.js";

/** JSON has no infinity: a token that cannot be sampled reports this, as in OpenAI's and vLLM's servers. */
const LOWEST = -9999;

const finite = (logprob: number): number => Math.max(logprob, LOWEST);

/** The text of one token by itself; U+FFFD for a part of a code point. */
function tokenText(tokenizer: Tokenizer, id: number): string {
  return Buffer.from(tokenizer.tokenBytes(id)).toString("utf8");
}

/** `logprobs` of a completion choice. Entry 0 of an echoed prompt is null. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  /** Into the choice's text, in code points as in OpenAI's and vLLM's servers (JavaScript: of `[...text]`). */
  text_offset: number[];
}

/**
 * Tokens of a choice in the shape of /v1/completions. A null logprob marks the first token of an echoed prompt.
 * @param numTop alternatives per token; the chosen token is always among them
 * @param offset of the first token in the choice's text
 * @param width code points that a token, given in order, adds to the choice's text
 */
export function completionLogprobs(
  tokens: readonly (TokenLogprobs | { token: number; logprob: null })[],
  numTop: number,
  offset: number,
  width: (token: number) => number,
  tokenizer: Tokenizer,
): CompletionLogprobs {
  const result: CompletionLogprobs = {
    tokens: [],
    token_logprobs: [],
    top_logprobs: [],
    text_offset: [],
  };
  for (const entry of tokens) {
    const text = tokenText(tokenizer, entry.token);
    result.tokens.push(text);
    result.text_offset.push(offset);
    offset += width(entry.token);
    if (entry.logprob === null) {
      result.token_logprobs.push(null);
      result.top_logprobs.push(null);
      continue;
    }
    result.token_logprobs.push(finite(entry.logprob));
    result.top_logprobs.push(topByText(entry, text, numTop, tokenizer));
  }
  return result;
}

function topByText(
  entry: TokenLogprobs,
  chosen: string,
  numTop: number,
  tokenizer: Tokenizer,
): Record<string, number> {
  const top: Record<string, number> = {};
  entry.topIds.slice(0, numTop).forEach((id, i) => {
    // Of tokens that read alike the likeliest, which comes first, keeps the key.
    top[tokenText(tokenizer, id)] ??= finite(entry.topLogprobs[i] ?? LOWEST);
  });
  top[chosen] ??= finite(entry.logprob);
  return top;
}

interface ChatToken {
  token: string;
  logprob: number;
  bytes: number[];
}

/** An entry of `logprobs.content` of a chat choice. */
export interface ChatLogprob extends ChatToken {
  top_logprobs: ChatToken[];
}

/** Tokens of a choice in the shape of /v1/chat/completions. */
export function chatLogprobs(
  tokens: readonly TokenLogprobs[],
  numTop: number,
  tokenizer: Tokenizer,
): { content: ChatLogprob[]; refusal: null } {
  const entry = (id: number, logprob: number): ChatToken => {
    const bytes = Buffer.from(tokenizer.tokenBytes(id));
    return {
      token: bytes.toString("utf8"),
      logprob: finite(logprob),
      bytes: [...bytes],
    };
  };
  return {
    content: tokens.map((token) => ({
      ...entry(token.token, token.logprob),
      top_logprobs: token.topIds
        .slice(0, numTop)
        .map((id, i) => entry(id, token.topLogprobs[i] ?? LOWEST)),
    })),
    refusal: null,
  };
}

/** vLLM's entry of prompt_logprobs: token id -> what is known of it. */
export type PromptLogprob = Record<
  string,
  { logprob: number; rank: number; decoded_token: string }
>;

/** `prompt_logprobs`: null for the first token, then one entry per prompt token, in order. */
export function promptLogprobs(
  positions: readonly TokenLogprobs[],
  numTop: number,
  tokenizer: Tokenizer,
): (PromptLogprob | null)[] {
  return [
    null,
    ...positions.map((position) => {
      const entry: PromptLogprob = {};
      const add = (id: number, logprob: number, rank: number): void => {
        entry[id] ??= {
          logprob: finite(logprob),
          rank,
          decoded_token: tokenText(tokenizer, id),
        };
      };
      add(position.token, position.logprob, position.rank);
      position.topIds
        .slice(0, numTop)
        .forEach((id, i) => add(id, position.topLogprobs[i] ?? LOWEST, i + 1));
      return entry;
    }),
  ];
}
