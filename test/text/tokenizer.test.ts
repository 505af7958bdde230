import { Tokenizer as OracleTokenizer } from "@huggingface/tokenizers";
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../src/text/tokenizer.js";
import {
  describeWithShared,
  modelDir,
  readJson,
  shared,
} from "./shared-data.js";
import { SMALL } from "./small-tokenizer.js";

interface Vectors {
  readonly cases: readonly {
    readonly text: string;
    readonly ids: readonly number[];
  }[];
}

interface Golden {
  readonly cases: readonly {
    readonly prompt: string | null;
    readonly prompt_token_ids: readonly number[];
    readonly greedy_token_ids: readonly number[];
    readonly greedy_text: string;
  }[];
}

const PLAIN = { addSpecialTokens: false };
const SPECIAL = { addSpecialTokens: true };

describe.each(["gpt2", "qwen2", "llama3", "llama2"])(
  "the %s tokenizer",
  (name) => {
    describeWithShared(`tokenizers/${name}`, "published vectors", () => {
      let tokenizer: Tokenizer;
      beforeAll(async () => {
        tokenizer = await loadTokenizer(shared(`tokenizers/${name}`));
      });

      it("encodes them to the published ids, and decodes those to the text", async () => {
        const { cases } = readJson<Vectors>(
          shared(`tokenizers/${name}/vectors.json`),
        );
        expect(cases.length).toBeGreaterThan(20);
        for (const { text, ids } of cases) {
          expect([...(await tokenizer.encode(text, PLAIN))], text).toEqual(ids);
          const decoded = tokenizer.decode(ids, { stripLeadingSpace: true });
          expect(decoded).toBe(name === "qwen2" ? text.normalize("NFC") : text);
        }
      });

      it("has bytes for each token that make up the text", async () => {
        const text = "Grüße, 世界! 👩‍🚀 done";
        const ids = await tokenizer.encode(text, PLAIN);
        const bytes = Buffer.concat(
          [...ids].map((id) => tokenizer.tokenBytes(id)),
        );
        expect(bytes.toString("utf8")).toBe(
          name === "llama2" ? ` ${text}` : text,
        );
        for (const id of ids)
          expect(tokenizer.tokenToId(tokenizer.idToToken(id) ?? "")).toBe(id);
      });
    });
  },
);

describeWithShared("tokenizers/mistral", "the mistral tokenizer", () => {
  it("agrees with the JavaScript implementation, both ways", async () => {
    const folder = shared("tokenizers/mistral");
    const tokenizer = await loadTokenizer(folder);
    const oracle = new OracleTokenizer(
      readJson<object>(`${folder}/tokenizer.json`),
      readJson<object>(`${folder}/tokenizer_config.json`),
    );
    for (const text of [
      "Hello, world!",
      " two  spaces ",
      "naïve café 世界 👩‍🚀",
      "x = {\n\t1: 'a'}\n",
      "[INST] hi [/INST]",
      "",
    ]) {
      const ids = await tokenizer.encode(text, PLAIN);
      expect([...ids], text).toEqual(
        oracle.encode(text, { add_special_tokens: false }).ids,
      );
      expect([...(await tokenizer.encode(text, SPECIAL))]).toEqual([1, ...ids]);
      const options = {
        skip_special_tokens: true,
        clean_up_tokenization_spaces: false,
      };
      if (ids.length > 0)
        expect(tokenizer.decode(ids, { stripLeadingSpace: true })).toBe(
          oracle.decode([...ids], options),
        );
    }
  });
});

describeWithShared("models/stories260k", "the stories260k tokenizer", () => {
  const folder = shared("models/stories260k");
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(folder);
  });

  it("encodes each golden prompt, and the empty one to bos", async () => {
    for (const { prompt, prompt_token_ids } of readJson<Golden>(
      `${folder}/golden.json`,
    ).cases)
      expect([...(await tokenizer.encode(prompt ?? "", SPECIAL))]).toEqual(
        prompt_token_ids,
      );
  });

  it("keeps the leading space of a generated text, and takes that of a whole one off", () => {
    for (const { greedy_token_ids, greedy_text } of readJson<Golden>(
      `${folder}/golden.json`,
    ).cases) {
      expect(tokenizer.decode(greedy_token_ids)).toBe(greedy_text);
      expect(
        tokenizer.decode(greedy_token_ids, { stripLeadingSpace: true }),
      ).toBe(greedy_text.replace(/^ /, ""));
    }
  });

  it("knows its special tokens and its size", () => {
    expect(tokenizer.vocabSize).toBe(512);
    expect([...tokenizer.specialTokenIds].sort()).toEqual([0, 1, 2]);
    expect(tokenizer.tokenToId("</s>")).toBe(2);
    expect(tokenizer.idToToken(2)).toBe("</s>");
    expect(tokenizer.tokenToId("no such token")).toBeNull();
    expect(tokenizer.idToToken(512)).toBeNull();
    expect(tokenizer.idToToken(-1)).toBeNull();
    expect(tokenizer.tokenBytes(512)).toHaveLength(0);
    expect([
      ...tokenizer.tokenBytes(tokenizer.tokenToId("<0x0A>") ?? -1),
    ]).toEqual([10]);
  });

  it("takes text that spells a special token for that token", async () => {
    expect([...(await tokenizer.encode("</s>", PLAIN))]).toEqual([2]);
  });

  it("takes any string: lone surrogates count as U+FFFD", async () => {
    for (const text of ["\ud800", "a\udc00b", "\udc00\ud800", "🚀\ud83d"])
      expect(await tokenizer.encode(text, PLAIN)).toEqual(
        await tokenizer.encode(
          text.replace(/\p{Surrogate}/gu, "\uFFFD"),
          PLAIN,
        ),
      );
  });

  it("takes a long text, and leaves the event loop free meanwhile", async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const text = "Once upon a time, Lily saw a dog. ".repeat(20_000);
    const ids = await tokenizer.encode(text, PLAIN);
    clearInterval(timer);
    expect(tokenizer.decode(ids, { stripLeadingSpace: true })).toBe(text);
    expect(ticks).toBeGreaterThan(3);
  });
});

