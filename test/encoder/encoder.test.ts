import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { chooseBatch } from "../../src/encoder/batching.js";
import { Encoder } from "../../src/encoder/encoder.js";
import { EncoderQueue } from "../../src/encoder/encoder-queue.js";
import { longestFirst } from "../../src/encoder/encoder-tokenizer.js";
import { widen } from "../../src/encoder/half.js";
import type { EncoderInput } from "../../src/encoder/messages.js";
import { finishVector } from "../../src/encoder/vectors.js";
import { FLOAT, writeOnnx } from "./onnx-writer.js";
import {
  embeddingOf,
  hiddenOf,
  idsOf,
  logitOf,
  meanOf,
  MEAN_MODULES,
  pairOf,
  tinyDirectory,
  tinyEncoder,
  WIDTH,
  WORDS,
  WORKER,
  type TinyModel,
} from "./tiny-models.js";

const TEXTS = [
  "a cat sat on the mat",
  "dog",
  "the red bird sings on the blue house",
  "",
  "a slow dog runs fast on the red tree the cat sat a bird sings the house",
];
const input = (ids: readonly number[]): EncoderInput => ({
  ids: Int32Array.from(ids),
  typeIds: null,
});

function expectClose(got: Iterable<number>, expected: readonly number[]): void {
  const numbers = [...got];
  expect(numbers).toHaveLength(expected.length);
  numbers.forEach((value, i) => expect(value).toBeCloseTo(expected[i] ?? 0, 5));
}

/** A list of words, as long as wanted, the same for the same seed. */
function words(count: number, seed: number): string {
  return Array.from({ length: count }, (_, i) => {
    const at = (seed * 31 + i * 17 + ((seed * i) % 7)) % (WORDS.length - 4);
    return WORDS[4 + at];
  }).join(" ");
}

const encoded = (encoder: Encoder, texts: string[], limit: number | null) =>
  encoder.tokenizer.encode(texts, { addSpecialTokens: true, limit });

