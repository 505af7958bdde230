import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { localVocabulary } from "../../bench/serve/vocabulary.js";
import { file, ids, load, shared, WORDS } from "./dataset-support.js";
import type { Sample } from "../../bench/serve/outcome.js";

describe("random", () => {
  const args = "--num-prompts 200 --random-input-len 20 --random-output-len 10";

  it("has exact lengths, plain ids and one prefix for all", async () => {
    const samples = await load([
      ...args.split(" "),
      "--random-prefix-len",
      "5",
    ]);
    expect(samples).toHaveLength(200);
    const first = ids(samples[0] as Sample);
    for (const sample of samples) {
      const own = ids(sample);
      expect(own).toHaveLength(25);
      expect(sample).toMatchObject({ promptLen: 25, outputLen: 10 });
      expect(own.slice(0, 5)).toEqual(first.slice(0, 5));
      expect(own.every((id) => id >= 100 && id < 200)).toBe(true);
    }
    expect(new Set(samples.map((sample) => ids(sample).join())).size).toBe(200);
  });

  it("spreads lengths over the range, both ends included", async () => {
    const samples = await load([
      ...args.split(" "),
      "--random-range-ratio",
      "0.5",
    ]);
    const outputs = samples.map(({ outputLen }) => outputLen);
    const inputs = samples.map((sample) => ids(sample).length);
    expect([Math.min(...outputs), Math.max(...outputs)]).toEqual([5, 15]);
    expect([Math.min(...inputs), Math.max(...inputs)]).toEqual([10, 30]);
  });

  it("is a function of the seed", async () => {
    const prompts = async (seed: string) =>
      (await load([...args.split(" "), "--seed", seed])).map(ids);
    expect(await prompts("3")).toEqual(await prompts("3"));
    expect(await prompts("3")).not.toEqual(await prompts("4"));
  });

  it("as text has as many tokens, what the model adds included", async () => {
    const samples = await load(
      ["--num-prompts", "3", "--random-input-len", "9"],
      { asText: true },
    );
    for (const { prompt, promptLen } of samples) {
      expect(typeof prompt).toBe("string");
      expect(promptLen).toBe(9);
      expect(await WORDS.encode(prompt as string, true)).toHaveLength(9);
    }
  });

  it("refuses prompts of nothing", async () => {
    await expect(async () => load(["--random-input-len", "0"])).rejects.toThrow(
      /--random-input-len: a prompt needs at least one token/,
    );
  });
});

describe("prefix_repetition", () => {
  const args =
    "--dataset-name prefix_repetition --prefix-repetition-prefix-len 6 --prefix-repetition-suffix-len 4 --prefix-repetition-num-prefixes 3 --prefix-repetition-output-len 2".split(
      " ",
    );

  it("follows each prefix by different suffixes, mixed", async () => {
    const prompts = (await load([...args, "--num-prompts", "31"])).map(ids);
    const counts = new Map<string, number>();
    for (const prompt of prompts) {
      expect(prompt).toHaveLength(10);
      const prefix = prompt.slice(0, 6).join();
      counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
    }
    expect([...counts.values()].sort()).toEqual([10, 10, 11]);
    expect(new Set(prompts.map((prompt) => prompt.slice(6).join())).size).toBe(
      31,
    );
  });

  it("needs a prompt for each prefix", async () => {
    await expect(load([...args, "--num-prompts", "2"])).rejects.toThrow(
      /--num-prompts: expected at least one prompt for each of the 3 prefixes, got 2/,
    );
  });
});

describe("sharegpt", () => {
  const talk = (...values: string[]) => ({
    conversations: values.map((value) => ({ from: "human", value })),
  });
  const words = (n: number, word = "w"): string => `${word} `.repeat(n).trim();
  const where = file(
    "sharegpt.json",
    JSON.stringify([
      talk(words(5, "a"), words(6), "more"),
      talk(words(8, "b"), words(9)),
      talk(words(5, "alone")),
      talk(words(2, "short"), words(9)),
      talk(words(9, "curt"), words(3)),
      talk(words(1025, "long"), words(9)),
      talk(words(1000, "total"), words(1050)),
    ]),
  );
  const args = ["--dataset-name", "sharegpt", "--dataset-path", where];

  it("keeps first questions with usable lengths; a short file starts again", async () => {
    const samples = await load([...args, "--num-prompts", "5"]);
    const kinds = samples.map(
      ({ prompt, promptLen, outputLen }) =>
        `${(prompt as string)[0]} ${promptLen} ${outputLen}`,
    );
    expect(kinds).toHaveLength(5);
    expect([...new Set(kinds)].sort()).toEqual(["a 6 6", "b 9 9"]);
    expect(kinds[0]).toBe(kinds[2]);
    expect(kinds[0]).not.toBe(kinds[1]);
  });

  it("takes a fixed output length instead", async () => {
    const samples = await load([
      ...args,
      "--num-prompts",
      "50",
      "--sharegpt-output-len",
      "3",
    ]);
    expect(new Set(samples.map(({ outputLen }) => outputLen))).toEqual(
      new Set([3]),
    );
    // "curt" and "total" are usable now.
    expect(new Set(samples.map(({ prompt }) => prompt)).size).toBe(4);
  });

  it("names what is wrong with a file", async () => {
    const bad = (content: string) =>
      load([
        "--dataset-name",
        "sharegpt",
        "--dataset-path",
        file("bad.json", content),
      ]);
    await expect(bad("{}")).rejects.toThrow(/expected a list of conversations/);
    await expect(bad('[{"x":1}]')).rejects.toThrow(/\[0\]\.conversations/);
    await expect(
      bad('[{"conversations":[{"value":"a"},{"value":3}]}]'),
    ).rejects.toThrow(/\[0\]\.conversations\[1\]\.value: expected a string/);
    await expect(bad("[]")).rejects.toThrow(/no prompt of a usable length/);
  });
});

