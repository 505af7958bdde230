import { once } from "node:events";
import { connect } from "node:net";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { MAX_NESTING } from "../../src/core/nesting.js";
import { grammarWorker, isBuilt } from "./fuzz/support.js";
import { says, ScriptedEngine, serve, TOOL_TEMPLATE } from "./support.js";

const CHAT = "/v1/chat/completions";

/** JSON of `levels` objects, one in the other. */
const nested = (levels: number): string =>
  `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;
const lists = (levels: number): string =>
  "[".repeat(levels) + "]".repeat(levels);

/** Bodies with `X` where something deep goes, and the field that an error about it names. */
const PLACES: [url: string, body: string, field: string][] = [
  ["/v1/completions", `{"prompt":X}`, "prompt"],
  ["/v1/completions", `{"prompt":"a","stop":X}`, "stop"],
  ["/v1/completions", `{"prompt":"a","logit_bias":{"1":X}}`, "logit_bias"],
  ["/v1/completions", `{"prompt":"a","guided_json":X}`, "guided_json"],
  ["/v1/completions", `{"prompt":"a","guided_choice":X}`, "guided_choice"],
  [
    "/v1/completions",
    `{"prompt":"a","structured_outputs":{"json":X}}`,
    "structured_outputs",
  ],
  [CHAT, `{"messages":[X]}`, "messages"],
  [CHAT, `{"messages":[{"role":"user","content":X}]}`, "messages"],
  [
    CHAT,
    `{"messages":[{"role":"user","content":"x","extra":X}],"continue_final_message":true}`,
    "messages",
  ],
  [
    CHAT,
    `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":X}}]}`,
    "tools",
  ],
  [
    CHAT,
    `{"messages":[{"role":"user","content":"x"}],"tool_choice":X}`,
    "tool_choice",
  ],
  [
    CHAT,
    `{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":X}`,
    "chat_template_kwargs",
  ],
  [
    "/v1/messages",
    `{"model":"tiny","max_tokens":2,"messages":[{"role":"user","content":"x"}],"system":X}`,
    "system",
  ],
  [
    "/v1/messages",
    `{"model":"tiny","max_tokens":2,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":X}]},{"role":"user","content":"x"}]}`,
    "messages",
  ],
  ["/v1/responses", `{"input":X}`, "input"],
  ["/tokenize", `{"prompt":X}`, "prompt"],
  ["/detokenize", `{"tokens":[X]}`, "tokens"],
];

const json = { "content-type": "application/json" };

