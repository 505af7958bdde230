/** Two letters and bos, byte fallback, no post-processor, no token 3. */
export const SMALL = {
  version: "1.0",
  added_tokens: [
    {
      id: 0,
      content: "<s>",
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    },
    {
      id: 5,
      content: "<tool>",
      special: false,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    },
  ],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  truncation: {
    direction: "Right",
    max_length: 2,
    strategy: "LongestFirst",
    stride: 0,
  },
  decoder: {
    type: "Sequence",
    decoders: [{ type: "ByteFallback" }, { type: "Fuse" }],
  },
  model: {
    type: "BPE",
    vocab: { "<s>": 0, a: 1, b: 2, ab: 4, "<tool>": 5 },
    merges: ["a b"],
  },
};