describe("custom", () => {
  it("reads prompts and their output lengths", async () => {
    const where = file(
      "custom.jsonl",
      '{"prompt":"one","output_tokens":5}\n\n{"prompt":"two"}\n',
    );
    const args = [
      "--dataset-name",
      "custom",
      "--dataset-path",
      where,
      "--num-prompts",
      "2",
    ];
    const lengths = async (more: string[] = []) =>
      Object.fromEntries(
        (await load([...args, ...more])).map(({ prompt, outputLen }) => [
          prompt as string,
          outputLen,
        ]),
      );
    expect(await lengths()).toEqual({ one: 5, two: 256 });
    expect(await lengths(["--custom-output-len", "9"])).toEqual({
      one: 9,
      two: 9,
    });
  });

  it("names the line at fault", async () => {
    const bad = (content: string) =>
      load([
        "--dataset-name",
        "custom",
        "--dataset-path",
        file("bad.jsonl", content),
      ]);
    await expect(bad('{"prompt":"a"}\n{"question":"b"}')).rejects.toThrow(
      /bad\.jsonl:2: prompt: expected a string/,
    );
    await expect(bad('{"prompt":"a"}\n\n{')).rejects.toThrow(/bad\.jsonl:3: /);
    await expect(bad('{"prompt":"a","output_tokens":0}')).rejects.toThrow(
      /output_tokens: expected a whole number of at least 1, got 0/,
    );
    await expect(bad("\n")).rejects.toThrow(/expected a JSON object a line/);
    await expect(
      load(["--dataset-name", "custom", "--dataset-path", "/nowhere"]),
    ).rejects.toThrow(/cannot read \/nowhere/);
    await expect(load(["--dataset-name", "custom"])).rejects.toThrow(
      /--dataset-path: the data set custom is read from a file/,
    );
  });
});

const specBench = shared("prompts/spec_bench.jsonl");
describe.skipIf(!existsSync(specBench))(
  "spec_bench (needs ../shared/prompts/spec_bench.jsonl)",
  () => {
    const args = ["--dataset-name", "spec_bench", "--dataset-path", specBench];

    it("asks the first turn of every question, once round the file", async () => {
      const samples = await load([...args, "--num-prompts", "480"]);
      const rows = readFileSync(specBench, "utf8").trim().split("\n");
      const first = rows.map(
        (row) => (JSON.parse(row) as { turns: string[] }).turns[0],
      );
      expect(samples.map(({ prompt }) => prompt).sort()).toEqual(first.sort());
      expect(samples[0]).toMatchObject({ promptLen: null, outputLen: 256 });
    });

    it("keeps to a category, and lists them where there is no such one", async () => {
      const of = (category: string) =>
        load([
          ...args,
          "--num-prompts",
          "20",
          "--spec-bench-category",
          category,
        ]);
      const prompts = (await of("writing")).map(({ prompt }) => prompt);
      expect(new Set(prompts).size).toBe(10);
      await expect(of("cooking")).rejects.toThrow(
        /--spec-bench-category: .* has writing, .*; got "cooking"/,
      );
    });
  },
);

const stories = shared("models/stories260k");
describe.skipIf(!existsSync(stories))(
  "a real tokenizer (needs ../shared/models/stories260k)",
  () => {
    it("makes texts of exactly the length asked for", async () => {
      const vocabulary = await localVocabulary(stories);
      const plain = await vocabulary.plainIds();
      expect(plain.length).toBeGreaterThan(100);
      // <unk>, <s> and </s> are special.
      expect([...plain].every((id) => id > 2)).toBe(true);
      const samples = await load(
        ["--num-prompts", "8", "--random-input-len", "40"],
        { asText: true, vocabulary },
      );
      for (const { prompt, promptLen } of samples) {
        const encoded = await vocabulary.encode(prompt as string, true);
        expect(encoded).toHaveLength(promptLen ?? 0);
        expect(promptLen).toBe(40);
      }
    });
  },
);