describe("an embedding model", () => {
  it("gives what plain loops give: the mean, normalized", async () => {
    const encoder = await tinyEncoder({ files: MEAN_MODULES });
    expect(encoder.info).toMatchObject({
      kind: "embedding",
      width: WIDTH,
      pooling: "mean",
      normalize: true,
      described: true,
      maxLength: 32,
      vocabSize: WORDS.length,
    });
    const inputs = await encoded(encoder, TEXTS, null);
    expect(inputs.map(({ ids }) => [...ids])).toEqual(TEXTS.map(idsOf));
    const vectors = await encoder.run(inputs);
    vectors.forEach((vector, i) =>
      expectClose(
        finishVector(vector, null, true),
        embeddingOf(TEXTS[i] ?? ""),
      ),
    );
  });

  it("pools as the files say", async () => {
    const hidden = hiddenOf(idsOf(TEXTS[0] ?? ""));
    const largest = hidden.reduce((a, b) =>
      a.map((v, j) => Math.max(v, b[j] ?? 0)),
    );
    const cases: [object, string, number[]][] = [
      [{ pooling_mode_cls_token: true }, "cls", hidden[0] ?? []],
      [{ pooling_mode_lasttoken: true }, "lasttoken", hidden.at(-1) ?? []],
      [{ pooling_mode_max_tokens: true }, "max", largest],
      [{ pooling_mode: "mean" }, "mean", meanOf(hidden)],
      [
        { pooling_mode_mean_sqrt_len_tokens: true },
        "mean_sqrt_len_tokens",
        meanOf(hidden).map((v) => v * Math.sqrt(hidden.length)),
      ],
      [
        { pooling_mode_weightedmean_tokens: true },
        "weightedmean",
        meanOf(
          hidden.map((row, t) =>
            row.map((v) => (v * 2 * (t + 1)) / (hidden.length + 1)),
          ),
        ),
      ],
    ];
    for (const [config, pooling, expected] of cases) {
      const encoder = await tinyEncoder({
        files: { "1_Pooling/config.json": config },
      });
      expect(encoder.info.pooling).toBe(pooling);
      const inputs = await encoded(encoder, TEXTS, null);
      const [vector = []] = await encoder.run(inputs);
      expectClose(vector, expected);
    }
  });

  it("gives the same alone and in any batch", async () => {
    const encoder = await tinyEncoder({}, { maxBatchTokens: 200 });
    const texts = Array.from({ length: 80 }, (_, i) => words((i * 7) % 30, i));
    const inputs = await encoded(encoder, texts, null);
    // In requests of different sizes, at the same time.
    const requests = [3, 50, 1, 26].map((size, i, sizes) => {
      const from = sizes.slice(0, i).reduce((a, b) => a + b, 0);
      return encoder.run(inputs.slice(from, from + size));
    });
    const together = (await Promise.all(requests)).flat();
    expect(encoder.numBatches).toBeLessThan(80);
    expect(encoder.numBatches).toBeGreaterThan(5);
    for (const [i, one] of inputs.entries()) {
      const [alone = []] = await encoder.run([one]);
      expectClose(together[i] ?? [], [...alone]);
      expectClose(alone, meanOf(hiddenOf([...one.ids])));
    }
  });

  it("is right with graphs of other shapes", async () => {
    const shapes: TinyModel[] = [
      { mask: false },
      { typeIds: false },
      { batch: 1 },
      { batch: 3, length: 24 },
      { output: "token_embeddings", flat: true },
      { external: true },
      { int32: true },
      { past: true },
      { past: true, batch: 2 },
      { int32: true, batch: 2, length: 24 },
    ];
    for (const shape of shapes) {
      const encoder = await tinyEncoder(shape);
      const vectors = await encoder.run(await encoded(encoder, TEXTS, null));
      vectors.forEach((vector, i) => {
        const ids = idsOf(TEXTS[i] ?? "");
        // Without token types nothing is added for the first text's.
        const types = shape.typeIds === false ? ids.map(() => 9) : undefined;
        expectClose(vector, meanOf(hiddenOf(ids, types)));
      });
    }
    expect((await tinyEncoder({ batch: 3, length: 24 })).info.maxLength).toBe(
      24,
    );
  });

  it("reads float16, as vectors of tokens, pooled, and as logits", async () => {
    const close = (got: Iterable<number>, expected: readonly number[]): void =>
      [...got].forEach((value, i) =>
        expect(Math.abs(value - (expected[i] ?? NaN))).toBeLessThan(2e-3),
      );
    for (const int32 of [false, true]) {
      const shape = { half: true, int32, external: true };
      const encoder = await tinyEncoder({
        ...shape,
        modelFile: "model_fp16.onnx",
      });
      const vectors = await encoder.run(await encoded(encoder, TEXTS, null));
      vectors.forEach((vector, i) => {
        expect(vector).toHaveLength(WIDTH);
        close(vector, meanOf(hiddenOf(idsOf(TEXTS[i] ?? ""))));
      });
      const scorer = await tinyEncoder({ ...shape, kind: "cross-encoder" });
      const pairs = await scorer.tokenizer.encodePairs(["a cat"], TEXTS, null);
      const logits = await scorer.run(pairs);
      logits.forEach((logit, i) =>
        close(logit, [logitOf("a cat", TEXTS[i] ?? "")]),
      );
    }
  });

  it("gives the same in any batch where the graph rounds by a batch's range", async () => {
    const encoder = await tinyEncoder({ dynamic: true });
    const inputs = await encoded(encoder, TEXTS, null);
    const together = await encoder.run(inputs);
    expect(encoder.numBatches).toBe(TEXTS.length);
    for (const [i, one] of inputs.entries()) {
      const [alone = []] = await encoder.run([one]);
      expect([...(together[i] ?? [])]).toEqual([...alone]);
      const exact = meanOf(hiddenOf([...one.ids]));
      const error = Math.max(
        ...[...alone].map((v, j) => Math.abs(v - (exact[j] ?? 0))),
      );
      expect(error).toBeLessThan(0.05);
      expect(error).toBeGreaterThan(0);
    }
  });

  it("tells positions apart where the graph asks for them", async () => {
    const encoder = await tinyEncoder({ positions: true });
    const [a = [], b = []] = await encoder.run(
      await encoded(encoder, ["cat dog mat", "mat dog cat"], null),
    );
    expect(Math.max(...[...a].map((v, j) => Math.abs(v - (b[j] ?? 0))))) //
      .toBeGreaterThan(0.01);
    const same = await tinyEncoder();
    const [c = [], d = []] = await same.run(
      await encoded(same, ["cat dog mat", "mat dog cat"], null),
    );
    expectClose(c, [...d]);
  });

  it("cuts at the end, around the special tokens", async () => {
    const { tokenizer } = await tinyEncoder();
    const [cut] = await tokenizer.encode(["a cat sat on the mat"], {
      addSpecialTokens: true,
      limit: 5,
    });
    expect([...(cut?.ids ?? [])]).toEqual(idsOf("a cat sat"));
    const [bare] = await tokenizer.encode(["a cat sat on"], {
      addSpecialTokens: false,
      limit: 2,
    });
    expect([...(bare?.ids ?? [])]).toEqual(idsOf("a cat").slice(1, -1));
    const [odd] = await tokenizer.encode(["cat \ud800 \u0000 dog 🙂"], {
      addSpecialTokens: false,
      limit: null,
    });
    expect(odd?.ids[0]).toBe(WORDS.indexOf("cat"));
  });

  it("lowercases where sentence_bert_config.json says so, and takes its length", async () => {
    const { info, tokenizer } = await tinyEncoder({
      files: {
        "sentence_bert_config.json": { max_seq_length: 9, do_lower_case: true },
      },
    });
    expect(info.maxLength).toBe(9);
    const [shouted] = await tokenizer.encode(["A CAT"], {
      addSpecialTokens: true,
      limit: null,
    });
    expect([...(shouted?.ids ?? [])]).toEqual(idsOf("a cat"));
  });
});

