import type { TokenEvent } from "../core/events.js";
import { FinishReason, FINISH_REASON_NAMES } from "../core/request.js";
import type { Detokenizer } from "../text/detokenizer.js";
import { StopStringMatcher } from "../text/stop-strings.js";
import type { Tokenizer } from "../text/tokenizer.js";

/** A token with its log-probability and alternatives, most likely first. */
export interface TokenLogprobs {
  token: number;
  logprob: number;
  rank: number;
  topIds: readonly number[];
  topLogprobs: readonly number[];
}

/** What one step adds to a choice. */
export interface Delta {
  text: string;
  /** Tokens of this step; text may lag behind them (split code points, possible stop strings). */
  tokenIds: number[];
  /** Of those tokens; empty when none were asked for. */
  logprobs: TokenLogprobs[];
  /** A name of FINISH_REASON_NAMES, or null while the choice goes on. */
  finishReason: (typeof FINISH_REASON_NAMES)[number] | null;
  /** The stop string or token that ended it; null for the model's own end. */
  stopReason: string | number | null;
}

export interface OutputOptions {
  skipSpecialTokens: boolean;
  /** Special tokens that are not skipped. */
  keepTokenIds?: ReadonlySet<number>;
  spacesBetweenSpecialTokens: boolean;
  stop: readonly string[];
  includeStopString: boolean;
  minTokens: number;
}

/** Tokens of one choice -> text, up to a stop string. The same for streams and whole answers. */
export class ChoiceOutput {
  private readonly detokenizer: Detokenizer;
  private readonly matcher: StopStringMatcher | null;
  /** Tokens taken, the one that completed a stop string included. */
  numTokens = 0;
  /** The last delta has been made. */
  ended = false;

  constructor(
    tokenizer: Tokenizer,
    private readonly options: OutputOptions,
  ) {
    this.detokenizer = tokenizer.createDetokenizer(options);
    this.matcher =
      options.stop.length > 0
        ? new StopStringMatcher(options.stop, options.includeStopString)
        : null;
  }

  /** Takes a token event. The delta's stopReason is a string when a stop string matched: the engine must be told. */
  token(event: TokenEvent): Delta {
    this.numTokens++;
    // The text of a stop token belongs to the output only where stop strings do.
    const hidden =
      event.finish === FinishReason.stop && !this.options.includeStopString;
    const delta: Delta = {
      text: "",
      tokenIds: [event.token],
      logprobs: event.numTop >= 0 ? [copyLogprobs(event)] : [],
      finishReason: null,
      stopReason: null,
    };
    const last = event.finish !== FinishReason.none;
    const piece = hidden ? "" : this.detokenizer.push(event.token);
    // At the end an unfinished code point becomes U+FFFD, and may complete a stop string too.
    this.match(delta, last ? piece + this.detokenizer.end() : piece);
    if (delta.stopReason === null && last) {
      delta.text += this.matcher?.flush() ?? "";
      delta.finishReason = FINISH_REASON_NAMES[event.finish];
      delta.stopReason = event.stopTokenId >= 0 ? event.stopTokenId : null;
    }
    this.ended = delta.finishReason !== null;
    return delta;
  }

  /** An end without a token (abort, error): the text held back comes out. */
  finish(reason: FinishReason): Delta {
    this.ended = true;
    const delta: Delta = {
      text: "",
      tokenIds: [],
      logprobs: [],
      finishReason: FINISH_REASON_NAMES[reason],
      stopReason: null,
    };
    this.match(delta, this.detokenizer.end());
    if (delta.stopReason === null) delta.text += this.matcher?.flush() ?? "";
    delta.finishReason = FINISH_REASON_NAMES[reason];
    return delta;
  }

  private match(delta: Delta, piece: string): void {
    if (this.matcher === null) {
      delta.text = piece;
      return;
    }
    const matching = this.numTokens >= this.options.minTokens;
    const { text, stopped } = this.matcher.push(piece, { matching });
    delta.text = text;
    if (stopped === null) return;
    delta.finishReason = "stop";
    delta.stopReason = stopped;
  }
}

/** The event is reused for the next one: a copy outlives it. */
export function copyLogprobs(event: TokenEvent): TokenLogprobs {
  const { token, logprob, rank, numTop } = event;
  const count = Math.max(0, numTop);
  return {
    token,
    logprob,
    rank,
    topIds: Array.from(event.topIds.subarray(0, count)),
    topLogprobs: Array.from(event.topLogprobs.subarray(0, count)),
  };
}
