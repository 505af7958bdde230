/** The characters that a byte-level tokenizer writes bytes as, in the order of the bytes [Radford et al. 2019]. */
function byteCharacters(): string[] {
  const shown = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) ||
    (byte >= 161 && byte <= 172) ||
    (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(shown(byte) ? byte : next++),
  );
}

/**
 * A tokenizer.json of `vocabSize` tokens (at least 256): the bytes, then words that no text is split into. With it a model of
 * made-up weights can be served: every id has a text.
 */
export function madeUpTokenizer(vocabSize: number): object {
  const words = Array.from(
    { length: Math.max(0, vocabSize - 256) },
    (_, i) => `\u0120w${i}`,
  );
  const vocab = Object.fromEntries(
    [...byteCharacters(), ...words].map((token, id) => [token, id]),
  );
  const byteLevel = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: true,
  };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", dropout: null, unk_token: null, vocab, merges: [] },
  };
}
