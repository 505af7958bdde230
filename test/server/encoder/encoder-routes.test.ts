import http from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI from "openai";
import { describe, expect, it } from "vitest";
import { sigmoid } from "../../../src/encoder/vectors.js";
import type { AppOptions } from "../../../src/server/options.js";
import {
  dot,
  embeddingOf,
  hiddenOf,
  idsOf,
  logitOf,
  meanOf,
  MEAN_MODULES,
  normalized,
  pairOf,
  tinyEncoder,
  WIDTH,
  type TinyModel,
} from "../../encoder/tiny-models.js";
import { says, ScriptedEngine, serve, type Json } from "../support.js";

const DOCUMENTS = [
  "the dog runs",
  "a red bird sings",
  "a cat",
  "the blue house",
];

/** A server with a text model and an encoder, "tiny-encoder". */
async function start(
  tiny: TinyModel = { files: MEAN_MODULES },
  options: Partial<AppOptions> & { encoderOptions?: object } = {},
) {
  const { encoderOptions, ...rest } = options;
  const encoder = await tinyEncoder(tiny, encoderOptions);
  const server = await serve(new ScriptedEngine(says("x")), {
    encoder: { encoder, names: ["tiny-encoder", "alias"] },
    ...rest,
  });
  const ask = async (url: string, body: object): Promise<Json> => {
    const answer = await server.post(url, body);
    expect(answer.statusCode, answer.body).toBe(200);
    return answer.json();
  };
  const refused = async (url: string, body: object) => {
    const answer = await server.post(url, body);
    const { error } = answer.json<Json>();
    return { status: answer.statusCode, ...error } as Record<string, unknown>;
  };
  return { ...server, encoder, ask, refused };
}

function expectClose(
  got: readonly number[],
  expected: readonly number[],
): void {
  expect(got).toHaveLength(expected.length);
  got.forEach((value, i) => expect(value).toBeCloseTo(expected[i] ?? 0, 5));
}

