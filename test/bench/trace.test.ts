import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseTrace } from "../../bench/serve/trace.js";
import { file, ids, load, shared } from "./dataset-support.js";

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
