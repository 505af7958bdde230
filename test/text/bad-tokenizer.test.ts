import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { describeWithShared, modelDir, shared } from "./shared-data.js";
import { SMALL } from "./small-tokenizer.js";

describe("a bad tokenizer is an error that names file and field", () => {
  const decoder = (value: unknown) => ({
    "tokenizer.json": { ...SMALL, decoder: value },
  });
  it.each<[string, Record<string, unknown>, string, RegExp]>([
    ["no file", {}, "invalid_model", /tokenizer\.json: .*no such file/],
    [
      "not JSON",
      { "tokenizer.json": "{" },
      "invalid_model",
      /tokenizer\.json: expected JSON/,
    ],
    [
      "a list",
      { "tokenizer.json": [] },
      "invalid_model",
      /expected a JSON object, got a list/,
    ],
    [
      "no model",
      { "tokenizer.json": { decoder: SMALL.decoder } },
      "invalid_model",
      /model: expected an object/,
    ],
    [
      "a lying id",
      {
        "tokenizer.json": {
          ...SMALL,
          model: { type: "BPE", vocab: { a: 4e9 }, merges: [] },
        },
      },
      "invalid_model",
      /model\.vocab\["a"\]: expected a token id/,
    ],
    [
      "a merge of unknown tokens",
      {
        "tokenizer.json": {
          ...SMALL,
          model: { ...SMALL.model, merges: ["a z"] },
        },
      },
      "invalid_model",
      /not a tokenizer/,
    ],
    [
      "a bad added token",
      { "tokenizer.json": { ...SMALL, added_tokens: [{ id: 1 }] } },
      "invalid_model",
      /added_tokens\[0\]/,
    ],
    ["no decoder", decoder(null), "unsupported_model", /decoder: having none/],
    [
      "another decoder",
      decoder({ type: "WordPiece" }),
      "unsupported_model",
      /decoder: .*WordPiece/,
    ],
    [
      "a regular expression",
      decoder({ type: "Replace", pattern: { Regex: "a" }, content: "b" }),
      "unsupported_model",
      /Regex/,
    ],
    [
      "a malformed decoder",
      decoder({ type: "Sequence", decoders: 3 }),
      "invalid_model",
      /decoder\.decoders: expected a list/,
    ],
    [
      "a bad flag",
      {
        "tokenizer.json": SMALL,
        "tokenizer_config.json": { add_bos_token: "yes" },
      },
      "invalid_model",
      /tokenizer_config\.json: add_bos_token: expected true or false, got string "yes"/,
    ],
    [
      "a token of tokenizer_config.json with an id that cannot be",
      {
        "tokenizer.json": SMALL,
        "tokenizer_config.json": {
          added_tokens_decoder: { "8": { content: "<x>" } },
        },
      },
      "invalid_model",
      /tokenizer_config\.json: added_tokens_decoder: expected "<x>" to follow/,
    ],
    [
      "bos that is not there",
      {
        "tokenizer.json": SMALL,
        "tokenizer_config.json": { add_bos_token: true, bos_token: "<none>" },
      },
      "invalid_model",
      /add_bos_token: expected bos_token to be in the vocabulary/,
    ],
    [
      "a bad token",
      { "tokenizer.json": SMALL, "tokenizer_config.json": { bos_token: 1 } },
      "invalid_model",
      /bos_token: expected a string/,
    ],
    [
      "a post-processor that names a token it does not have",
      {
        "tokenizer.json": {
          ...SMALL,
          post_processor: {
            type: "Sequence",
            processors: [
              {
                type: "TemplateProcessing",
                single: [{ SpecialToken: { id: "<q>", type_id: 0 } }],
                pair: [],
                special_tokens: {},
              },
            ],
          },
        },
      },
      "invalid_model",
      /post_processor\.processors\[0\]\.single\[0\]\.SpecialToken\.id: expected a name/,
    ],
    [
      "a post-processor with an id that no token has",
      {
        "tokenizer.json": {
          ...SMALL,
          post_processor: {
            type: "TemplateProcessing",
            single: [],
            pair: [],
            special_tokens: { "<q>": { id: "<q>", ids: [77], tokens: ["q"] } },
          },
        },
      },
      "invalid_model",
      /special_tokens\["<q>"\]\.ids: expected token ids below 6/,
    ],
    [
      "a merge longer than every token",
      {
        "tokenizer.json": {
          ...SMALL,
          model: { ...SMALL.model, merges: ["<tool> <tool>"] },
        },
      },
      "invalid_model",
      /model\.merges\[0\]: expected two tokens that make a third/,
    ],
    [
      "an id that two tokens have",
      {
        "tokenizer.json": {
          ...SMALL,
          model: { ...SMALL.model, vocab: { ...SMALL.model.vocab, c: 1 } },
        },
      },
      "invalid_model",
      /model\.vocab: expected an id for each token, got 1 for "a" and "c"/,
    ],
    [
      "an added token out of order",
      {
        "tokenizer.json": {
          ...SMALL,
          added_tokens: [{ ...SMALL.added_tokens[0], id: 9, content: "<x>" }],
        },
      },
      "invalid_model",
      /added_tokens: expected "<x>" to follow the vocabulary with id 5, got 9/,
    ],
  ])("%s", async (_, files, code, message) => {
    await expect(loadTokenizer(modelDir(files))).rejects.toMatchObject({
      name: "OctavoError",
      code,
    });
    await expect(loadTokenizer(modelDir(files))).rejects.toThrow(message);
  });
});

describeWithShared("models/stories260k", "damaged files", () => {
  it("are a clear error or a tokenizer that works, never a crash", async () => {
    const source = readFileSync(shared("models/stories260k/tokenizer.json"));
    let seed = 1;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
      return seed % below;
    };
    const outcomes = { errors: 0, loads: 0 };
    for (let i = 0; i < 200; i++) {
      const damaged = Buffer.from(
        source.subarray(0, i % 10 === 0 ? random(source.length) : undefined),
      );
      // Half of the damage goes to the sections before the vocabulary.
      const at = random(i % 2 === 0 ? 2200 : damaged.length);
      if (at < damaged.length)
        damaged[at] = (damaged[at] ?? 0) ^ (1 << random(7));
      const folder = modelDir({ "tokenizer.json": damaged.toString("latin1") });
      try {
        const tokenizer = await loadTokenizer(folder);
        const ids = await tokenizer.encode("Once upon 🚀 <s>", {
          addSpecialTokens: true,
        });
        expect(typeof tokenizer.decode(ids)).toBe("string");
        outcomes.loads++;
      } catch (error) {
        expect(error).toMatchObject({ name: "OctavoError" });
        outcomes.errors++;
      }
    }
    expect(outcomes.errors).toBeGreaterThan(20);
    expect(outcomes.loads).toBeGreaterThan(10);
  });
});
