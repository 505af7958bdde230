import { existsSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import { createApp, type App } from "../../src/server/app.js";
import { loadChatTemplate } from "../../src/text/chat-template.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";

// A worker can't run TypeScript: it is the compiled one. `npm test` builds it first.
const worker = path.resolve("dist/src/engine/engine-thread.js");
const model = path.resolve("../shared/models/stories260k");
const ready = existsSync(worker) && existsSync(model);
const TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{{ message.content }} {% endfor %}";
const LILY =
  " Once upon a time, there was a little girl named Lily. She loved to play outside in the park.";

describe.skipIf(!ready)(
  "the openai package (needs dist/ and ../shared/models/stories260k)",
  () => {
    let engine: EngineClient;
    let app: App;
    let client: OpenAI;
    let baseURL: string;

    beforeAll(async () => {
      const config = { ...ENGINE_DEFAULTS, model, threads: 1, maxNumSeqs: 8 };
      engine = await EngineClient.start(config, {
        workerUrl: pathToFileURL(worker),
      });
      app = createApp({
        engine,
        tokenizer: await loadTokenizer(model),
        chatTemplate: await loadChatTemplate(model, TEMPLATE),
        servedModelNames: ["stories"],
        modelPath: model,
        apiKeys: ["secret"],
        logLevel: "silent",
      });
      baseURL = `${await app.listen({ port: 0, host: "127.0.0.1" })}/v1`;
      client = new OpenAI({ baseURL, apiKey: "secret", maxRetries: 0 });
    });
    afterAll(async () => {
      await app.close();
      await engine.close();
    });

    const story = { model: "stories", prompt: "", temperature: 0 } as const;
    const messages = [
      { role: "user" as const, content: "Once upon a time, there was a" },
    ];

    it("lists and retrieves models", async () => {
      const { data } = await client.models.list();
      expect(data.map(({ id }) => id)).toEqual(["stories"]);
      expect((await client.models.retrieve("stories")).object).toBe("model");
    });

    it("completes and streams the same text", async () => {
      const whole = await client.completions.create({
        ...story,
        max_tokens: 60,
      });
      const text = whole.choices[0]?.text ?? "";
      expect(text.startsWith(LILY)).toBe(true);
      expect(whole.usage).toMatchObject({
        prompt_tokens: 1,
        completion_tokens: 60,
        total_tokens: 61,
      });
      const stream = await client.completions.create({
        ...story,
        max_tokens: 60,
        stream: true,
        stream_options: { include_usage: true },
      });
      let streamed = "";
      let usage: OpenAI.CompletionUsage | undefined;
      for await (const chunk of stream) {
        streamed += chunk.choices[0]?.text ?? "";
        usage = chunk.usage ?? usage;
      }
      expect(streamed).toBe(text);
      expect(usage?.completion_tokens).toBe(60);
    });

    it("chats with a chat template, whole and streamed, and stops at a string", async () => {
      const options = {
        model: "stories",
        messages,
        temperature: 0,
        max_completion_tokens: 40,
      };
      const whole = await client.chat.completions.create(options);
      const [choice] = whole.choices;
      expect(choice?.message.role).toBe("assistant");
      expect(choice?.finish_reason).toBe("length");
      const stream = client.chat.completions.stream(options);
      const final = await stream.finalChatCompletion();
      expect(final.choices[0]?.message.content).toBe(choice?.message.content);

      const stopped = await client.chat.completions.create({
        ...options,
        stop: ["."],
      });
      expect(stopped.choices[0]?.finish_reason).toBe("stop");
      const content = choice?.message.content ?? "";
      expect(stopped.choices[0]?.message.content).toBe(
        content.split(".", 1)[0],
      );
    });

    it("reports log-probabilities that agree between both endpoints", async () => {
      const completion = await client.completions.create({
        ...story,
        prompt: "Once upon",
        max_tokens: 4,
        logprobs: 3,
      });
      const { logprobs } = completion.choices[0] ?? {};
      expect(logprobs?.tokens?.join("")).toBe(completion.choices[0]?.text);
      expect(logprobs?.text_offset?.[0]).toBe(0);
      for (const top of logprobs?.top_logprobs ?? [])
        expect(Object.keys(top)).toHaveLength(3);

      const chat = await client.chat.completions.create({
        model: "stories",
        messages,
        temperature: 0,
        max_tokens: 4,
        logprobs: true,
        top_logprobs: 3,
      });
      const content = chat.choices[0]?.logprobs?.content ?? [];
      expect(content).toHaveLength(4);
      for (const entry of content) {
        // Greedy: the sampled token is the likeliest alternative.
        expect(entry.top_logprobs[0]?.token).toBe(entry.token);
        expect(entry.top_logprobs[0]?.logprob).toBe(entry.logprob);
        expect(Buffer.from(entry.bytes ?? []).toString()).toBe(entry.token);
      }
    });

    it("makes n choices with seeds of their own, repeatably", async () => {
      const options = {
        ...story,
        temperature: 1,
        seed: 5,
        n: 3,
        max_tokens: 20,
      };
      const first = await client.completions.create(options);
      const second = await client.completions.create(options);
      const texts = first.choices.map((choice) => choice.text);
      expect(new Set(texts).size).toBe(3);
      expect(second.choices.map((choice) => choice.text)).toEqual(texts);
      expect(first.usage?.completion_tokens).toBe(60);
      const alone = await client.completions.create({
        ...options,
        n: 1,
        seed: 6,
      });
      expect(alone.choices[0]?.text).toBe(texts[1]);
    });

    it("frees every block when the client aborts in the middle of a stream", async () => {
      const { numBlocks } = engine.info;
      const stream = await client.completions.create(
        {
          ...story,
          max_tokens: 500,
          stream: true,
        },
        { body: { ...story, max_tokens: 500, stream: true, ignore_eos: true } },
      );
      let chunks = 0;
      for await (const _chunk of stream) if (++chunks === 3) break;
      stream.controller.abort();
      await expect.poll(() => engine.numPending).toBe(0);
      await expect.poll(() => engine.stats.numFreeBlocks).toBe(numBlocks);
      expect(engine.stats.numRunning).toBe(0);
    });

    it("raises the errors that OpenAI's server would", async () => {
      const create = (fields: object, with_ = client): Promise<unknown> =>
        with_.completions.create({ ...story, max_tokens: 1, ...fields });
      await expect(create({ temperature: -1 })).rejects.toMatchObject({
        constructor: OpenAI.BadRequestError,
        status: 400,
        param: "temperature",
        type: "invalid_request_error",
      });
      await expect(create({ max_tokens: 5000 })).rejects.toMatchObject({
        status: 400,
        code: "context_length_exceeded",
      });
      await expect(create({ model: "other" })).rejects.toMatchObject({
        constructor: OpenAI.NotFoundError,
        code: "model_not_found",
      });
      const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
      await expect(create({}, stranger)).rejects.toMatchObject({
        constructor: OpenAI.AuthenticationError,
        code: "invalid_api_key",
      });
      await expect(
        client.embeddings.create({ model: "stories", input: "a" }),
      ).rejects.toMatchObject({ status: 404 });
    });
  },
);
