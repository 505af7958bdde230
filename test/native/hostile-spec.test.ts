import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Program } from "../../src/program/program.js";
import { loadAddon } from "../../src/runner/addon.js";
import type { RunnerSpec } from "../../src/runner/addon.js";
import {
  errorOf,
  removeTemporaryFolders,
  runOnce,
  specOf,
  tinyLlama,
} from "./support.js";
import type { TinyLlama } from "./support.js";

let model: TinyLlama;
beforeAll(() => {
  model = tinyLlama();
});
afterAll(removeTemporaryFolders);

const fresh = (): RunnerSpec => structuredClone(specOf(model));
const make = (spec: unknown) => new (loadAddon().Runner)(spec as RunnerSpec);

/** Sets the property at `path` of a copy of a good spec. */
function altered(path: (string | number)[], value: unknown): RunnerSpec {
  const spec = fresh();
  let target = spec as unknown as Record<string | number, unknown>;
  for (const key of path.slice(0, -1))
    target = target[key] as Record<string | number, unknown>;
  target[path.at(-1) ?? ""] = value;
  return spec;
}

function keysOf(
  value: unknown,
  prefix: (string | number)[] = [],
): (string | number)[][] {
  if (value === null || typeof value !== "object") return [prefix];
  const keys = ArrayBuffer.isView(value)
    ? Array.from({ length: (value as Int32Array).length }, (_, i) => i)
    : Object.keys(value).map((key) =>
        Array.isArray(value) ? Number(key) : key,
      );
  const own = prefix.length > 0 ? [prefix] : [];
  return [
    ...own,
    ...keys.flatMap((key) =>
      keysOf((value as Record<string | number, unknown>)[key], [
        ...prefix,
        key,
      ]),
    ),
  ];
}