describe("POST /v1/embeddings", () => {
  it("gives the openai package what the model gives, as floats and as base64", async () => {
    const { app } = await start(undefined, { apiKeys: ["secret"] });
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const client = new OpenAI({
      baseURL: `${url}/v1`,
      apiKey: "secret",
      maxRetries: 0,
    });
    // Without encoding_format the package asks for base64 and decodes it.
    for (const format of [{}, { encoding_format: "float" as const }]) {
      const { data, usage, model } = await client.embeddings.create({
        model: "tiny-encoder",
        input: DOCUMENTS,
        ...format,
      });
      expect(model).toBe("tiny-encoder");
      expect(data.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
      data.forEach(({ embedding }, i) =>
        expectClose(Array.from(embedding), embeddingOf(DOCUMENTS[i] ?? "")),
      );
      const tokens = DOCUMENTS.flatMap(idsOf).length;
      expect(usage).toEqual({ prompt_tokens: tokens, total_tokens: tokens });
    }
    const ids = (await client.models.list()).data.map(({ id }) => id);
    expect(ids).toEqual(["tiny", "org/tiny", "tiny-encoder", "alias"]);
    expect(await client.models.retrieve("alias")).toMatchObject({
      id: "alias",
      max_model_len: 32,
    });
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "x" });
    const wrong = stranger.embeddings.create({ model: "alias", input: "a" });
    await expect(wrong).rejects.toMatchObject({ status: 401 });
  });

  it("takes a string, token ids, and lists of both", async () => {
    const { ask } = await start();
    const text = "a cat sat";
    const ids = idsOf(text);
    const inputs = [text, ids, [text], [ids], [ids, text]];
    for (const input of inputs) {
      const { data } = await ask("/v1/embeddings", { input });
      for (const { embedding } of data)
        expectClose(embedding, embeddingOf(text));
    }
    const { data } = await ask("/v1/embeddings", {
      input: text,
      add_special_tokens: false,
      normalize: false,
    });
    expectClose(data[0].embedding, meanOf(hiddenOf(ids.slice(1, -1))));
    // As Jina's clients ask for it.
    const jina = {
      normalized: false,
      embedding_type: "float",
      truncate: false,
    };
    const raw = await ask("/v1/embeddings", { input: text, ...jina });
    expectClose(raw.data[0].embedding, meanOf(hiddenOf(ids)));
  });

  it("cuts vectors where the model allows it, and normalizes them again", async () => {
    const allowed = await start({
      files: MEAN_MODULES,
      config: { matryoshka_dimensions: [2, 4] },
    });
    const { data } = await allowed.ask("/v1/embeddings", {
      input: "a cat",
      dimensions: 4,
    });
    expectClose(
      data[0].embedding,
      normalized(embeddingOf("a cat").slice(0, 4)),
    );
    expect(
      await allowed.refused("/v1/embeddings", { input: "a", dimensions: 3 }),
    ).toMatchObject({ status: 400, param: "dimensions" });
    const { ask, refused } = await start();
    const whole = await ask("/v1/embeddings", {
      input: "a",
      dimensions: WIDTH,
    });
    expect(whole.data[0].embedding).toHaveLength(WIDTH);
    expect(
      await refused("/v1/embeddings", { input: "a", dimensions: 4 }),
    ).toMatchObject({
      status: 400,
      code: "unsupported_value",
      message: expect.stringContaining("matryoshka"),
    });
  });

  it("refuses what is too long, and cuts it where asked to", async () => {
    const { ask, refused } = await start();
    const long = "cat ".repeat(31);
    expect(
      await refused("/v1/embeddings", { input: ["a", long] }),
    ).toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      param: "input[1]",
      message: expect.stringMatching(/at most 32 tokens, got 33/),
    });
    const cut = await ask("/v1/embeddings", {
      input: long,
      truncate_prompt_tokens: -1,
    });
    expect(cut.usage.prompt_tokens).toBe(32);
    expectClose(cut.data[0].embedding, embeddingOf("cat ".repeat(30)));
    const five = await ask("/v1/embeddings", {
      input: [5, 6, 7, 8],
      truncate_prompt_tokens: 3,
    });
    expect(five.usage.prompt_tokens).toBe(3);
  });

  it("names what is wrong", async () => {
    const { refused } = await start();
    const cases: [object, string, RegExp][] = [
      [{}, "input", /input: expected a value/],
      [{ input: 7 }, "input", /a string, a list of strings/],
      [{ input: [] }, "input", /1 to 2048 inputs, got 0/],
      [{ input: ["a", 7] }, "input[1]", /got 7/],
      [{ input: [[5, -1]] }, "input[0][1]", /a token id from 0 to/],
      [{ input: [5, 1000] }, "input[1]", /got 1000/],
      [{ input: [[]] }, "input[0]", /at least one token, got an empty input/],
      [{ input: "a", task: "text-matching" }, "task", /prefixes/],
      [{ input: "a", late_chunking: true }, "late_chunking", /not built/],
      [{ input: "a", output_dimension: 4 }, "output_dimension", /dimensions/],
      [{ input: "a", truncate: "END" }, "truncate", /truncate_prompt_tokens/],
      [{ input: "a", encoding_format: "bytes" }, "encoding_format", /base64/],
      [{ input: "a", dimensions: 0 }, "dimensions", /at least 1/],
      [
        { input: "a", truncate_prompt_tokens: 2 },
        "truncate_prompt_tokens",
        /-1 or 3 to 32/,
      ],
      [{ input: "a", embed_dtype: "float16" }, "embed_dtype", /float32/],
      [{ input: "", add_special_tokens: false }, "input", /at least one token/],
    ];
    for (const [body, param, message] of cases)
      expect(await refused("/v1/embeddings", body)).toMatchObject({
        status: 400,
        param,
        message: expect.stringMatching(message),
      });
  });

  it("keeps text models and encoders apart", async () => {
    const { refused } = await start();
    const cases: [string, object, RegExp][] = [
      [
        "/v1/embeddings",
        { model: "tiny", input: "a" },
        /writes text.*`tiny-encoder`/,
      ],
      ["/v1/score", { model: "no", text_1: "a", text_2: "b" }, /not exist/],
      [
        "/v1/completions",
        { model: "tiny-encoder", prompt: "a" },
        /writes no text.*`tiny`/,
      ],
    ];
    for (const [url, body, message] of cases)
      expect(await refused(url, body)).toMatchObject({
        status: 404,
        code: "model_not_found",
        message: expect.stringMatching(message),
      });
    const scorer = await start({ kind: "cross-encoder" });
    expect(
      await scorer.refused("/v1/embeddings", { input: "a" }),
    ).toMatchObject({
      status: 400,
      message: expect.stringContaining("cross-encoder"),
    });
    const none = await serve(new ScriptedEngine(says("x")));
    const { statusCode, body } = await none.post("/rerank", {
      query: "a",
      documents: ["b"],
    });
    expect(statusCode).toBe(404);
    expect(body).toContain("--embedding-model");
  });
});