describe("a tokenizer without a post-processor", () => {
  it("adds what tokenizer_config.json asks for, and only then", async () => {
    const config = {
      add_bos_token: true,
      add_eos_token: true,
      bos_token: "<s>",
      eos_token: { content: "b" },
    };
    const tokenizer = await loadTokenizer(
      modelDir({ "tokenizer.json": SMALL, "tokenizer_config.json": config }),
    );
    expect([...(await tokenizer.encode("a", SPECIAL))]).toEqual([0, 1, 2]);
    expect([...(await tokenizer.encode("", SPECIAL))]).toEqual([0, 2]);
    expect([...(await tokenizer.encode("a", PLAIN))]).toEqual([1]);
    const plain = await loadTokenizer(
      modelDir({
        "tokenizer.json": SMALL,
        "tokenizer_config.json": { bos_token: "<s>" },
      }),
    );
    expect([...(await plain.encode("a", SPECIAL))]).toEqual([1]);
  });

  it("does not add what the post-processor already does", async () => {
    const post_processor = {
      type: "TemplateProcessing",
      single: [
        { SpecialToken: { id: "<s>", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
      ],
      pair: [
        { Sequence: { id: "A", type_id: 0 } },
        { Sequence: { id: "B", type_id: 0 } },
      ],
      special_tokens: { "<s>": { id: "<s>", ids: [0], tokens: ["<s>"] } },
    };
    const tokenizer = await loadTokenizer(
      modelDir({
        "tokenizer.json": { ...SMALL, post_processor },
        "tokenizer_config.json": { add_bos_token: true, bos_token: "<s>" },
      }),
    );
    expect([...(await tokenizer.encode("a", SPECIAL))]).toEqual([0, 1]);
  });

  it("ignores a truncation left in the file, and counts ids with holes", async () => {
    const tokenizer = await loadTokenizer(
      modelDir({ "tokenizer.json": SMALL }),
    );
    expect([...(await tokenizer.encode("aaaa", PLAIN))]).toEqual([1, 1, 1, 1]);
    expect(tokenizer.vocabSize).toBe(6);
    expect(tokenizer.idToToken(3)).toBeNull();
    expect(tokenizer.decode([1, 3, 2, 99, -1])).toBe("ab");
  });

  it("adds the tokens that only tokenizer_config.json names", async () => {
    const added_tokens_decoder = {
      "6": { content: "<eot>", special: true },
      "2": { content: "b", special: false },
      "0": { content: "<s>", special: true },
    };
    const tokenizer = await loadTokenizer(
      modelDir({
        "tokenizer.json": SMALL,
        "tokenizer_config.json": { added_tokens_decoder },
      }),
    );
    expect([...(await tokenizer.encode("ab<eot>", PLAIN))]).toEqual([1, 2, 6]);
    expect([...tokenizer.specialTokenIds].sort()).toEqual([0, 6]);
    expect(tokenizer.vocabSize).toBe(7);
    expect(tokenizer.decode([1, 6])).toBe("a");
    expect(tokenizer.decode([1, 6], { skipSpecialTokens: false })).toBe(
      "a<eot>",
    );
  });

  it("takes special tokens from special_tokens_map.json too", async () => {
    const tokenizer = await loadTokenizer(
      modelDir({
        "tokenizer.json": SMALL,
        "special_tokens_map.json": { eos_token: "<tool>" },
      }),
    );
    expect([...tokenizer.specialTokenIds]).toEqual([0, 5]);
  });
});

describeWithShared("models", "the test models", () => {
  it("have tokenizers that load", async () => {
    for (const name of [
      "llama2xs",
      "tiny-llama3",
      "tiny-mistral",
      "tiny-qwen2",
    ]) {
      const size = (await loadTokenizer(shared(`models/${name}`))).vocabSize;
      const config = JSON.parse(
        readFileSync(shared(`models/${name}/config.json`), "utf8"),
      ) as { vocab_size: number };
      expect(size).toBeLessThanOrEqual(config.vocab_size);
    }
  });
});
