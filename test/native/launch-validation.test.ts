import { afterAll, beforeAll, expect, it } from "vitest";
import type { StepArena } from "../../src/runner/step-arena.js";
import {
  errorOf,
  logitsOf,
  open,
  pack,
  removeTemporaryFolders,
  specOf,
  step,
  tinyLlama,
} from "./support.js";
import type { Counts, Open, SequenceRows } from "./support.js";

let opened: Open;
let twin: Open;
beforeAll(() => {
  const model = tinyLlama();
  opened = open(specOf(model));
  twin = open(specOf(model));
});
afterAll(() => {
  opened.runner.close();
  twin.runner.close();
  removeTemporaryFolders();
});

/** Two sequences: rows 0..17 at positions 0..17 (blocks 3, 4), rows 18..19 at positions 14..15 (block 6). */
const ROWS: SequenceRows[] = [
  {
    slot: 1,
    start: 0,
    ids: Array.from({ length: 18 }, (_, i) => i),
    blocks: [3, 4],
    samples: 2,
    bias: [[3, 0.5]],
  },
  {
    slot: 2,
    start: 14,
    ids: [7, 8],
    blocks: [6],
    samples: 1,
    allowed: [1, 2, 3],
  },
];
const set =
  (name: keyof StepArena, index: number, value: number) =>
  (arena: StepArena) => {
    const array = arena[name];
    if (array) array[index] = value;
  };