describe("POST /v1/rerank and /v1/score", () => {
  const ranked = (scores: readonly number[]): number[] =>
    scores
      .map((score, index) => ({ score, index }))
      .sort((a, b) => b.score - a.score)
      .map(({ index }) => index);

  it("ranks by a cross-encoder's sigmoid", async () => {
    const { ask } = await start({ kind: "cross-encoder" });
    const query = "a cat sat";
    const scores = DOCUMENTS.map((text) => sigmoid(logitOf(query, text)));
    for (const url of ["/v1/rerank", "/v2/rerank", "/rerank"]) {
      const body = { query, documents: DOCUMENTS };
      const { results, usage, model } = await ask(url, body);
      expect(model).toBe("tiny-encoder");
      expect(results.map(({ index }: Json) => index)).toEqual(ranked(scores));
      for (const { index, relevance_score, document } of results) {
        expect(relevance_score).toBeCloseTo(scores[index] ?? 0, 5);
        expect(document).toEqual({ text: DOCUMENTS[index] });
      }
      const tokens = DOCUMENTS.flatMap((text) => pairOf(query, text).ids);
      expect(usage.total_tokens).toBe(tokens.length);
    }
    const { results } = await ask("/rerank", {
      query,
      documents: DOCUMENTS.map((text) => ({ text })),
      top_n: 2,
      return_documents: false,
    });
    expect(results).toHaveLength(2);
    expect(results[0]).not.toHaveProperty("document");
  });

  it("scores one text with each, or text by text", async () => {
    const { ask, refused } = await start({ kind: "cross-encoder" });
    const scoresOf = async (body: object): Promise<number[]> =>
      (await ask("/v1/score", body)).data.map(({ score }: Json) => score);
    expectClose(
      await scoresOf({ text_1: "a cat", text_2: DOCUMENTS }),
      DOCUMENTS.map((text) => sigmoid(logitOf("a cat", text))),
    );
    const raw = { use_activation: false };
    expectClose(
      await scoresOf({ text_1: ["a", "dog"], text_2: ["cat", "mat"], ...raw }),
      [logitOf("a", "cat"), logitOf("dog", "mat")],
    );
    expectClose(await scoresOf({ queries: "a", items: "cat", ...raw }), [
      logitOf("a", "cat"),
    ]);
    expect(
      await refused("/score", { text_1: ["a", "b"], text_2: ["c"] }),
    ).toMatchObject({
      status: 400,
      param: "text_2",
      message: expect.stringContaining("as many texts as in text_1 (2)"),
    });
    expect(await refused("/score", { text_1: "a" })).toMatchObject({
      status: 400,
      param: "text_2",
    });
  });

  it("scores by the angle with an embedding model", async () => {
    const { ask } = await start();
    const [query, ...rest] = DOCUMENTS;
    const expected = rest.map((text) =>
      dot(embeddingOf(query ?? ""), embeddingOf(text)),
    );
    const { data } = await ask("/score", { text_1: query, text_2: rest });
    expectClose(
      data.map(({ score }: Json) => score),
      expected,
    );
    const { results } = await ask("/rerank", { query, documents: rest });
    expect(results.map(({ index }: Json) => index)).toEqual(ranked(expected));
  });

  it("names what is wrong", async () => {
    const { refused } = await start({ kind: "cross-encoder" });
    const long = "cat ".repeat(30);
    const cases: [object, string, RegExp][] = [
      [{ query: "a", documents: [] }, "documents", /at least 1 entries/],
      [{ query: "a", documents: ["b", 7] }, "documents[1]", /got 7/],
      [{ documents: ["b"] }, "query", /required/],
      [
        { query: "a", documents: [long] },
        "documents[0]",
        /at most 32 tokens, got 34 with query and special tokens/,
      ],
      [{ query: "a", documents: ["b"], top_k: 1 }, "top_k", /use top_n/],
      [{ query: "a", documents: ["b"], top_n: -1 }, "top_n", /at least 0/],
      [
        { query: "a", documents: ["b"], rank_fields: ["x"] },
        "rank_fields",
        /texts/,
      ],
    ];
    for (const [body, param, message] of cases)
      expect(await refused("/v1/rerank", body)).toMatchObject({
        status: 400,
        param,
        message: expect.stringMatching(message),
      });
  });
});

