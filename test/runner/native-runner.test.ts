import { afterAll, describe, expect, it } from "vitest";
import { OctavoError } from "../../src/core/errors.js";
import type { SamplingParams } from "../../src/core/sampling-params.js";
import { loadAddon } from "../../src/runner/addon.js";
import {
  fromNativeError,
  NativeRunner,
} from "../../src/runner/native-runner.js";
import {
  removeTemporaryFolders,
  specOf,
  tinyLlama,
} from "../native/support.js";
import { batchOf, makeRequest, makeSequence } from "./support.js";

const model = tinyLlama();
const spec = specOf(model, { device: "cpu" });
const load = (): NativeRunner => NativeRunner.load(loadAddon().Runner, spec);
const PROMPT = Array.from({ length: 20 }, (_, i) => (7 * i) % 40);
const BLOCKS = [5, 2, 9];

afterAll(removeTemporaryFolders);

/** `count` tokens after the prompt, one launch at a time. */
function decode(
  runner: NativeRunner,
  params: Partial<SamplingParams>,
  count: number,
  prompt = PROMPT,
): number[] {
  const sequence = makeSequence(makeRequest(prompt, params), {
    blocks: BLOCKS,
  });
  let start = 0;
  for (let i = 0; i < count; i++) {
    runner.launch(batchOf([sequence, start, sequence.numTokens - start, 1]));
    start = sequence.numTokens;
    sequence.append(runner.collect().sampledIds[0] ?? -1);
  }
  return [...sequence.tokens.slice(prompt.length, sequence.numTokens)];
}

describe("NativeRunner", () => {
  it("gives the same tokens one step ahead, fed back by row, as step by step", () => {
    const params = { temperature: 1, seedLo: 3 };
    const plain = load();
    const expected = decode(plain, params, 8);
    plain.close();
    const runner = load();
    const sequence = makeSequence(makeRequest(PROMPT, params), {
      blocks: BLOCKS,
    });
    runner.launch(batchOf([sequence, 0, PROMPT.length, 1]));
    for (let i = 1; i < 8; i++) {
      runner.launch(batchOf([sequence, PROMPT.length + i - 1, 1, 1, 0]));
      sequence.append(runner.collect().sampledIds[0] ?? -1);
    }
    sequence.append(runner.collect().sampledIds[0] ?? -1);
    expect([...sequence.tokens.slice(20, 28)]).toEqual(expected);
    expect(new Set(expected).size).toBeGreaterThan(2);
    runner.close();
  });

  it.each([0, 2])(
    "penalises a prefix that was found in the cache (sequence slot %i)",
    (slot) => {
      const params = { repetitionPenalty: 1e6, maxTokens: 1 };
      const runner = load();
      // A prompt whose continuation is one of its first block's tokens: without the history it would be chosen.
      const prompt = Array.from({ length: 40 }, (_, step) =>
        PROMPT.map((id) => (id + step) % 40),
      ).find((ids) =>
        ids.slice(0, 16).includes(decode(runner, {}, 1, ids)[0] ?? -1),
      );
      if (!prompt) throw new Error("no prompt continues with its own tokens");
      const [expected] = decode(runner, params, 1, prompt);
      expect(expected).not.toBe(decode(runner, {}, 1, prompt)[0]);
      const other = makeSequence(makeRequest(Array<number>(20).fill(39)), {
        slot,
        blocks: [11, 12],
      });
      runner.launch(batchOf([other, 0, 20, 1]));
      runner.collect();
      const hit = makeSequence(makeRequest(prompt, params), {
        slot,
        blocks: BLOCKS,
      });
      runner.launch(batchOf([hit, 16, 4, 1]));
      expect(runner.collect().sampledIds[0]).toBe(expected);
      runner.close();
    },
  );

  it("keeps the output of a launch while the next one computes", () => {
    const runner = load();
    const a = makeSequence(makeRequest(PROMPT, { logprobs: 3 }), {
      blocks: BLOCKS,
    });
    const b = makeSequence(makeRequest([1], { logprobs: 1 }), {
      slot: 1,
      blocks: [0],
    });
    runner.launch(batchOf([a, 0, 20, 1]));
    runner.launch(batchOf([b, 0, 1, 1]));
    const first = runner.collect();
    const before = [first.sampledIds[0], first.logprob[0], first.topIds[1]];
    runner.collect();
    expect([first.sampledIds[0], first.logprob[0], first.topIds[1]]).toEqual(
      before,
    );
    expect(first.logprob[0]).toBeLessThan(0);
    expect(runner.seconds.pack).toBeGreaterThan(0);
    runner.close();
  });

  it("refuses a third launch, a collect without one, and any after close", () => {
    const runner = load();
    const a = makeSequence(makeRequest([1]), { blocks: [0] });
    const b = makeSequence(makeRequest([1]), { slot: 1, blocks: [1] });
    expect(() => runner.collect()).toThrow(OctavoError);
    runner.launch(batchOf([a, 0, 1, 1]));
    runner.launch(batchOf([b, 0, 1, 1]));
    expect(() => runner.launch(batchOf([a, 0, 1, 1]))).toThrow(OctavoError);
    runner.collect();
    runner.collect();
    runner.close();
    expect(() => runner.launch(batchOf([a, 0, 1, 1]))).toThrow(OctavoError);
  });

  it("says which file is missing, as invalid_model", () => {
    const missing = { ...spec, files: ["no-such-file.safetensors"] };
    expect(() => NativeRunner.load(loadAddon().Runner, missing)).toThrow(
      expect.objectContaining({
        code: "invalid_model",
        message: expect.stringContaining("no-such-file.safetensors"),
      }),
    );
  });

  it("a batch that native refuses leaves the runner usable", () => {
    const runner = load();
    const bad = makeSequence(makeRequest([40]), { blocks: [0] });
    expect(() => runner.launch(batchOf([bad, 0, 1, 1]))).toThrow(
      expect.objectContaining({
        code: "internal_error",
        message: expect.stringContaining("inputIds[0]"),
      }),
    );
    expect(decode(runner, {}, 2)).toHaveLength(2);
    runner.close();
  });
});

describe("fromNativeError", () => {
  it.each([
    ["ERR_OCTAVO_DEVICE", "device_error"],
    ["ERR_OCTAVO_MEMORY", "out_of_memory"],
    ["ERR_OCTAVO_FILE", "invalid_model"],
    ["ERR_OCTAVO_STATE", "internal_error"],
    ["ERR_OCTAVO_ARGUMENT", "internal_error"],
  ])("%s is %s", (code, expected) => {
    const error = Object.assign(new Error("what"), { code });
    expect(fromNativeError(error)).toMatchObject({
      code: expected,
      message: "what",
    });
  });

  it("leaves other errors alone", () => {
    const error = new TypeError("mine");
    expect(fromNativeError(error)).toBe(error);
  });
});
