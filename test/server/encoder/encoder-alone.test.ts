import type { AddressInfo } from "node:net";
import OpenAI from "openai";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createEncoderApp, type App } from "../../../src/server/app.js";
import { sha256 } from "../../../src/server/keys-file.js";
import { ROUTE_DOCS } from "../../../src/server/openapi-routes.js";
import type { EncoderAppOptions } from "../../../src/server/options.js";
import {
  MEAN_MODULES,
  tinyEncoder,
  type TinyModel,
} from "../../encoder/tiny-models.js";
import type { Json } from "../support.js";

const apps: App[] = [];
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close();
});

/** A server of "tiny-encoder", without any text model. */
async function start(
  tiny: TinyModel = { files: MEAN_MODULES },
  options: Partial<EncoderAppOptions> = {},
) {
  const encoder = await tinyEncoder(tiny);
  const app = createEncoderApp({
    encoder: { encoder, names: ["tiny-encoder"] },
    logLevel: "silent",
    ...options,
  });
  apps.push(app);
  return { app, encoder };
}

describe("a server of an encoder alone", () => {
  it("holds keys to their limits", async () => {
    const alice = { name: "alice", hash: sha256("secret") };
    const keysFile = { keys: [{ ...alice, limits: { tpm: 1 } }] };
    const { app } = await start(undefined, { keysFile });
    const ask = () =>
      app.inject({
        method: "POST",
        url: "/v1/embeddings",
        headers: { authorization: "Bearer secret" },
        payload: { input: "a cat" },
      });
    expect((await ask()).statusCode).toBe(200);
    expect((await ask()).statusCode).toBe(429);
    expect((await app.inject("/metrics")).body).toMatch(
      /octavo_key_refusals_total\{[^}]*key="alice",reason="tokens"\} 1\n/,
    );
  });

  it("knows every route of a text model", async () => {
    const { app } = await start();
    const routes = Object.entries(ROUTE_DOCS).flatMap(([route, { tag }]) =>
      ["Generate", "Tokens"].includes(tag) ? [route.split(" ")] : [],
    );
    expect(routes.length).toBeGreaterThan(8);
    for (const [method = "", path = ""] of routes) {
      const url = path.replace(/\{\w+\}/, "resp_1");
      const answer = await app.inject({
        method: method as "GET" | "POST" | "DELETE",
        url,
        ...(method === "POST" && { payload: { model: "gpt" } }),
      });
      expect(answer.statusCode, url).toBe(404);
      expect(answer.body, url).toContain("this server has `tiny-encoder`");
    }
  });

  it("answers for it", async () => {
    const { app } = await start();
    const baseURL = `${await app.listen({ port: 0, host: "127.0.0.1" })}/v1`;
    const client = new OpenAI({ baseURL, apiKey: "x", maxRetries: 0 });
    const model = "tiny-encoder";
    const { data } = await client.embeddings.create({ model, input: "a cat" });
    expect(data[0]?.embedding).toHaveLength(8);
    const models = (await client.models.list()).data;
    expect(models).toHaveLength(1);
    expect(models[0]).toMatchObject({
      id: model,
      max_model_len: 32,
      root: expect.stringContaining("tiny-encoder"),
    });
    expect((await client.models.retrieve(model)).id).toBe(model);
    await expect(client.models.retrieve("gpt")).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining("this server has `tiny-encoder`"),
    });
    const asked = client.chat.completions.create({
      model: "gpt-4o",
      messages: [{ role: "user", content: "Hello" }],
    });
    await expect(asked).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
      message: expect.stringMatching(/`gpt-4o` does not exist.*`tiny-encoder`/),
    });
  });

  it("has no text routes, and says what it has", async () => {
    const { app } = await start();
    const cases: [method: "GET" | "POST" | "DELETE", url: string][] = [
      ["POST", "/v1/completions"],
      ["POST", "/v1/chat/completions"],
      ["POST", "/v1/responses"],
      ["GET", "/v1/responses/resp_1"],
      ["DELETE", "/v1/responses/resp_1"],
      ["POST", "/v1/messages"],
      ["POST", "/v1/messages/count_tokens"],
      ["POST", "/tokenize"],
      ["POST", "/detokenize"],
    ];
    for (const [method, url] of cases) {
      const payload = { model: "tiny-encoder", prompt: "a" };
      const answer = await app.inject({
        method,
        url,
        ...(method === "POST" && { payload }),
      });
      expect(answer.statusCode, url).toBe(404);
      expect(answer.json<Json>().error.message, url).toMatch(
        /no text.*`tiny-encoder`, for \/v1\/embeddings/,
      );
    }
    const { paths } = (await app.inject("/openapi.json")).json<Json>();
    expect(paths).toHaveProperty("/v1/embeddings");
    expect(paths).not.toHaveProperty("/v1/completions");
    const scorer = await start({ kind: "cross-encoder" });
    const { body } = await scorer.app.inject({
      method: "POST",
      url: "/v1/completions",
    });
    expect(body).toContain("no text model");
    expect(body).not.toContain("/v1/embeddings");
  });

  it("refuses a WebSocket of the text model's", async () => {
    const { app } = await start();
    await app.listen({ port: 0, host: "127.0.0.1" });
    const { port } = app.server.address() as AddressInfo;
    const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/responses`);
    const status = await new Promise((resolve, reject) => {
      socket.once("unexpected-response", (_request, { statusCode }) =>
        resolve(statusCode),
      );
      socket.once("open", () => reject(new Error("it opened")));
      socket.once("error", reject);
    });
    expect(status).toBe(404);
    socket.terminate();
  });

  it("is guarded, probed and counted as any server", async () => {
    const { app } = await start(undefined, {
      apiKeys: ["secret"],
      metricsCompat: true,
      version: "1.2.3",
    });
    const post = (url: string, key: string) =>
      app.inject({
        method: "POST",
        url,
        payload: { input: "a cat" },
        headers: { authorization: `Bearer ${key}` },
      });
    expect((await post("/v1/embeddings", "wrong")).statusCode).toBe(401);
    expect((await post("/v1/completions", "wrong")).statusCode).toBe(401);
    expect((await post("/v1/embeddings", "secret")).statusCode).toBe(200);
    for (const url of ["/health", "/ping", "/live", "/ready", "/load"])
      expect((await app.inject(url)).statusCode, url).toBe(200);
    expect((await app.inject("/version")).json()).toEqual({ version: "1.2.3" });
    app.started({ process: 1, find: 2, plan: 0, weights: 3, server: 4 });
    const { body } = await app.inject("/metrics");
    expect(body).toMatch(
      /octavo_encoder_batches_total\{model_name="tiny-encoder",engine="0"\} 1\n/,
    );
    expect(body).toMatch(/octavo_startup_seconds\{[^}]*phase="find"\} 2/);
    expect(body).not.toContain("kv_cache");
    app.beginDrain();
    expect((await app.inject("/ready")).statusCode).toBe(503);
    expect((await app.inject("/health")).statusCode).toBe(200);
    expect((await post("/v1/embeddings", "secret")).statusCode).toBe(503);
  });
});