describe("the server around an encoder", () => {
  it("refuses beyond the queue's bounds, drops what nobody waits for, and counts", async () => {
    const { app, encoder } = await start(undefined, {
      encoderOptions: { maxNumQueuedReqs: 1, maxBatchTokens: 1 },
    });
    await app.listen({ port: 0, host: "127.0.0.1" });
    const { port } = app.server.address() as AddressInfo;
    const body = JSON.stringify({ input: Array(2000).fill("a cat sat on") });
    const request = http.request({
      port,
      path: "/v1/embeddings",
      method: "POST",
      headers: { "content-type": "application/json" },
    });
    request.on("error", () => undefined);
    request.end(body);
    await expect
      .poll(() => encoder.numWaiting, { interval: 1 })
      .toBeGreaterThan(100);
    const ask = () =>
      app.inject({
        method: "POST",
        url: "/v1/embeddings",
        payload: { input: "a" },
      });
    const [first, second] = await Promise.all([ask(), ask()]);
    const full = [first, second].find(({ statusCode }) => statusCode === 503);
    expect(full?.json<Json>().error.code).toBe("queue_full");
    expect(full?.headers["retry-after"]).toBeDefined();
    request.destroy();
    await expect.poll(() => encoder.numPending).toBe(0);
    const { body: metrics } = await app.inject("/metrics");
    expect(metrics).toMatch(/octavo_encoder_batches_total\{[^}]*\} [1-9]/);
    expect(metrics).toMatch(
      /admission_rejections_total\{[^}]*reason="max_num_queued_reqs"\} 1/,
    );
    expect(metrics).toMatch(/octavo_encoder_inputs_waiting\{[^}]*\} 0/);
    expect((await ask()).statusCode).toBe(200);
  });

  it("answers 503 where the worker is lost, and goes on", async () => {
    const { post, ask } = await start(undefined, {
      encoderOptions: {
        workerUrl: new URL("../../encoder/crashing-worker.js", import.meta.url),
      },
    });
    const lost = await post("/v1/embeddings", { input: [1, 2] });
    expect(lost.statusCode).toBe(503);
    expect(lost.json<Json>().error.code).toBe("device_error");
    const { data } = await ask("/v1/embeddings", { input: "a cat" });
    expectClose(data[0].embedding, embeddingOf("a cat"));
  });

  it("takes nothing new while it drains", async () => {
    const { app, refused, encoder } = await start(undefined, {
      encoderOptions: { maxBatchTokens: 1 },
    });
    const input = Array<string>(2000).fill("a cat sat on the mat");
    const running = app.inject({
      method: "POST",
      url: "/v1/embeddings",
      payload: { input },
    });
    await expect.poll(() => encoder.numPending, { interval: 1 }).toBe(1);
    app.beginDrain();
    expect(await refused("/v1/embeddings", { input: "a" })).toMatchObject({
      status: 503,
      code: "shutting_down",
    });
    expect((await running).statusCode).toBe(200);
  });
});