describe("what bodies may be", () => {
  it("400 that names the field for JSON too deep to be read, everywhere", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { app } = await serve(engine, { template: TOOL_TEMPLATE });
    for (const [url, body, field] of PLACES)
      for (const value of [nested(50_000), lists(50_000)]) {
        const response = await app.inject({
          method: "POST",
          url,
          headers: json,
          payload: body.replace("X", value),
        });
        const where = `${url} ${body}`;
        expect(response.statusCode, where).toBe(400);
        expect(response.body, where).toContain(
          `${field}: expected at most ${MAX_NESTING} levels`,
        );
      }
    expect(engine.requests).toEqual([]);
  });

  it.runIf(isBuilt)("answers whatever nests less deep", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")), {
      template: `${TOOL_TEMPLATE}{{ a | tojson if a }}`,
      info: { maxModelLen: 4096 },
      grammarWorkerUrl: pathToFileURL(grammarWorker),
    });
    for (const [url, body] of PLACES)
      for (const value of [nested(245), lists(245)]) {
        const response = await app.inject({
          method: "POST",
          url,
          headers: json,
          payload: body.replace("X", value),
        });
        expect(response.body, `${url} ${body}`).not.toContain("levels");
        expect(response.statusCode, `${url} ${body}`).toBeLessThan(500);
      }
  });

  it("400 for JSON within text that nests too deep", async () => {
    const { post } = await serve(new ScriptedEngine(says("x")), {
      template: TOOL_TEMPLATE,
    });
    const schema = { prompt: "a", guided_json: nested(50_000) };
    const response = await post("/v1/completions", schema);
    expect(response.statusCode).toBe(400);
    expect(response.json().error.param).toBe("guided_json");
    const call = { name: "f", arguments: nested(50_000) };
    const chat = await post(CHAT, {
      messages: [
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "1", type: "function", function: call }],
        },
      ],
    });
    expect(chat.statusCode).toBe(400);
    expect(chat.json().error.param).toBe(
      "messages[0].tool_calls[0].function.arguments",
    );
  });

  it("says what is wrong with what is no JSON", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")));
    const error = async (payload: string) => {
      const url = "/v1/completions";
      const response = await app.inject({
        method: "POST",
        url,
        headers: json,
        payload,
      });
      expect(response.statusCode, payload).toBe(400);
      return response.json().error.message as string;
    };
    expect(await error('{"prompt":"a","top_p":NaN}')).toMatch(
      /^body: expected JSON: .*'N'/,
    );
    expect(await error('{"prompt":"a","top_p":1e999}')).toBe(
      "top_p: expected number, got Infinity",
    );
    expect(await error('{"__proto__":{"x":1}}')).toContain("__proto__");
    expect(await error("")).toContain("body: expected object");
    // Of a key that comes twice, the last one counts.
    const twice = '{"prompt":"a","top_p":"x","top_p":1}';
    const response = await app.inject({
      method: "POST",
      url: "/v1/completions",
      headers: json,
      payload: twice,
    });
    expect(response.statusCode).toBe(200);
  });

  it("415 that says which types and encodings are taken", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")));
    const send = (headers: Record<string, string>, payload: Buffer | string) =>
      app.inject({ method: "POST", url: "/v1/completions", headers, payload });
    const body = '{"prompt":"a"}';
    for (const type of ["text/plain", "application/x-www-form-urlencoded"]) {
      const response = await send({ "content-type": type }, body);
      expect(response.statusCode).toBe(415);
      expect(response.json().error).toMatchObject({
        message: `Content-Type: expected application/json, got "${type}"`,
        type: "invalid_request_error",
      });
    }
    const zipped = { ...json, "content-encoding": "gzip" };
    const response = await send(zipped, gzipSync(body));
    expect(response.statusCode).toBe(415);
    expect(response.json().error.message).toContain('"gzip"');
    const plain = { ...json, "content-encoding": "identity" };
    expect((await send(plain, body)).statusCode).toBe(200);
    const utf8 = { "content-type": "application/json; charset=utf-8" };
    expect((await send(utf8, body)).statusCode).toBe(200);
  });

  it("answers clients that read nothing before they have written everything", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")), {
      bodyLimitBytes: 1000,
    });
    const url = new URL(await app.listen({ port: 0, host: "127.0.0.1" }));
    const body = Buffer.alloc(2 ** 24, "x");
    for (const [type, status] of [
      ["application/json", 413],
      ["text/plain", 415],
    ]) {
      const socket = connect(Number(url.port), url.hostname);
      const head = `POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: ${type}`;
      socket.write(`${head}\r\nContent-Length: ${body.length}\r\n\r\n`);
      if (!socket.write(body)) await once(socket, "drain");
      const parts: Buffer[] = [];
      for await (const part of socket) parts.push(part as Buffer);
      const answer = Buffer.concat(parts).toString();
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
      expect(answer).toContain("invalid_request_error");
    }
  });

  it("answers what is no HTTP in the shape of every error", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")));
    const url = new URL(await app.listen({ port: 0, host: "127.0.0.1" }));
    const long = `GET /health HTTP/1.1\r\nx-request-id: ${"a".repeat(2 ** 15)}\r\n\r\n`;
    for (const [request, status, text] of [
      ["HELLO\r\n\r\n", 400, "not valid HTTP"],
      [long, 431, "headers are too large"],
    ] as const) {
      const socket = connect(Number(url.port), url.hostname);
      socket.end(request);
      const parts: Buffer[] = [];
      for await (const part of socket) parts.push(part as Buffer);
      const answer = Buffer.concat(parts).toString();
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
      const body = answer.slice(answer.indexOf("{"));
      expect(JSON.parse(body)).toEqual({
        error: {
          message: expect.stringContaining(text),
          type: "invalid_request_error",
          param: null,
          code: null,
        },
      });
    }
  });

  it("takes POSTs without a body, whatever they say of it", async () => {
    const { app } = await serve(new ScriptedEngine(says("x")));
    for (const type of ["application/json", "text/plain"]) {
      const response = await app.inject({
        method: "POST",
        url: "/ping",
        headers: { "content-type": type, "content-length": "0" },
      });
      expect(response.statusCode, type).toBe(200);
    }
    const nowhere = await app.inject({
      method: "POST",
      url: "/nowhere",
      headers: { "content-type": "text/plain" },
      payload: "x",
    });
    expect(nowhere.statusCode).toBe(404);
  });
});
