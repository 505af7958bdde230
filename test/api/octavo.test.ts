import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type * as api from "../../src/api/octavo.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import {
  embeddingOf,
  idsOf,
  MEAN_MODULES,
  tinyDirectory,
} from "../encoder/tiny-models.js";
import { openEngine } from "../e2e/native-engine.js";
import { MAIN } from "../e2e/server-process.js";
import { denseModel, removeTemporaryFolders } from "../quantize/support.js";

const root = path.resolve(path.dirname(MAIN), "../../..");
const manifest = JSON.parse(
  readFileSync(path.join(root, "package.json"), "utf8"),
) as { exports: { ".": { types: string; default: string } }; types: string };
const TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}";

describe("a model in a Node program", () => {
  let Octavo: typeof api.Octavo;
  let OctavoError: typeof api.OctavoError;
  let model: string;
  const loaded: api.Octavo[] = [];

  beforeAll(async () => {
    // As programs import it: what package.json names, compiled, so that its threads are too.
    const entry = pathToFileURL(path.join(root, manifest.exports["."].default));
    ({ Octavo, OctavoError } = (await import(entry.href)) as typeof api);
    model = denseModel();
  });
  afterEach(async () => {
    for (const octavo of loaded.splice(0)) await octavo.close();
  });
  afterAll(removeTemporaryFolders);

  async function load(options: api.LoadOptions = {}): Promise<api.Octavo> {
    const octavo = await Octavo.load(model, {
      device: "cpu",
      threads: 1,
      numGpuBlocksOverride: 32,
      maxModelLen: 128,
      chatTemplate: TEMPLATE,
      ...options,
    });
    loaded.push(octavo);
    return octavo;
  }

  const collect = async <T>(events: AsyncIterable<T>): Promise<T[]> => {
    const all: T[] = [];
    for await (const event of events) all.push(event);
    return all;
  };

  it("has types where package.json says", () => {
    expect(existsSync(path.join(root, manifest.types))).toBe(true);
    expect(manifest.exports["."].types).toBe(manifest.types);
  });

  it("says what the engine alone says, in events and as a whole", async () => {
    const octavo = await load();
    const prompt = await octavo.tokenize("a cat sat");
    const run = octavo.generate("a cat sat", {
      max_tokens: 20,
      temperature: 0,
      logprobs: 2,
    });
    const events = await collect(run);
    const { text, choices, usage } = await run.result;

    const engine = await openEngine(model, { numGpuBlocksOverride: 32 });
    const params = { ...NEUTRAL_SAMPLING, maxTokens: 20, logprobs: 2 };
    engine.run(
      [
        {
          id: "alone",
          handle: 1,
          promptTokenIds: prompt,
          params: { ...params, stopTokenIds: [31], eosTokenIds: [31] },
          n: 1,
          priority: 0,
          cacheSalt: "",
          arrivalTime: 0,
          bypassPrefixCache: false,
        },
      ],
      1,
    );
    const expected = [...engine.outcomes.values()][0];
    engine.close();
    expect(choices[0]?.tokenIds).toEqual(expected?.tokens);
    expect(choices[0]?.logprobs.map(({ logprob }) => logprob)).toEqual(
      expected?.logprobs,
    );
    expect(choices[0]?.finishReason).toBe(expected?.finish);
    expect(events.flatMap(({ tokenIds }) => tokenIds)).toEqual(
      expected?.tokens,
    );
    expect(events.map((event) => event.text).join("")).toBe(text);
    expect(events.at(-1)?.finishReason).toBe(expected?.finish);
    expect(usage).toEqual({
      promptTokens: prompt.length,
      cachedTokens: 0,
      completionTokens: expected?.tokens.length,
    });
  });

  it("takes token ids, several choices, stop strings and a grammar", async () => {
    const octavo = await load();
    const [ids, text] = [[0, 1, 2, 3], { max_tokens: 8, seed: 3, n: 2 }];
    const two = await octavo.generate(ids, text).result;
    expect(two.choices.map(({ index }) => index)).toEqual([0, 1]);
    expect(two.usage.completionTokens).toBe(
      two.choices.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0),
    );
    const stopped = await octavo.generate("a drink, ", {
      guided_choice: ["no coffee"],
      stop: "cof",
    }).result;
    expect(stopped.text).toBe("no ");
    expect(stopped.choices[0]).toMatchObject({
      finishReason: "stop",
      stopReason: "cof",
    });
  });

  it("embeds texts and token ids by the model beside it", async () => {
    const embeddingModel = tinyDirectory({
      files: MEAN_MODULES,
      modelFile: "model_fp16.onnx",
    });
    const embeddingModelFile = "model_fp16.onnx";
    for (const options of [
      { embeddingModel, embeddingModelFile: "model_fp16" },
      { embeddingModelFile },
    ])
      await expect(load(options)).rejects.toMatchObject({
        code: "invalid_config",
        param: "embeddingModelFile",
      });
    const octavo = await load({ embeddingModel, embeddingModelFile });
    const text = "a cat sat";
    const { embeddings, usage } = await octavo.embed([
      text,
      Int32Array.from(idsOf(text)),
    ]);
    expect(usage.promptTokens).toBe(10);
    expect(embeddings).toHaveLength(2);
    for (const embedding of embeddings)
      embeddingOf(text).forEach((value, i) =>
        expect(embedding[i]).toBeCloseTo(value, 5),
      );
    const wrong: [api.EmbedParams, string][] = [
      [{ dimensions: 3 }, "dimensions"],
      [{ dimensions: 0 }, "dimensions"],
      [{ encoding_format: "float" } as api.EmbedParams, "encoding_format"],
    ];
    for (const [params, param] of wrong)
      await expect(octavo.embed(text, params)).rejects.toMatchObject({ param });
    const signal = AbortSignal.abort();
    await expect(octavo.embed(text, { signal })).rejects.toMatchObject({
      code: "request_aborted",
    });
    await octavo.close();
    await expect(octavo.embed(text)).rejects.toMatchObject({
      code: "shutting_down",
    });
    const plain = await load();
    await expect(plain.embed(text)).rejects.toMatchObject({
      code: "unsupported",
      param: "embeddingModel",
    });
  });

  it("answers a conversation; the message goes behind the others", async () => {
    const octavo = await load();
    const messages = [{ role: "user", content: "hello" }];
    const run = octavo.chat(messages, { max_tokens: 8, seed: 1 });
    const events = await collect(run);
    const { message, choices } = await run.result;
    const said = events.map((event) =>
      event.type === "text" ? event.text : "",
    );
    expect(message).toEqual({ role: "assistant", content: said.join("") });
    expect(choices[0]?.tokenIds.length).toBeGreaterThan(0);
    const next = await octavo.chat([...messages, message], { max_tokens: 2 })
      .result;
    expect(next.usage.promptTokens).toBe(
      (
        await octavo.tokenize(`hello ${said.join("")} `, {
          addSpecialTokens: false,
        })
      ).length,
    );
  });

  it("names what is wrong with a request, in result and loop alike", async () => {
    const octavo = await load();
    const wrong: [api.GenerateParams, string, string][] = [
      [{ temperature: -1 }, "invalid_request", "temperature"],
      [{ maxTokens: 3 } as object, "invalid_request", "maxTokens"],
      [{ stream: true } as object, "invalid_request", "stream"],
      [{ stop: [""] }, "invalid_request", "stop[0]"],
      [{ max_tokens: 500 }, "context_length_exceeded", "max_tokens"],
      [{ signal: 1 } as object, "invalid_request", "signal"],
      [{ seed: 5n } as object, "invalid_request", "seed"],
      [{ temperature: () => 1 } as object, "invalid_request", "temperature"],
      [{ metadata: {} } as object, "invalid_request", "metadata"],
      [null as never, "invalid_request", "params"],
    ];
    for (const [params, code, param] of wrong) {
      const run = octavo.generate("a", params);
      await expect(run.result).rejects.toBeInstanceOf(OctavoError);
      await expect(collect(run)).rejects.toMatchObject({ code, param });
    }
    const prompts: unknown[] = [undefined, 5, [], [1.5], [99], {}, ["a", "b"]];
    for (const prompt of [...prompts, [[1], [2]], BigInt64Array.of(1n)])
      await expect(
        octavo.generate(prompt as string).result,
      ).rejects.toMatchObject({
        code: "invalid_request",
        param: expect.stringContaining("prompt"),
      });
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    await expect(
      octavo.generate("a", { guided_json: cycle }).result,
    ).rejects.toMatchObject({ code: "invalid_request", param: "guided_json" });
    await expect(octavo.chat([]).result).rejects.toMatchObject({
      param: "messages",
    });
    expect(() => octavo.detokenize([-1])).toThrow("tokens[0]");
    expect(() => octavo.detokenize([32])).toThrow("tokens[0]");
    await expect(octavo.tokenize(1 as never)).rejects.toThrow("text");
  });

  it("names what is wrong with an option, before anything is loaded", async () => {
    const wrong: [object, string][] = [
      [{ maxNumSeqs: 0 }, "maxNumSeqs"],
      [{ device: "abacus" }, "device"],
      [{ max_num_seqs: 4 }, "max_num_seqs"],
      [{ onProgress: true }, "onProgress"],
      [{ revision: "main" }, "revision"],
    ];
    for (const [options, param] of wrong)
      await expect(Octavo.load(model, options)).rejects.toMatchObject({
        code: "invalid_config",
        param,
      });
    await expect(Octavo.load("/no/such/model")).rejects.toMatchObject({
      code: "invalid_config",
      param: "model",
    });
  });

  it("stops when the loop is left, when asked to, and at its signal", async () => {
    const octavo = await load();
    const long = { max_tokens: 100, ignore_eos: true };
    const left = octavo.generate("a", long);
    for await (const event of left) {
      expect(event.tokenIds).toHaveLength(1);
      break;
    }
    const told = octavo.generate("a", long);
    told.abort();
    const stop = new AbortController();
    const signalled = octavo.generate("a", { ...long, signal: stop.signal });
    for await (const event of octavo.generate("b", { max_tokens: 1 }))
      expect(event.finishReason).toBe("length");
    stop.abort();
    const never = octavo.generate("a", { ...long, signal: stop.signal });
    for (const run of [left, told, signalled, never])
      await expect(run.result).rejects.toMatchObject({
        code: "request_aborted",
      });
    await expect(collect(left)).rejects.toThrow("read once");
    const { usage } = await octavo.generate("a", { max_tokens: 4 }).result;
    expect(usage.completionTokens).toBeLessThanOrEqual(4);
  });

  it("runs beside another one, and closing aborts what is under way", async () => {
    const progress: api.LoadProgress[] = [];
    const [one, other] = [
      await load({ onProgress: (entry) => progress.push(entry) }),
      await load(),
    ];
    expect(progress.at(-1)).toMatchObject({ stage: "load", phase: "weights" });
    const long = { max_tokens: 100, ignore_eos: true, seed: 5 };
    const cut = one.generate("a cat", long);
    const whole = other.generate("a cat", long);
    const first = await cut[Symbol.asyncIterator]().next();
    expect(first.done).toBe(false);
    await Promise.all([one.close(), one.close()]);
    await expect(cut.result).rejects.toMatchObject({ code: "shutting_down" });
    await expect(one.generate("a").result).rejects.toMatchObject({
      code: "shutting_down",
    });
    await expect(one.tokenize("a")).rejects.toThrow("closed");
    expect((await whole.result).usage.completionTokens).toBe(100);
  });
});
