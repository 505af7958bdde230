import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { loadDataset } from "../../bench/serve/dataset.js";
import type { PromptContext } from "../../bench/serve/dataset-settings.js";
import { datasetSettings } from "../../bench/serve/options.js";
import type { Sample } from "../../bench/serve/outcome.js";
import { parseTrace } from "../../bench/serve/trace.js";
import {
  localVocabulary,
  type Vocabulary,
} from "../../bench/serve/vocabulary.js";
import { parseFlags } from "./flags.js";

const SHARED = path.resolve(
  path.dirname(fileURLToPath(import.meta.url)),
  "../../../shared",
);
const shared = (file: string): string => path.join(SHARED, file);
const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-datasets-"));
afterAll(() => rmSync(scratch, { recursive: true }));

function file(name: string, content: string): string {
  const where = path.join(scratch, name);
  writeFileSync(where, content);
  return where;
}

/** A token per word; ids 100 to 199 are plain. */
const WORDS: Vocabulary = {
  plainIds: async () => Int32Array.from({ length: 100 }, (_, i) => 100 + i),
  encode: async (text, special) => {
    const words = text.split(" ").filter((word) => word !== "");
    const ids = words.map((word) => (/^\d+$/.test(word) ? Number(word) : 7));
    return Int32Array.from(special ? [1, ...ids] : ids);
  },
  decode: async (ids) => ids.join(" "),
};

function load(
  args: string[],
  context: Partial<PromptContext> = {},
): Promise<Sample[]> {
  return loadDataset(datasetSettings(parseFlags(args)), {
    backend: "openai",
    vocabulary: WORDS,
    asText: false,
    ...context,
  });
}

const ids = ({ prompt }: Sample): number[] => {
  expect(prompt).toBeInstanceOf(Int32Array);
  return Array.from(prompt as Int32Array);
};

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

describe("trace", () => {
  const rows = [
    {
      timestamp: 500,
      input_length: 1100,
      output_length: 40,
      hash_ids: [0, 1, 2],
    },
    {
      timestamp: 500,
      input_length: 1030,
      output_length: 1,
      hash_ids: [0, 1, 9],
    },
    { timestamp: 2500, input_length: 600, output_length: 8, hash_ids: [4, 5] },
  ];
  const where = file(
    "trace.jsonl",
    rows.map((row) => JSON.stringify(row)).join("\n"),
  );
  const args = ["--dataset-name", "trace", "--dataset-path", where];

  it("replays arrivals, lengths and shared prefixes", async () => {
    const samples = await load(args);
    expect(samples.map(({ arrival }) => arrival)).toEqual([0, 0, 2]);
    expect(samples.map(({ outputLen }) => outputLen)).toEqual([40, 1, 8]);
    const [a, b, c] = samples.map(ids) as [number[], number[], number[]];
    expect([a.length, b.length, c.length]).toEqual([1100, 1030, 600]);
    expect(b.slice(0, 1024)).toEqual(a.slice(0, 1024));
    expect(b.slice(1024)).not.toEqual(a.slice(1024, 1030));
    expect(c.slice(0, 20)).not.toEqual(a.slice(0, 20));
  });

  it.each([0.1, 0.013, 1.7])("keeps them at length scale %d", async (scale) => {
    const samples = await load([
      ...args,
      "--length-scale",
      String(scale),
      "--time-scale",
      "0.25",
    ]);
    expect(samples.map(({ arrival }) => arrival)).toEqual([0, 0, 0.5]);
    const [a, b, c] = samples.map(ids) as [number[], number[], number[]];
    expect(a.length).toBe(Math.round(1100 * scale));
    expect(c.length).toBe(Math.round(600 * scale));
    const common = Math.round(1024 * scale);
    expect(b.slice(0, common)).toEqual(a.slice(0, common));
    expect(samples[1]?.outputLen).toBe(Math.max(1, Math.round(scale)));
  });

  it("reads Azure's CSV to its 100 ns", () => {
    const text =
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 23:59:59.6805900,374,44\r\n2023-11-17 00:00:01.0000001,396,109\r\n";
    const [first, second] = parseTrace("azure.csv", text);
    expect(first).toEqual({
      arrival: 0,
      inputLen: 374,
      outputLen: 44,
      hashIds: [],
    });
    expect(second?.arrival).toBeCloseTo(1.3194101, 6);
    expect(second?.inputLen).toBe(396);
  });

  it("names the line at fault", () => {
    const parse = (text: string) => () => parseTrace("t", text);
    expect(parse("a,b\n1,2")).toThrow(/t:1: expected Mooncake's JSON lines/);
    expect(
      parse("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16,1,2"),
    ).toThrow(/t:2: expected "YYYY-MM-DD/);
    expect(parse('{"timestamp":1,"input_length":-3}')).toThrow(
      /t:1: input_length: expected a number of at least 0, got -3/,
    );
    const row = (timestamp: number): string =>
      JSON.stringify({ timestamp, input_length: 1, output_length: 1 });
    expect(parse(`${row(5)}\n${row(4)}`)).toThrow(/request 2 is earlier/);
  });

  it("has no more requests than it has", async () => {
    expect(await load([...args, "--num-prompts", "2"])).toHaveLength(2);
    await expect(load([...args, "--num-prompts", "4"])).rejects.toThrow(
      /--num-prompts: .* has 3 requests, got 4/,
    );
  });
});

const mooncake = shared("traces/mooncake_conversation.jsonl");
const azure = shared("traces/azure_conv_2023.csv");
describe.skipIf(!existsSync(mooncake) || !existsSync(azure))(
  "published traces (need ../shared/traces)",
  () => {
    it("Mooncake: 12,031 requests of 12,035 tokens on average in an hour", async () => {
      const rows = parseTrace(mooncake, readFileSync(mooncake, "utf8"));
      expect(rows).toHaveLength(12_031);
      const sum = rows.reduce((total, { inputLen }) => total + inputLen, 0);
      expect(Math.round(sum / rows.length)).toBe(12_035);
      expect(rows.at(-1)?.arrival).toBe(3536.999);
      const samples = await load([
        "--dataset-name",
        "trace",
        "--dataset-path",
        mooncake,
        "--num-prompts",
        "50",
        "--length-scale",
        "0.02",
      ]);
      // All begin with hash id 0: round(512 * 0.02) = 10 tokens in common.
      const beginnings = samples.map((sample) =>
        ids(sample).slice(0, 10).join(),
      );
      expect(new Set(beginnings).size).toBe(1);
    });

    it("Azure: 19,366 requests in an hour", () => {
      const rows = parseTrace(azure, readFileSync(azure, "utf8"));
      expect(rows).toHaveLength(19_366);
      expect(rows[1]?.arrival).toBeCloseTo(4.314579, 5);
      expect(rows.at(-1)?.arrival).toBeCloseTo(3501.721937, 4);
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
