import { readFileSync, statSync } from "node:fs";
import { OctavoError } from "../core/errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { Sequences } from "./walk.js";

/** Fewer tell too little about the size of activations. */
const MIN_TOKENS = 512;
const MAX_SEQUENCE = 512;
/** Characters that are tokenized at a time. */
const PIECE = 1 << 16;
/** Held-out tokens for each token of calibration. */
const HELD_OUT_SHARE = 1 / 4;

export interface Calibration {
  /** Of calibration first, then the held-out ones. */
  sequences: Sequences;
  /** How many are for calibration, and their tokens. */
  numSequences: number;
  numTokens: number;
  numHeldOutTokens: number;
}

/** A text file in UTF-8. Errors: `invalid_config` naming the flag and the file. */
export function readCalibrationText(file: string): string {
  const fail = (problem: string): OctavoError =>
    new OctavoError("invalid_config", `--calib ${file}: ${problem}`, "calib");
  let bytes: Buffer;
  try {
    if (!statSync(file).isFile()) throw fail("expected a text file");
    bytes = readFileSync(file);
  } catch (error) {
    if (error instanceof OctavoError) throw error;
    throw fail(`cannot be read: ${(error as Error).message}`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw fail("expected text in UTF-8");
  }
}

/**
 * Cuts a text into sequences of at most 512 tokens (and less than the model's context): the first `numTokens` tokens to
 * calibrate on, a quarter as many after them to measure perplexity on; in the same proportion where the text is
 * shorter. Each starts with the token bos where the tokenizer puts one.
 * Errors: `invalid_config` for a text that is too short.
 */
export async function makeCalibration(
  text: string,
  tokenizer: Tokenizer,
  numTokens: number,
  maxLength: number,
  bosTokenId: number | null,
): Promise<Calibration> {
  const wanted = Math.ceil(numTokens * (1 + HELD_OUT_SHARE));
  const ids = await encodeUpTo(text, tokenizer, wanted);
  if (ids.length < MIN_TOKENS)
    throw new OctavoError(
      "invalid_config",
      `--calib: expected a text of at least ${MIN_TOKENS} tokens (some thousands are better), got ${ids.length}.`,
      "calib",
    );
  const split = Math.ceil(ids.length / (1 + HELD_OUT_SHARE));
  const around = await tokenizer.encode("", { addSpecialTokens: true });
  const prefix =
    bosTokenId !== null && around[0] === bosTokenId ? [bosTokenId] : [];
  // As long as a prompt can be: one position is for what follows.
  const length = Math.max(
    2,
    Math.min(MAX_SEQUENCE, maxLength - 1) - prefix.length,
  );
  const calibration = cut(ids.slice(0, split), length, prefix, bosTokenId);
  const heldOut = cut(ids.slice(split), length, prefix, bosTokenId);
  const all = [...calibration, ...heldOut];
  const count = (lists: number[][]): number =>
    lists.reduce((sum, list) => sum + list.length, 0);
  return {
    sequences: {
      tokenIds: Int32Array.from(all.flat()),
      lengths: Int32Array.from(all, (chunk) => chunk.length),
    },
    numSequences: calibration.length,
    numTokens: count(calibration),
    numHeldOutTokens: count(heldOut),
  };
}

async function encodeUpTo(
  text: string,
  tokenizer: Tokenizer,
  wanted: number,
): Promise<number[]> {
  const ids: number[] = [];
  for (let at = 0; at < text.length && ids.length < wanted; at += PIECE)
    ids.push(
      ...(await tokenizer.encode(text.slice(at, at + PIECE), {
        addSpecialTokens: false,
      })),
    );
  return ids.slice(0, wanted);
}

/**
 * Sequences of at most `length` tokens after `prefix`. Where the text has the token bos in it, a document begins: a
 * model was not trained to look back across that.
 */
function cut(
  ids: readonly number[],
  length: number,
  prefix: readonly number[],
  bosTokenId: number | null,
): number[][] {
  const sequences: number[][] = [];
  let current = [...prefix];
  for (const id of ids) {
    const begins = id === bosTokenId;
    if (begins || current.length === prefix.length + length) {
      sequences.push(current);
      current = begins ? [] : [...prefix];
    }
    current.push(id);
  }
  // One token alone predicts nothing.
  return [...sequences, current].filter(({ length: tokens }) => tokens > 1);
}
