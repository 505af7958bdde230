import { describe, expect, it } from "vitest";
import {
  parseSpeculativeConfig,
  speculativeConfigJson,
} from "../../src/core/speculative-config.js";

describe("parseSpeculativeConfig", () => {
  it("takes vLLM's fields with vLLM's defaults", () => {
    expect(
      parseSpeculativeConfig({ method: "ngram", num_speculative_tokens: 4 }),
    ).toEqual({
      method: "ngram",
      numSpeculativeTokens: 4,
      adaptive: true,
      promptLookupMin: 5,
      promptLookupMax: 5,
    });
    expect(parseSpeculativeConfig({ method: "suffix" })).toEqual({
      method: "suffix",
      numSpeculativeTokens: 24,
      adaptive: true,
      suffixDecodingMaxTreeDepth: 24,
      suffixDecodingMaxCachedRequests: 10_000,
      suffixDecodingMaxSpecFactor: 1,
      suffixDecodingMinTokenProb: 0.1,
    });
    expect(
      parseSpeculativeConfig({
        model: "/drafts/small",
        num_speculative_tokens: 3,
      }),
    ).toEqual({
      method: "draft_model",
      numSpeculativeTokens: 3,
      adaptive: true,
      model: "/drafts/small",
      revision: null,
      maxModelLen: null,
    });
  });

  it.each([
    { method: "ngram", num_speculative_tokens: 4, adaptive: false },
    { method: "suffix", suffix_decoding_min_token_prob: 0.5 },
    { model: "/drafts/small", num_speculative_tokens: 3, max_model_len: 100 },
    { model: "small/draft", num_speculative_tokens: 3, revision: "main" },
  ])("is written as what it is read from: %o", (fields) => {
    const config = parseSpeculativeConfig(fields);
    const written: unknown = JSON.parse(speculativeConfigJson(config));
    expect(written).toMatchObject(fields);
    expect(parseSpeculativeConfig(written)).toEqual(config);
  });

  it.each([
    [{ prompt_lookup_max: 4 }, 4, 4],
    [{ prompt_lookup_min: 2 }, 2, 2],
    [{ prompt_lookup_min: 2, prompt_lookup_max: 4 }, 2, 4],
    [{ prompt_lookup_min: null, prompt_lookup_max: 3 }, 3, 3],
  ])("%j looks %d to %d tokens up", (fields, min, max) => {
    expect(
      parseSpeculativeConfig({
        method: "ngram",
        num_speculative_tokens: 2,
        adaptive: false,
        ...fields,
      }),
    ).toMatchObject({
      promptLookupMin: min,
      promptLookupMax: max,
      adaptive: false,
    });
  });

  it.each([
    [
      "ngram",
      "speculative-config",
      'expected an object such as {"method":"ngram","num_speculative_tokens":5}, got "ngram"',
    ],
    [
      {},
      "speculative-config.method",
      'expected one of "ngram", "suffix", "draft_model", got nothing',
    ],
    [
      { method: "eagle" },
      "speculative-config.method",
      'expected one of "ngram", "suffix", "draft_model", got "eagle"',
    ],
    [
      { method: "ngram" },
      "speculative-config.num_speculative_tokens",
      "expected an integer in [1, 64], got nothing",
    ],
    [
      { method: "ngram", num_speculative_tokens: 65 },
      "speculative-config.num_speculative_tokens",
      "expected an integer in [1, 64], got 65",
    ],
    [
      { method: "ngram", num_speculative_tokens: 2, model: "x" },
      "speculative-config.model",
      'there is no such field with method "ngram"; expected one of method, num_speculative_tokens, adaptive, prompt_lookup_min, prompt_lookup_max',
    ],
    [
      {
        method: "ngram",
        num_speculative_tokens: 2,
        prompt_lookup_min: 3,
        prompt_lookup_max: 2,
      },
      "speculative-config.prompt_lookup_min",
      "expected at most prompt_lookup_max (2), got 3",
    ],
    [
      { method: "ngram", num_speculative_tokens: 2, adaptive: 1 },
      "speculative-config.adaptive",
      "expected true or false, got 1",
    ],
    [
      { method: "draft_model", num_speculative_tokens: 2 },
      "speculative-config.model",
      "expected a name, got nothing",
    ],
    [
      { method: "suffix", suffix_decoding_min_token_prob: 2 },
      "speculative-config.suffix_decoding_min_token_prob",
      "expected a number in [0, 1], got 2",
    ],
  ])("refuses %j at %s", (value, param, message) => {
    expect(() => parseSpeculativeConfig(value)).toThrow(
      expect.objectContaining({
        code: "invalid_config",
        param,
        message: `${param}: ${message}`,
      }),
    );
  });
});