/** What is wrong, how it is made wrong, and what the error must say. */
const WRONG: [
  name: string,
  spoil: (arena: StepArena, counts: Counts) => void,
  message: RegExp,
][] = [
  [
    "no tokens",
    (_, c) => (c.numTokens = 0),
    /^numTokens: expected an integer in \[1, 64\], got 0$/,
  ],
  ["too many tokens", (_, c) => (c.numTokens = 65), /^numTokens: .*got 65$/],
  [
    "negative sequences",
    (_, c) => (c.numSeqs = -1),
    /^numSeqs: expected an integer in \[1, 4\], got -1$/,
  ],
  ["too many sequences", (_, c) => (c.numSeqs = 5), /^numSeqs: /],
  [
    "too many samples",
    (_, c) => (c.numSamples = 13),
    /^numSamples: expected an integer in \[0, 12\], got 13$/,
  ],
  [
    "queryStart does not start at 0",
    set("queryStart", 0, 1),
    /^queryStart\[0\]: expected 0, got 1$/,
  ],
  [
    "queryStart runs back",
    set("queryStart", 1, -3),
    /^queryStart\[1\]: expected an integer in \[1, 20\], got -3$/,
  ],
  ["a sequence without tokens", set("queryStart", 1, 0), /^queryStart\[1\]: /],
  [
    "queryStart beyond the tokens",
    set("queryStart", 1, 2 ** 31 - 1),
    /^queryStart\[1\]: .*got 2147483647$/,
  ],
  [
    "queryStart ends early",
    set("queryStart", 2, 19),
    /^queryStart\[2\]: |^positions|^slotMapping/,
  ],
  [
    "context shorter than its tokens",
    set("contextLens", 0, 17),
    /^contextLens\[0\]: expected an integer in \[18, 100\], got 17$/,
  ],
  [
    "context beyond maxModelLen",
    set("contextLens", 1, 101),
    /^contextLens\[1\]: .*\[2, 100\], got 101$/,
  ],
  [
    "seqSlot out of range",
    set("seqSlot", 0, 4),
    /^seqSlot\[0\]: expected an integer in \[0, 3\], got 4$/,
  ],
  ["negative seqSlot", set("seqSlot", 0, -1), /^seqSlot\[0\]: /],
  [
    "seqSlot used twice",
    set("seqSlot", 1, 1),
    /^seqSlot\[1\]: expected a slot that no other sequence of the step uses, got 1$/,
  ],
  [
    "negative numPromptTokens",
    set("numPromptTokens", 0, -1),
    /^numPromptTokens\[0\]: /,
  ],
  [
    "numPromptTokens too large",
    set("numPromptTokens", 1, 101),
    /^numPromptTokens\[1\]: /,
  ],
  [
    "block out of range",
    set("blockTables", 1, 24),
    /^blockTables\[1\]: expected an integer in \[0, 23\], got 24$/,
  ],
  ["negative block", set("blockTables", 7, -1), /^blockTables\[7\]: /],
  [
    "id out of the vocabulary",
    set("inputIds", 4, 40),
    /^inputIds\[4\]: expected an integer in \[0, 39\], got 40$/,
  ],
  [
    "id of no previous row",
    set("inputIds", 19, -1),
    /^inputIds\[19\]: .*got -1$/,
  ],
  ["smallest id", set("inputIds", 19, -(2 ** 31)), /^inputIds\[19\]: /],
  [
    "position off by one",
    set("positions", 5, 6),
    /^positions\[5\]: expected 5 \(contextLens\[0\] - count \+ row\), got 6$/,
  ],
  ["negative position", set("positions", 0, -1), /^positions\[0\]: /],
  [
    "slot in another block",
    set("slotMapping", 16, 50),
    /^slotMapping\[16\]: expected 64 \(block 4 of position 16\), got 50$/,
  ],
  [
    "huge slot",
    set("slotMapping", 18, 2 ** 31 - 1),
    /^slotMapping\[18\]: expected 110 /,
  ],
  [
    "two sequences write one slot",
    (arena) => {
      arena.blockTables[7] = 3;
      arena.slotMapping[18] = 3 * 16 + 14;
      arena.slotMapping[19] = 3 * 16 + 15;
    },
    /^slotMapping\[18\]: expected a slot that no other row of the step writes, got 62$/,
  ],
  [
    "one sequence writes a slot twice",
    (arena) => {
      arena.blockTables[1] = 3;
      arena.slotMapping[16] = 48;
      arena.slotMapping[17] = 49;
    },
    /^slotMapping\[16\]: expected a slot that no other row/,
  ],
  [
    "sample row out of range",
    set("sampleRows", 2, 20),
    /^sampleRows\[2\]: expected an integer in \[18, 19\], got 20$/,
  ],
  ["sample rows descend", set("sampleRows", 1, 15), /^sampleRows\[1\]: /],
  ["sample row twice", set("sampleRows", 1, 16), /^sampleRows\[1\]: /],
  ["negative sample row", set("sampleRows", 0, -1), /^sampleRows\[0\]: /],
  [
    "rowSlot of another sequence",
    set("rowSlot", 2, 1),
    /^rowSlot\[2\]: expected 2 \(seqSlot\[1\] of token row 19\), got 1$/,
  ],
  [
    "rowPosition of another row",
    set("rowPosition", 0, 17),
    /^rowPosition\[0\]: expected 16 \(positions\[16\]\), got 17$/,
  ],
  [
    "negative temperature",
    set("temperature", 0, -1),
    /^temperature\[0\]: expected a finite number in \[0, /,
  ],
  [
    "NaN temperature",
    set("temperature", 2, NaN),
    /^temperature\[2\]: .*got -?nan$/,
  ],
  [
    "infinite temperature",
    set("temperature", 1, Infinity),
    /^temperature\[1\]: /,
  ],
  ["topP of 0", set("topP", 0, 0), /^topP\[0\]: /],
  ["topP above 1", set("topP", 0, 1.5), /^topP\[0\]: .*got 1.5$/],
  ["minP below 0", set("minP", 0, -0.1), /^minP\[0\]: /],
  ["minP above 1", set("minP", 0, 1.1), /^minP\[0\]: /],
  ["repetition of 0", set("repetition", 0, 0), /^repetition\[0\]: /],
  ["NaN presence", set("presence", 1, NaN), /^presence\[1\]: /],
  ["infinite frequency", set("frequency", 1, -Infinity), /^frequency\[1\]: /],
  ["negative topK", set("topK", 0, -1), /^topK\[0\]: /],
  [
    "target out of the vocabulary",
    set("targetId", 0, 40),
    /^targetId\[0\]: expected an integer in \[-1, 39\], got 40$/,
  ],
  ["target below -1", set("targetId", 0, -2), /^targetId\[0\]: /],
  [
    "numTop of 21",
    set("numTop", 0, 21),
    /^numTop\[0\]: expected an integer in \[-1, 20\], got 21$/,
  ],
  ["numTop below -1", set("numTop", 0, -2), /^numTop\[0\]: /],
  [
    "maskRow out of range",
    set("maskRow", 2, 12),
    /^maskRow\[2\]: expected an integer in \[-1, 11\], got 12$/,
  ],
  ["maskRow below -1", set("maskRow", 2, -2), /^maskRow\[2\]: /],
  ["negative biasStart", set("biasStart", 0, -1), /^biasStart\[0\]: /],
  ["biasStart runs back", set("biasStart", 2, 0), /^biasStart\[2\]: /],
  [
    "biasStart beyond the area",
    set("biasStart", 3, 12 * 1024 + 1),
    /^biasStart\[3\]: .*got 12289$/,
  ],
  [
    "bias id out of the vocabulary",
    set("biasId", 1, 40),
    /^biasId\[1\]: expected an integer in \[0, 39\], got 40$/,
  ],
  [
    "NaN bias",
    set("biasValue", 0, NaN),
    /^biasValue\[0\]: expected a finite number or -Infinity/,
  ],
  ["infinite bias", set("biasValue", 0, Infinity), /^biasValue\[0\]: /],
];

it.each(WRONG)("refuses %s", (_, spoil, message) => {
  const [arena] = opened.arenas;
  const counts = pack(opened, arena, ROWS);
  spoil(arena, counts);
  const error = errorOf(() =>
    opened.runner.launch(
      0,
      counts.numTokens,
      counts.numSeqs,
      counts.numSamples,
      false,
    ),
  );
  expect(error.code).toBe("ERR_OCTAVO_ARGUMENT");
  expect(error.message).toMatch(message);
  expect(opened.runner.state).toBe("ready");
});

it("is untouched by all of them", () => {
  // Position 14 of the second sequence reads positions 0..13 of block 6: zeros, unless a refused launch wrote there.
  const rows = ROWS.map((row) => ({ ...row }));
  const arena = step(opened, 0, rows);
  const expected = step(twin, 0, rows);
  for (let r = 0; r < 3; r++)
    expect(logitsOf(opened, arena, r)).toEqual(logitsOf(twin, expected, r));
  expect(arena.sampledIds.slice(0, 3)).toEqual(expected.sampledIds.slice(0, 3));
});

it("accepts ids of exactly the rows that the previous launch sampled", () => {
  step(opened, 0, ROWS);
  const last = { slot: 0, start: 0, ids: [-4], blocks: [0] };
  const counts = pack(opened, opened.arenas[1], [last]);
  const launch = () =>
    opened.runner.launch(
      1,
      counts.numTokens,
      counts.numSeqs,
      counts.numSamples,
      false,
    );
  expect(errorOf(launch).message).toMatch(
    /^inputIds\[0\]: expected an integer in \[-3, 39\], got -4$/,
  );
  opened.arenas[1].inputIds[0] = -3;
  launch();
  opened.runner.collect(1);
  // A launch without samples leaves nothing to name.
  step(opened, 0, [{ ...last, ids: [1], samples: 0 }]);
  opened.arenas[1].inputIds[0] = -1;
  expect(errorOf(launch).message).toMatch(
    /^inputIds\[0\]: expected an integer in \[0, 39\], got -1$/,
  );
});

it("checks sampling parameters of a deferred launch when they are final, and lets them be corrected", () => {
  const [arena] = opened.arenas;
  const counts = pack(opened, arena, ROWS);
  arena.temperature[0] = NaN; // not looked at yet
  opened.runner.launch(
    0,
    counts.numTokens,
    counts.numSeqs,
    counts.numSamples,
    true,
  );
  expect(errorOf(() => opened.runner.sample(0)).message).toMatch(
    /^temperature\[0\]/,
  );
  expect(opened.runner.state).toBe("busy");
  arena.temperature[0] = 0;
  opened.runner.sample(0);
  opened.runner.collect(0);
  expect([1, 2, 3]).toContain(arena.sampledIds[2]);
});

it("computes what it checked: writes after launch change nothing", () => {
  const rows = ROWS.map((row) => ({ ...row }));
  const expected = logitsOf(twin, step(twin, 0, rows), 2);
  const [arena] = opened.arenas;
  const counts = pack(opened, arena, rows);
  opened.runner.launch(
    0,
    counts.numTokens,
    counts.numSeqs,
    counts.numSamples,
    false,
  );
  for (const name of [
    "inputIds",
    "positions",
    "slotMapping",
    "blockTables",
    "sampleRows",
    "biasId",
    "maskRow",
  ] as const)
    arena[name].fill(2 ** 31 - 1);
  opened.runner.collect(0);
  expect(logitsOf(opened, arena, 2)).toEqual(expected);
});

it("accepts every extreme that is in range", () => {
  const [arena] = opened.arenas;
  const counts = pack(opened, arena, ROWS);
  arena.topK.fill(2 ** 31 - 1);
  arena.seedLo.fill(-1);
  arena.seedHi.fill(-(2 ** 31));
  arena.temperature.fill(1e30);
  arena.minP.fill(1);
  arena.topP.fill(1e-6);
  arena.presence.fill(-3e38);
  arena.biasValue[0] = -Infinity;
  arena.numTop.fill(20);
  opened.runner.launch(
    0,
    counts.numTokens,
    counts.numSeqs,
    counts.numSamples,
    false,
  );
  opened.runner.collect(0);
  for (let r = 0; r < 3; r++) expect(arena.sampledIds[r]).toBeLessThan(40);
});