describe("a cross-encoder", () => {
  it("gives what plain loops give for pairs", async () => {
    const encoder = await tinyEncoder({ kind: "cross-encoder" });
    expect(encoder.info).toMatchObject({
      kind: "cross-encoder",
      width: 1,
      activation: "sigmoid",
    });
    const inputs = await encoder.tokenizer.encodePairs(
      ["a cat sat"],
      TEXTS,
      null,
    );
    inputs.forEach(({ ids, typeIds }, i) => {
      const pair = pairOf("a cat sat", TEXTS[i] ?? "");
      expect([...ids]).toEqual(pair.ids);
      expect([...(typeIds ?? [])]).toEqual(pair.types);
    });
    const logits = await encoder.run(inputs);
    logits.forEach((logit, i) =>
      expectClose(logit, [logitOf("a cat sat", TEXTS[i] ?? "")]),
    );
  });

  it("cuts the longer text of a pair first", async () => {
    expect(longestFirst(3, 10, 8)).toEqual([3, 5]);
    expect(longestFirst(10, 3, 8)).toEqual([5, 3]);
    expect(longestFirst(10, 12, 9)).toEqual([4, 5]);
    expect(longestFirst(4, 4, 8)).toEqual([4, 4]);
    const { tokenizer } = await tinyEncoder({ kind: "cross-encoder" });
    const pairs = await tokenizer.encodePairs(
      ["a cat sat on the mat"],
      ["dog", "a bird sings on the tree", "dog"],
      9,
    );
    expect(pairs.map(({ ids }) => [...ids])).toEqual([
      pairOf("a cat sat on the", "dog").ids,
      pairOf("a cat sat", "a bird sings").ids,
      pairOf("a cat sat on the", "dog").ids,
    ]);
  });

  it("takes its activation from config.json", async () => {
    const { info } = await tinyEncoder({
      kind: "cross-encoder",
      config: {
        sentence_transformers: {
          activation_fn: "torch.nn.modules.linear.Identity",
        },
      },
    });
    expect(info.activation).toBe("identity");
  });
});