const SHAPE_ERRORS: [
  path: (string | number)[],
  value: unknown,
  message: RegExp,
][] = [
  [["device"], "tpu", /^device: expected one of cpu, reference, got "tpu"$/],
  [["device"], 3, /^spec\.device: expected a string, got a number$/],
  [["threads"], -1, /^spec\.threads: /],
  [
    ["kvCacheDtype"],
    "f8",
    /^spec\.kvCacheDtype: expected one of f32, f16, int8, got "f8"$/,
  ],
  [
    ["cpuActivations"],
    "i4",
    /^spec\.cpuActivations: expected one of f32, int8, got "i4"$/,
  ],
  [["keepLogits"], 1, /^spec\.keepLogits: expected a boolean, got a number$/],
  [["files"], "weights", /^spec\.files: expected an array, got a string$/],
  [["files"], ["a\0b"], /^spec\.files\[0\]: expected a path without NUL/],
  [
    ["files"],
    [],
    /^spec\.program: file of tensor embed: expected an integer in \[-1, -1\], got 0$/,
  ],
  [["sizes"], null, /^spec\.sizes: expected an object, got null$/],
  [["sizes", "maxNumTokens"], 0, /^spec\.sizes\.maxNumTokens: /],
  [
    ["sizes", "maxNumTokens"],
    2 ** 31,
    /^spec\.sizes\.maxNumTokens: .*got 2147483648$/,
  ],
  [
    ["sizes", "maxNumTokens"],
    1.5,
    /^spec\.sizes\.maxNumTokens: expected a safe integer, got 1.5$/,
  ],
  [
    ["sizes", "maxBlocksPerSeq"],
    6,
    /^spec\.sizes\.maxBlocksPerSeq: expected an integer in \[7, 7\], got 6$/,
  ],
  [["sizes", "numBlocks"], 2 ** 28, /^spec\.sizes\.numBlocks: /],
  [
    ["sizes", "logitsRows"],
    13,
    /^spec\.sizes\.logitsRows: expected an integer in \[1, 12\], got 13$/,
  ],
  [["dummySeed"], -1, /^spec\.dummySeed: /],
  [["program", "version"], 2, /^program\.version: expected 1, got 2$/],
  [["program", "vocabSize"], 0, /^program\.vocabSize: /],
  [
    ["program", "vocabSize"],
    41,
    /^program\.logits: expected a sample buffer of width vocabSize/,
  ],
  [
    ["program", "code"],
    [1, 2, 3],
    /^spec\.program\.code: expected an Int32Array, got an array$/,
  ],
  [["program", "code"], new Int32Array(0), /^program\.headStart: /],
  [
    ["program", "code"],
    new Int32Array([99, 0]),
    /^program\.code\[0\]: expected a known opcode, got 99$/,
  ],
  [
    ["program", "code"],
    new Int32Array([1]),
    /^program\.code\[0\]: expected an opcode and its argument count/,
  ],
  [
    ["program", "code"],
    new Int32Array([1, 3, 0]),
    /^program\.code\[0\]: expected its arguments/,
  ],
  [
    ["program", "code"],
    new Int32Array([1, -1]),
    /^program\.code\[0\]: expected 3 arguments of embed, got -1$/,
  ],
  [
    ["program", "headStart"],
    1,
    /^program\.headStart: expected the start of an instruction, got 1$/,
  ],
  [["program", "logits"], 0, /^program\.logits: /],
  [["program", "tokenColumns"], -1, /^program\.tokenColumns: /],
  [
    ["program", "buffers", 0, "rows"],
    "blocks",
    /^spec\.program\.buffers\[0\]\.rows: expected one of tokens, samples/,
  ],
  [["program", "buffers", 0, "width"], 0, /^program\.buffers\[0\]\.width: /],
  [
    ["program", "buffers", 0, "width"],
    17,
    /table: expected shape \[40, 17\], got \[40, 16\]$/,
  ],
  [
    ["program", "buffers", 1, "column"],
    8,
    /^program\.buffers\[1\]\.column: expected a multiple of 16, got 8$/,
  ],
  [
    ["program", "buffers", 1, "column"],
    1600,
    /^program\.buffers\[1\]\.column: /,
  ],
  [
    ["program", "buffers", 2, "column"],
    0,
    /expected buffers that do not overlap/,
  ],
  [
    ["program", "dense", 0, "source"],
    null,
    /^program\.dense\[0\]\.source: expected a tensor, got null$/,
  ],
  [
    ["program", "dense", 0, "source", "dtype"],
    "i32",
    /^program\.dense\[0\]\.source \(embed\)\.dtype: /,
  ],
  [
    ["program", "dense", 0, "source", "shape"],
    [41, 16],
    /table: expected shape \[40, 16\], got \[41, 16\]$/,
  ],
  [
    ["program", "dense", 0, "source", "shape"],
    [],
    /shape: expected 1 or 2 dimensions, got \[\]$/,
  ],
  [["program", "dense", 0, "source", "shape"], [-1, 16], /shape\[0\]: /],
  [["program", "dense", 0, "source", "offset"], -1, /offset: /],
  [
    ["program", "dense", 1, "source", "shape"],
    [15],
    /\(rmsNorm\)\.weight: expected a vector of 16, got norm1\.0 of 15$/,
  ],
  [
    ["program", "linears", 0, "scheme"],
    "fp4",
    /^spec\.program\.linears\[0\]\.scheme: expected one of dense, /,
  ],
  [["program", "linears", 0, "k"], 15, /shape \[16, 15\], got \[16, 16\]$/],
  [
    ["program", "linears", 0, "n"],
    33,
    /^program\.linears\[0\]\.n: expected the sum of its parts, 32, got 33$/,
  ],
  [["program", "linears", 0, "groupSize"], 4, /groupSize/],
  [
    ["program", "linears", 0, "parts"],
    [],
    /^program\.linears\[0\]\.parts: expected 1 to 3 parts, got 0$/,
  ],
  [
    ["program", "linears", 0, "siluMulPairs"],
    true,
    /siluMulPairs: expected two parts of equal n/,
  ],
  [
    ["program", "linears", 2, "siluMulPairs"],
    false,
    /epilogue: expected siluMul exactly with/,
  ],
  [
    ["program", "linears", 0, "parts", 0, "bias", "shape"],
    [17],
    /bias.*: expected shape \[16\], got \[17\]$/,
  ],
  [
    ["program", "ropes", 0, "inverseFrequencies"],
    new Float64Array(5),
    /rotaryDim/,
  ],
  [
    ["program", "ropes", 0, "inverseFrequencies"],
    new Float64Array(0),
    /inverseFrequencies\.length/,
  ],
  [
    ["program", "ropes", 0, "inverseFrequencies"],
    new Float64Array([1, NaN]),
    /inverseFrequencies\[1\]/,
  ],
  [["program", "ropes", 0, "scale"], Infinity, /^program\.ropes\[0\]\.scale: /],
  [
    ["program", "kvLayers", 0, "headDim"],
    16,
    /kvLayer: expected a layer of 1 heads of 8, got 1 heads of 16$/,
  ],
  [["program", "kvLayers"], [], /kvLayer: /],
];

