import { describe, expect, it } from "vitest";
import { bytes, says, ScriptedEngine, serve, type Json } from "./support.js";

describe("the other routes", () => {
  it("lists models and describes one, also by a name with a slash", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")));
    const { object, data } = (await app.inject("/v1/models")).json();
    expect(object).toBe("list");
    expect(data.map((card: Json) => card.id)).toEqual(["tiny", "org/tiny"]);
    for (const url of ["/v1/models/org/tiny", "/v1/models/org%2Ftiny"])
      expect((await app.inject(url)).json()).toMatchObject({
        id: "org/tiny",
        object: "model",
        root: "/models/tiny",
        max_model_len: 128,
      });
    expect((await app.inject("/v1/models/none")).statusCode).toBe(404);
    expect((await app.inject("/v1/models/")).json().data).toEqual(data);
  });

  it("tokenizes the very prompt of a chat, documents and effort too", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { post } = await serve(engine, {
      template:
        "{% for d in documents or [] %}{{ d.text }} {% endfor %}{{ reasoning_effort }}",
    });
    const body = {
      messages: [{ role: "user", content: "a" }],
      documents: [{ text: "doc" }],
      reasoning_effort: "low",
    };
    const { tokens } = (await post("/tokenize", body)).json();
    await post("/v1/chat/completions", body);
    expect(tokens).toEqual(bytes("doc low"));
    expect(tokens).toEqual([...(engine.requests[0]?.promptTokenIds ?? [])]);
  });

  it("tokenizes prompts and conversations, and back", async () => {
    const { post } = await serve(new ScriptedEngine(says("x")));
    const plain = await post("/tokenize", {
      prompt: "hé",
      return_token_strs: true,
    });
    expect(plain.json()).toMatchObject({
      count: 3,
      max_model_len: 128,
      tokens: bytes("hé"),
      token_strs: ["h", "Ã", "©"],
    });
    const chat = await post("/tokenize", {
      messages: [{ role: "user", content: "a" }],
      add_generation_prompt: false,
    });
    expect(chat.json().tokens).toEqual(bytes("[user]a"));
    const back = await post("/detokenize", { tokens: [...bytes("hé"), 257] });
    expect(back.json()).toEqual({ prompt: "hé<|end|>" });
    const nulls = { messages: null, chat_template: null, documents: null };
    const one = await post("/tokenize", { prompt: "a", ...nulls });
    expect(one.json().tokens).toEqual(bytes("a"));
    for (const body of [{}, { prompt: "a", messages: [{ role: "user" }] }])
      expect((await post("/tokenize", body)).statusCode).toBe(400);
    const outside = await post("/detokenize", { tokens: [5, 260] });
    expect(outside.json().error.param).toBe("tokens[1]");
  });

  it("answers a method that a path does not take with 405 and those it takes", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")), {
      adminApiKey: "k",
    });
    const headers = { "x-api-key": "k" };
    const { paths } = (await app.inject("/openapi.json")).json<Json>();
    let refused = 0;
    for (const [path, operations] of Object.entries<object>(paths)) {
      const known = Object.keys(operations).map((name) => name.toUpperCase());
      if (known.includes("GET")) known.push("HEAD");
      // A WebSocket, which the description leaves out.
      if (path === "/v1/responses") known.push("GET");
      // What could be the id of a response.
      if (path === "/v1/responses/input_tokens")
        known.push("DELETE", "GET", "HEAD");
      for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"] as const) {
        if (known.includes(method)) continue;
        const url = path.replace("{id}", "some.id");
        const answer = await app.inject({ method, url, headers });
        expect(answer.statusCode, `${method} ${url}`).toBe(405);
        expect(String(answer.headers.allow).split(", ")).toEqual(known.sort());
        const { error } = answer.json<Json>();
        expect(error.message).toContain(`got ${method}`);
        if (!url.startsWith("/v1/messages"))
          expect(error.code).toBe("method_not_allowed");
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(60);
    // Not a dot for any character, and no path inside of an id.
    for (const url of ["/openapi-json", "/v1/responses/a/b", "/v1/models/"])
      expect((await app.inject({ method: "PUT", url })).statusCode).toBe(
        url === "/v1/models/" ? 405 : 404,
      );
  });

  it("/live fails while work is pending and no step ends", async () => {
    const engine = new ScriptedEngine(says("x"));
    engine.running = false;
    const { app, client, post } = await serve(engine, {
      livenessTimeoutSeconds: 0.02,
    });
    const pending = post("/v1/completions", { prompt: "a" });
    await expect
      .poll(async () => (await app.inject("/live")).statusCode)
      .toBe(503);
    expect((await app.inject("/health")).statusCode).toBe(200);
    expect((await app.inject("/load")).json()).toEqual({ server_load: 1 });
    engine.running = true;
    await client.call("checkIntegrity");
    expect((await pending).statusCode).toBe(200);
    expect((await app.inject("/live")).statusCode).toBe(200);
    expect((await app.inject("/load")).json()).toEqual({ server_load: 0 });
  });

  it("/ready fails while the device is being restarted", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { app, post } = await serve(engine);
    for (const restarting of [true, false]) {
      engine.restarting = restarting;
      await post("/v1/completions", { prompt: "a" });
      const ready = await app.inject("/ready");
      expect(ready.statusCode).toBe(restarting ? 503 : 200);
      if (restarting) expect(ready.body).toContain("restarted");
      expect((await app.inject("/live")).statusCode).toBe(200);
      const metrics = (await app.inject("/metrics")).body;
      expect(metrics).toMatch(
        new RegExp(
          `octavo_runner_restarting\\{.*\\} ${restarting ? 1 : 0}$`,
          "m",
        ),
      );
    }
  });

  it("/health and /ready fail once the engine is gone", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { app, post } = await serve(engine);
    engine.failNext = true;
    expect((await post("/v1/completions", { prompt: "a" })).statusCode).toBe(
      500,
    );
    for (const url of ["/health", "/live", "/ready", "/ping"])
      expect((await app.inject(url)).statusCode).toBe(503);
  });

  it("echoes x-request-id and makes one where there is none", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")));
    const headers = { "x-request-id": "mine-1" };
    const named = await app.inject({
      method: "POST",
      url: "/v1/completions",
      headers,
      payload: { prompt: "a", stream: true },
    });
    expect(named.headers["x-request-id"]).toBe("mine-1");
    const made = await app.inject("/health");
    expect(made.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  });
});