describe("requests", () => {
  it("are refused beyond the bounds, dropped after their signal, and end with close", async () => {
    const encoder = await tinyEncoder(
      {},
      { maxNumQueuedReqs: 2, maxNumQueuedTokens: 40, maxBatchTokens: 1 },
    );
    const ids = idsOf(words(10, 1));
    const stop = new AbortController();
    const long = encoder.run(
      Array.from({ length: 300 }, () => input(ids)),
      stop.signal,
    );
    await expect(encoder.run([input(ids)])).rejects.toMatchObject({
      code: "queue_full",
      param: "max_num_queued_tokens",
    });
    stop.abort();
    await expect(long).rejects.toMatchObject({ code: "request_aborted" });
    expect([encoder.numPending, encoder.numWaiting]).toEqual([0, 0]);

    // What the stopped one had computed of ends first: a batch is never broken off.
    const waiting = [encoder.run([input(ids)]), encoder.run([input(ids)])];
    await expect(encoder.run([input(ids)])).rejects.toMatchObject({
      code: "queue_full",
      param: "max_num_queued_reqs",
    });
    for (const [vector = []] of await Promise.all(waiting))
      expectClose(vector, meanOf(hiddenOf(ids)));
    const last = encoder.run(Array.from({ length: 300 }, () => input(ids)));
    const closed = encoder.close();
    await expect(last).rejects.toMatchObject({ code: "shutting_down" });
    await closed;
    await expect(encoder.run([input(ids)])).rejects.toMatchObject({
      code: "shutting_down",
    });
  });

  it("fail with the worker, which is started again, twice within a minute", async () => {
    const encoder = await tinyEncoder(
      {},
      {
        maxBatchTokens: 12,
        workerUrl: new URL("./crashing-worker.js", import.meta.url),
      },
    );
    const fatal = input([2, 1, 3]);
    const good = input(idsOf("a cat"));
    for (let crash = 1; crash <= 2; crash++) {
      const lost = encoder.run([fatal, fatal, good, good]);
      const other = encoder.run(Array.from({ length: 9 }, () => good));
      await expect(lost).rejects.toMatchObject({ code: "device_error" });
      // It waited for another batch than the one that was lost.
      for (const vector of await other)
        expectClose(vector, meanOf(hiddenOf(idsOf("a cat"))));
    }
    await expect(encoder.run([fatal])).rejects.toMatchObject({
      code: "device_error",
    });
    await expect(encoder.run([good])).rejects.toThrow(/too often/);
    expect(encoder.numPending).toBe(0);
  });

  it("fail alone where the runtime refuses their batch", async () => {
    const encoder = await tinyEncoder();
    await expect(encoder.run([input([WORDS.length])])).rejects.toMatchObject({
      code: "internal_error",
      message: expect.stringContaining("out of data bounds"),
    });
    const [vector = []] = await encoder.run([input(idsOf("dog"))]);
    expectClose(vector, meanOf(hiddenOf(idsOf("dog"))));
  });
});

describe("EncoderQueue", () => {
  it("takes requests in turns, and keeps none waiting for ever", async () => {
    const queue = new EncoderQueue({
      maxNumQueuedReqs: 0,
      maxNumQueuedTokens: 0,
    });
    const limits = {
      maxTokens: 400,
      maxInputs: 2,
      equalLengths: false,
      fixedLength: null,
    };
    const take = (): number[] => {
      const taken = queue.take(limits);
      if (taken === null) return [];
      const numbers = new Float32Array(taken.batch.lengths);
      queue.deliver(taken, numbers, 1);
      return [...numbers];
    };
    const long = queue.add(Array<EncoderInput>(600).fill(input(Array(200))));
    let done = false;
    void long.then(() => (done = true));
    take();
    // What comes one after the other never holds up more than every second batch.
    for (let i = 0; i < 20; i++) {
      const short = queue.add([input([1])]);
      const batches = [take(), take()];
      expect(batches).toContainEqual([1]);
      expect(batches).toContainEqual([200, 200]);
      expect(await short).toHaveLength(1);
    }
    expect(done).toBe(false);
    // Of two that are alike, both go on.
    const other = queue.add(Array<EncoderInput>(4).fill(input(Array(200))));
    for (let i = 0; i < 8; i++) take();
    expect(await other).toHaveLength(4);
    while (queue.numWaiting > 0) take();
    expect(await long).toHaveLength(600);
  });
});

