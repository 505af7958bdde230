import { Tokenizer } from "tokenizers";
import { describe, expect, it } from "vitest";
import { EncoderTokenizer } from "../../src/encoder/encoder-tokenizer.js";
import { TokenFrame } from "../../src/encoder/token-frame.js";
import { CLS, SEP, tinyDirectory, tokenizerJson } from "./tiny-models.js";

const TEXTS = ["a cat sat", "", "the dog ☂ runs [SEP] fast", "mat"];
const special = { "[CLS]": CLS, "[SEP]": SEP };
const marks = Object.fromEntries(
  Object.entries(special).map(([id, at]) => [
    id,
    { id, ids: [at], tokens: [id] },
  ]),
);
const mark = (id: string, type_id: number) => ({
  SpecialToken: { id, type_id },
});
const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });

const PROCESSORS: Record<string, object | null> = {
  "BERT's": {
    type: "BertProcessing",
    sep: ["[SEP]", SEP],
    cls: ["[CLS]", CLS],
  },
  "RoBERTa's": {
    type: "RobertaProcessing",
    sep: ["[SEP]", SEP],
    cls: ["[CLS]", CLS],
    trim_offsets: true,
    add_prefix_space: false,
  },
  "a template": {
    type: "TemplateProcessing",
    single: [mark("[CLS]", 0), text("A", 0), mark("[SEP]", 0)],
    pair: [
      mark("[CLS]", 1),
      text("A", 0),
      mark("[SEP]", 0),
      mark("[SEP]", 1),
      text("B", 1),
    ],
    special_tokens: marks,
  },
  "one that only ends": {
    type: "TemplateProcessing",
    single: [text("A", 0), mark("[SEP]", 0)],
    pair: [text("A", 0), mark("[SEP]", 0), text("B", 0), mark("[SEP]", 0)],
    special_tokens: marks,
  },
  "one that adds nothing": {
    type: "ByteLevel",
    add_prefix_space: true,
    trim_offsets: false,
    use_regex: true,
  },
  none: null,
};

async function load(post_processor: object | null) {
  const json = { ...tokenizerJson(), post_processor };
  const directory = tinyDirectory({ files: { "tokenizer.json": json } });
  const library = Tokenizer.fromString(JSON.stringify(json));
  library.disableTruncation();
  const tokenizer = await EncoderTokenizer.load(directory, {
    lowercase: false,
  });
  return { tokenizer, library };
}

describe.each(Object.entries(PROCESSORS))(
  "post-processor: %s",
  (_name, processor) => {
    it("gives what the library gives", async () => {
      const { tokenizer, library } = await load(processor);
      const expected = async (one: string, two: string | null, add: boolean) =>
        library.encode(one, two, { addSpecialTokens: add });
      for (const addSpecialTokens of [true, false]) {
        const options = { addSpecialTokens, limit: null };
        const inputs = await tokenizer.encode(TEXTS, options);
        for (const [i, one] of TEXTS.entries()) {
          const whole = await expected(one, null, addSpecialTokens);
          expect([...(inputs[i]?.ids ?? [])]).toEqual(whole.getIds());
          expect(inputs[i]?.typeIds).toBeNull();
          expect(whole.getTypeIds().some((id) => id !== 0)).toBe(false);
        }
      }
      const second = [...TEXTS].reverse();
      const pairs = await tokenizer.encodePairs(TEXTS, second, null);
      for (const [i, { ids, typeIds }] of pairs.entries()) {
        const whole = await expected(TEXTS[i] ?? "", second[i] ?? "", true);
        expect([...ids]).toEqual(whole.getIds());
        expect([...(typeIds ?? ids.map(() => 0))]).toEqual(whole.getTypeIds());
      }
      const { single, pair } = tokenizer.numSpecial;
      expect(single).toBe((await expected("", null, true)).getLength());
      expect(pair).toBe((await expected("", "", true)).getLength());
    });
  },
);

it("refuses a post-processor that turns two texts round", async () => {
  const turned = {
    type: "TemplateProcessing",
    single: [text("A", 0)],
    pair: [text("B", 0), mark("[SEP]", 0), text("A", 1), text("A", 0)],
    special_tokens: marks,
  };
  await expect(load(turned)).rejects.toMatchObject({
    code: "invalid_model",
    message: expect.stringMatching(/post_processor.*two texts in order/),
  });
  const encoded = {
    getIds: () => [7, SEP, 5],
    getTypeIds: () => [0, 0, 1],
    getSpecialTokensMask: () => [0, 1, 0],
  };
  expect(TokenFrame.of(encoded, [[5], [7]])).toBeNull();
  expect(TokenFrame.of(encoded, [[7], [5]])).not.toBeNull();
});