it.each(SHAPE_ERRORS)("names the fault: %j = %j", (path, value, message) => {
  const error = errorOf(() => make(altered(path, value)));
  expect(error.message).toMatch(message);
  expect(error.code).toBe("ERR_OCTAVO_ARGUMENT");
});

it("any altered spec is refused with a code or runs", () => {
  const paths = keysOf(fresh());
  const strange = fc.oneof(
    fc.constantFrom<unknown>(
      null,
      undefined,
      NaN,
      -0,
      Infinity,
      "",
      "tokens",
      true,
      [],
      {},
      Symbol("s"),
      1n,
      () => 1,
    ),
    fc.constantFrom<unknown>(
      new Int32Array(3),
      new Float64Array([1]),
      new Proxy({}, {}),
      [1, 2],
      ["x"],
      2 ** 53,
    ),
    fc.integer({ min: -3, max: 70 }),
    fc.integer(),
    fc.double(),
    fc.string(),
  );
  const edit = fc.tuple(fc.nat(paths.length - 1), strange);
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
      const spec = fresh();
      for (const [index, value] of edits) {
        let target = spec as unknown as Record<string | number, unknown>;
        const path = paths[index] ?? [];
        try {
          for (const key of path.slice(0, -1))
            target = target[key] as Record<string | number, unknown>;
          target[path.at(-1) ?? ""] = value;
        } catch {
          // An earlier edit removed the way there.
        }
      }
      // Sizes that are valid but huge would only measure the machine.
      for (const key of Object.keys(
        spec.sizes ?? {},
      ) as (keyof RunnerSpec["sizes"])[]) {
        const size: unknown = spec.sizes[key];
        if (typeof size === "number" && size > 4096) return;
      }
      try {
        runOnce(make(spec), spec);
      } catch (error) {
        const { code, message } = error as Error & { code?: string };
        expect(code, message).toMatch(
          /^ERR_OCTAVO_(ARGUMENT|FILE|MEMORY|DEVICE)$/,
        );
      }
    }),
    { numRuns: Number(process.env["OCTAVO_FUZZ_RUNS"] ?? 1500) },
  );
});

it("errors thrown by a spec's own getters arrive as they are", () => {
  const trap = new Proxy(
    {},
    {
      get: () => {
        throw new RangeError("trap");
      },
    },
  );
  expect(() => make(trap)).toThrow(RangeError);
  const spec = {
    ...fresh(),
    get program(): Program {
      throw new RangeError("trap");
    },
  };
  expect(() => make(spec)).toThrow(RangeError);
  const hole = {
    ...fresh(),
    files: Object.assign([], { length: 2 ** 32 - 1 }),
  };
  expect(errorOf(() => make(hole)).message).toMatch(
    /^spec\.files: expected an array of at most/,
  );
  for (const value of [undefined, null, 1, "x", [], Symbol("s")])
    expect(errorOf(() => make(value)).code).toBe("ERR_OCTAVO_ARGUMENT");
});