describe("chooseBatch", () => {
  const limits = {
    maxTokens: 40,
    maxInputs: 4,
    equalLengths: false,
    fixedLength: null,
  };

  it("has the first one and those nearest to it in length", () => {
    const sorted = (list: number[]) => list.sort((a, b) => a - b);
    const wide = { ...limits, maxTokens: 1000 };
    expect(sorted(chooseBatch([10, 2, 9, 30, 11, 3, 10], limits))).toEqual([
      0, 2, 5, 6,
    ]);
    expect(sorted(chooseBatch([100, 60, 40, 90, 120], wide))).toEqual([
      0, 1, 3, 4,
    ]);
    // What would be padding for the most part is left for another batch.
    expect(sorted(chooseBatch([100, 40, 201], wide))).toEqual([0]);
    expect(chooseBatch([50, 2, 3], limits)).toEqual([0]);
    expect(chooseBatch([3, 3, 3, 3, 3, 3], limits)).toHaveLength(4);
  });

  it("keeps to equal and to fixed lengths", () => {
    const equal = { ...limits, equalLengths: true };
    expect(chooseBatch([4, 5, 4, 3, 4], equal)).toEqual([0, 2, 4]);
    const fixed = { ...limits, fixedLength: 20 };
    expect(chooseBatch([4, 5, 4, 3], fixed)).toHaveLength(2);
  });
});

describe("one graph of several", () => {
  const directory = tinyDirectory(
    { files: MEAN_MODULES },
    [{ modelFile: "model_fp16.onnx", half: true }, { modelFile: "a.onnx" }].map(
      (other, i) => ({ ...other, flat: i === 1 }),
    ),
  );
  const load = async (modelFile?: string): Promise<string> => {
    const encoder = await Encoder.load(directory, {
      workerUrl: WORKER,
      threads: 1,
      ...(modelFile !== undefined && { modelFile }),
    });
    await encoder.close();
    return path.relative(directory, encoder.info.modelFile);
  };

  it("is found by its name, with its folder or without", async () => {
    expect(await load()).toBe("onnx/model.onnx");
    expect(await load("model_fp16.onnx")).toBe("onnx/model_fp16.onnx");
    expect(await load("onnx/model_fp16.onnx")).toBe("onnx/model_fp16.onnx");
    expect(await load("a.onnx")).toBe("a.onnx");
  });

  it("is refused with a list of what is there", async () => {
    await expect(load("model_q4.onnx")).rejects.toMatchObject({
      code: "invalid_model",
      message: expect.stringContaining(
        "expected onnx/model_q4.onnx or model_q4.onnx, got a.onnx, onnx/model.onnx, onnx/model_fp16.onnx",
      ) as string,
    });
    for (const name of ["fp16", "", "../model.onnx", "/a.onnx", "a/b/c.onnx"])
      await expect(load(name)).rejects.toMatchObject({
        code: "invalid_config",
        param: "embedding-model-file",
      });
  });

  it("says what is missing beside it", async () => {
    const broken = tinyDirectory({ external: true });
    rmSync(path.join(broken, "onnx/model.onnx_data"));
    await expect(
      Encoder.load(broken, { workerUrl: WORKER }),
    ).rejects.toMatchObject({
      code: "invalid_model",
      message: expect.stringContaining("model.onnx_data") as string,
    });
  });
});

