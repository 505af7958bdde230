import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readCheckpoint } from "../../src/loader/checkpoint.js";
import { readSafetensorsHeader } from "../../src/loader/safetensors.js";
import { withHeader } from "./mutations.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), "octavo-safetensors-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const A = { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] };
const B = { dtype: "F16", shape: [4], data_offsets: [24, 32] };

function read(bytes: Buffer): ReturnType<typeof readSafetensorsHeader> {
  const file = path.join(folder, "x.safetensors");
  writeFileSync(file, bytes);
  return readSafetensorsHeader(file, "x.safetensors");
}

function file(header: unknown, dataBytes = 32): Buffer {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  return withHeader(text, Buffer.alloc(dataBytes));
}

it("reads names, dtypes, shapes and offsets, in any order", () => {
  const header = JSON.stringify({ __metadata__: { format: "pt" }, b: B, a: A });
  const { tensors, fileBytes } = read(file(header));
  const start = 8 + header.length;
  expect(fileBytes).toBe(start + 32);
  expect(tensors).toEqual([
    { name: "b", dtype: "F16", shape: [4], offset: start + 24, bytes: 8 },
    { name: "a", dtype: "F32", shape: [2, 3], offset: start, bytes: 24 },
  ]);
});

it("reads scalars, empty tensors and padded headers", () => {
  const scalar = { dtype: "F32", shape: [], data_offsets: [0, 4] };
  const empty = { dtype: "F32", shape: [0, 9], data_offsets: [4, 4] };
  const text = `${JSON.stringify({ scalar, empty })}      `;
  expect(read(file(text, 4)).tensors.map((t) => t.bytes)).toEqual([4, 0]);
});

describe("refuses", () => {
  const good = file({ a: A, b: B });
  const withLength = (length: bigint): Buffer => {
    const bytes = Buffer.from(good);
    bytes.writeBigUInt64LE(length);
    return bytes;
  };
  const entry = (change: object): Buffer =>
    file({ a: { ...A, ...change }, b: B });
  const CASES: [what: string, bytes: Buffer, message: RegExp][] = [
    ["an empty file", Buffer.alloc(0), /at least 8 bytes, got 0/],
    ["a file of 7 bytes", Buffer.alloc(7), /at least 8 bytes, got 7/],
    ["a length of 0", withLength(0n), /got a header length of 0/],
    [
      "a length beyond the file",
      withLength(BigInt(good.length - 7)),
      /header length of/,
    ],
    ["a length of 2^64 - 1", withLength(2n ** 64n - 1n), /header length of 18/],
    ["a truncated file", good.subarray(0, good.length - 1), /got a file of/],
    ["a file that goes on", Buffer.concat([good, good]), /got a file of/],
    ["a header that is no JSON", file("{]"), /expected JSON/],
    ["a list", file("[]"), /starts with \{/],
    ["a leading space", file(" {}"), /starts with \{/],
    [
      "text that is no UTF-8",
      withHeader("{}", Buffer.alloc(0)).fill(0xff, 9),
      /UTF-8/,
    ],
    [
      "metadata that is no map",
      file({ __metadata__: 1, a: A, b: B }),
      /__meta/,
    ],
    ["an entry that is no object", file({ a: 3, b: B }), /tensor a.*got 3/],
    ["an unknown dtype", entry({ dtype: "Q4" }), /tensor a.*got "Q4"/],
    ["a dtype from the prototype", entry({ dtype: "toString" }), /tensor a/],
    ["a negative dimension", entry({ shape: [-2, -3] }), /tensor a.*\[-2,-3\]/],
    ["a fractional dimension", entry({ shape: [1.5, 4] }), /tensor a/],
    ["no shape", entry({ shape: undefined }), /tensor a.*got nothing/],
    [
      "a shape that overflows",
      entry({ shape: [2 ** 40, 2 ** 40] }),
      /tensor a/,
    ],
    [
      "a shape that is not its bytes",
      entry({ shape: [2, 2] }),
      /tensor a: expected 16 bytes \(F32 \[2, 2\]\) in data_offsets, got \[0,24\]/,
    ],
    ["offsets that run back", entry({ data_offsets: [24, 0] }), /tensor a/],
    ["three offsets", entry({ data_offsets: [0, 24, 24] }), /tensor a/],
    [
      "overlapping tensors",
      file({ a: A, b: { ...B, data_offsets: [20, 28] } }, 28),
      /tensor b: expected its bytes at 24, where those before it end, got 20/,
    ],
    [
      "a gap",
      file({ a: A, b: { ...B, data_offsets: [28, 36] } }, 36),
      /tensor b: expected its bytes at 24.* got 28/,
    ],
    [
      "bytes before the first tensor",
      file({ b: B }, 32),
      /tensor b: expected its bytes at 0/,
    ],
    [
      "a tensor beyond the file",
      file({ a: A, b: { ...B, shape: [400], data_offsets: [24, 824] } }),
      /got a file of/,
    ],
    [
      "a name twice",
      file(
        `{"a":${JSON.stringify(A)},"b":${JSON.stringify(B)},"\\u0061":${JSON.stringify(A)}}`,
      ),
      /tensor a: expected once, got twice/,
    ],
  ];
  it.each(CASES)("%s", (_, bytes, message) => {
    let error: unknown;
    try {
      read(bytes);
    } catch (e) {
      error = e;
    }
    expect(error).toMatchObject({ name: "OctavoError", code: "invalid_model" });
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toContain("x.safetensors");
  });
});

describe("an index", () => {
  const one = { a: A };
  const two = { b: { ...B, data_offsets: [0, 8] } };
  const directory = (
    index: unknown,
    shards: Record<string, object>,
  ): string => {
    const made = mkdtempSync(path.join(folder, "model-"));
    writeFileSync(
      path.join(made, "model.safetensors.index.json"),
      JSON.stringify(index),
    );
    for (const [name, header] of Object.entries(shards))
      writeFileSync(
        path.join(made, name),
        file(header, name === "1.safetensors" ? 24 : 8),
      );
    return made;
  };
  const both = { "1.safetensors": one, "2.safetensors": two };
  const map = { a: "1.safetensors", b: "2.safetensors" };

  it("joins its shards", () => {
    const { files, tensors } = readCheckpoint(
      directory({ weight_map: map }, both),
    );
    expect(files.map((f) => path.basename(f))).toEqual(Object.keys(both));
    expect(tensors.get("b")).toMatchObject({ file: 1, shape: [4] });
  });

  it.each([
    [
      "a missing shard",
      { weight_map: map },
      { "1.safetensors": one },
      /shard 2.safetensors is missing/,
    ],
    [
      "a tensor that is elsewhere",
      { weight_map: { ...map, b: "1.safetensors" } },
      both,
      /tensor b is not in 1.safetensors/,
    ],
    [
      "a tensor that is nowhere",
      { weight_map: { ...map, c: "1.safetensors" } },
      both,
      /tensor c is not in/,
    ],
    [
      "a path",
      { weight_map: { ...map, b: "../2.safetensors" } },
      both,
      /weight_map.b: expected the name/,
    ],
    [
      "a number",
      { weight_map: { a: 1 } },
      both,
      /weight_map.a: expected a string, got 1/,
    ],
    ["no weight_map", {}, both, /expected a weight_map/],
    ["no object", [], both, /expected a JSON object/],
  ])("refuses %s", (_, index, shards, message) => {
    expect(() => readCheckpoint(directory(index, shards))).toThrow(message);
  });
});
