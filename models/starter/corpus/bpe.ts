/**
 * Trains a byte-level BPE vocabulary (Sennrich et al. 2016, over bytes as in GPT-2) and writes it as the tokenizer.json
 * that `tokenizers` and `transformers` read.
 */

/** GPT-2's splitting, with each digit on its own: what the `Digits` and `ByteLevel` pre-tokenizers do together. */
const PIECES =
  /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\p{N}|\s+(?!\S)|\s+/gu;

/** GPT-2's printable stand-in for each byte, so that a vocabulary can be written as text. */
export function byteLetters(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(printable(byte) ? byte : next++),
  );
}

export interface Bpe {
  /** Pieces in the order of their ids, after the special tokens. */
  pieces: string[];
  merges: [string, string][];
}

/** @param size number of pieces, the 256 bytes among them */
export function trainBpe(texts: Iterable<string>, size: number): Bpe {
  const letters = byteLetters();
  const words = countWords(texts, letters);
  const pieces = [...letters];
  const merges: [string, string][] = [];
  while (pieces.length < size) {
    const best = mostFrequentPair(words);
    if (!best) break;
    merges.push(best);
    pieces.push(best[0] + best[1]);
    for (const word of words) merge(word.symbols, best);
  }
  return { pieces, merges };
}

interface Word {
  symbols: string[];
  count: number;
}

function countWords(texts: Iterable<string>, letters: string[]): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const piece of text.match(PIECES) ?? [])
      counts.set(piece, (counts.get(piece) ?? 0) + 1);
  return [...counts].map(([piece, count]) => ({
    symbols: [...Buffer.from(piece)].map((byte) => letters[byte] ?? ""),
    count,
  }));
}

/** Ties go to the pair that sorts first, so that the same corpus gives the same vocabulary. */
function mostFrequentPair(words: Word[]): [string, string] | undefined {
  const counts = new Map<string, number>();
  for (const { symbols, count } of words)
    for (let i = 1; i < symbols.length; i++) {
      const pair = `${symbols[i - 1]} ${symbols[i]}`;
      counts.set(pair, (counts.get(pair) ?? 0) + count);
    }
  let best: string | undefined;
  let most = 1;
  for (const [pair, count] of counts)
    if (count > most || (count === most && best !== undefined && pair < best))
      [best, most] = [pair, count];
  const [left, right] = best?.split(" ") ?? [];
  return left === undefined || right === undefined ? undefined : [left, right];
}

function merge(symbols: string[], [left, right]: [string, string]): void {
  for (let i = 1; i < symbols.length; i++)
    if (symbols[i - 1] === left && symbols[i] === right)
      symbols.splice(i - 1, 2, left + right);
}

/** Special tokens come first: their ids are their places in the list. */
export function tokenizerJson(
  bpe: Bpe,
  special: readonly string[],
  bos: string,
): unknown {
  const bosId = special.indexOf(bos);
  const vocab = Object.fromEntries(
    [...special, ...bpe.pieces].map((piece, id) => [piece, id]),
  );
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Digits", individual_digits: true },
        {
          type: "ByteLevel",
          add_prefix_space: false,
          trim_offsets: true,
          use_regex: true,
        },
      ],
    },
    post_processor: {
      type: "TemplateProcessing",
      single: [
        { SpecialToken: { id: bos, type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
      ],
      pair: [
        { SpecialToken: { id: bos, type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
        { Sequence: { id: "B", type_id: 1 } },
      ],
      special_tokens: { [bos]: { id: bos, ids: [bosId], tokens: [bos] } },
    },
    decoder: {
      type: "ByteLevel",
      add_prefix_space: true,
      trim_offsets: true,
      use_regex: true,
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: bpe.merges.map(([left, right]) => `${left} ${right}`),
    },
  };
}