describe("widen", () => {
  it("has every kind of half-precision number", () => {
    const cases: [number, number][] = [
      [0x0000, 0],
      [0x8000, -0],
      [0x3c00, 1],
      [0xc000, -2],
      [0x3555, 0.333251953125],
      [0x7bff, 65504],
      [0x0400, 2 ** -14],
      [0x0001, 2 ** -24],
      [0x83ff, -1023 * 2 ** -24],
      [0x7c00, Infinity],
      [0xfc00, -Infinity],
      [0x7e00, NaN],
    ];
    const bits = Uint16Array.from(cases, ([half]) => half);
    expect([...widen(bits)]).toEqual(cases.map(([, value]) => value));
  });
});

describe("files that are no encoder", () => {
  const refused = async (tiny: TinyModel): Promise<string> => {
    const error: unknown = await tinyEncoder(tiny).catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: expect.stringMatching(/^(in|un)/) as string,
    });
    return (error as Error).message;
  };

  it("are refused by name", async () => {
    const pooling = (config: object): TinyModel => ({
      files: { "1_Pooling/config.json": config },
    });
    const dense = {
      ...MEAN_MODULES,
      "modules.json": [
        ...MEAN_MODULES["modules.json"],
        { path: "3_Dense", type: "sentence_transformers.models.Dense" },
      ],
    };
    const cases: [TinyModel, RegExp][] = [
      [pooling({ pooling_mode_median_tokens: true }), /got .*median/],
      [
        pooling({
          pooling_mode_mean_tokens: true,
          pooling_mode_max_tokens: true,
        }),
        /pooling_mode_mean_tokens \+ pooling_mode_max_tokens/,
      ],
      [pooling({}), /got none/],
      [{ files: dense }, /a step Dense/],
      [{ files: { "modules.json": {} } }, /modules\.json: expected a list/],
      [
        { files: { "modules.json": [{ type: "Pooling", path: "../x" }] } },
        /modules\.json: \[0\]\.path/,
      ],
      [{ config: { vocab_size: "x" } }, /vocab_size: expected an integer/],
      [
        { config: { sentence_transformers: { activation_fn: "ReLU" } } },
        /activation_fn/,
      ],
      [{ output: "logits" }, /output logits: expected one logit/],
      [{ files: { "tokenizer.json": {} } }, /tokenizer\.json: model/],
    ];
    for (const [tiny, message] of cases)
      expect(await refused(tiny)).toMatch(message);
  });

  it("are refused where the graph is missing, broken or asks for more", async () => {
    const directory = tinyDirectory();
    const load = (): Promise<Encoder> =>
      Encoder.load(directory, {
        workerUrl: new URL("./crashing-worker.js", import.meta.url),
      });
    const file = path.join(directory, "onnx/model.onnx");
    writeFileSync(file, "no model");
    await expect(load()).rejects.toThrow(/model\.onnx: cannot be loaded/);
    const value = { type: FLOAT, shape: ["batch", "length", 4] };
    const { model } = writeOnnx({
      inputs: [{ name: "pixel_values", ...value }],
      outputs: [{ name: "last_hidden_state", ...value }],
      nodes: [
        {
          op: "Identity",
          inputs: ["pixel_values"],
          output: "last_hidden_state",
        },
      ],
      floats: {},
    });
    writeFileSync(file, model);
    await expect(load()).rejects.toThrow(/input pixel_values: expected only/);
    rmSync(file);
    await expect(load()).rejects.toThrow(/expected onnx\/model.onnx or model/);
  });

  it("name the package where the runtime is missing", async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "octavo-no-runtime-"));
    for (const layer of ["core", "encoder"])
      cpSync(path.resolve("dist/src", layer), path.join(folder, layer), {
        recursive: true,
      });
    writeFileSync(path.join(folder, "package.json"), '{"type":"module"}');
    const workerUrl = pathToFileURL(
      path.join(folder, "encoder/encoder-worker.js"),
    );
    await expect(tinyEncoder({}, { workerUrl })).rejects.toMatchObject({
      code: "invalid_config",
      message: expect.stringContaining("onnxruntime-node") as string,
    });
    rmSync(folder, { recursive: true });
  });
});
