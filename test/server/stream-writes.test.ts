import http from "node:http";
import net from "node:net";
import { describe, expect, it } from "vitest";
import { DeltaBuffer } from "../../src/server/delta-buffer.js";
import type { Delta } from "../../src/server/output.js";
import { bytes, says, ScriptedEngine, serve } from "./support.js";

const delta = (text: string, rest: Partial<Delta> = {}): Delta => ({
  text,
  tokenIds: [text.length],
  logprobs: [],
  finishReason: null,
  stopReason: null,
  ...rest,
});

describe("what --stream-interval holds back", () => {
  it("is sent when there are enough tokens, the first and the last at once", () => {
    const buffer = new DeltaBuffer(3);
    const sent = ["a", "b", "c", "d", "e"].map(
      (text) => buffer.add(0, delta(text))?.text ?? null,
    );
    expect(sent).toEqual(["a", null, null, "bcd", null]);
    expect(buffer.add(1, delta("x"))?.text).toBe("x");
    const logprob = {
      token: 1,
      logprob: -1,
      rank: 1,
      topIds: [],
      topLogprobs: [],
    };
    const last = delta("f", {
      finishReason: "stop",
      stopReason: "f",
      logprobs: [logprob],
    });
    expect(buffer.add(0, last)).toEqual({
      text: "ef",
      tokenIds: [1, 1],
      logprobs: [logprob],
      finishReason: "stop",
      stopReason: "f",
    });
  });

  it("counts tokens that have no text yet", () => {
    const buffer = new DeltaBuffer(2);
    buffer.add(0, delta("a"));
    expect(buffer.add(0, delta(""))).toBeNull();
    expect(buffer.add(0, delta(""))).toMatchObject({ tokenIds: [0, 0] });
  });
});

/** Sends raw bytes and gives all that comes back. */
async function exchange(url: string, sent: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port), hostname);
  const parts: Buffer[] = [];
  socket.on("data", (part) => parts.push(part));
  socket.write(sent);
  await new Promise((resolve) => socket.on("close", resolve));
  return Buffer.concat(parts).toString("utf8");
}

function post(body: object, version: string, connection: string): string {
  const text = JSON.stringify({ prompt: "a", stream: true, ...body });
  return `POST /v1/completions HTTP/${version}\r\nhost: a\r\nconnection: ${connection}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

const textOf = (stream: string): string =>
  [...stream.matchAll(/^data: (\{.*\})\r?$/gm)]
    .map(
      ([, json]) =>
        (JSON.parse(json ?? "") as { choices: { text: string }[] }).choices[0]
          ?.text ?? "",
    )
    .join("");

describe("the bytes of a stream", () => {
  it("are chunks whose sizes count bytes, not characters", async () => {
    const { app } = await serve(new ScriptedEngine(says("añ€😀b")));
    const url = await app.listen({ port: 0 });
    const answer = await exchange(
      url,
      post({ max_tokens: 50 }, "1.1", "close"),
    );
    const [head, ...rest] = answer.split("\r\n\r\n");
    expect(head?.toLowerCase()).toContain("transfer-encoding: chunked");
    let body = Buffer.from(rest.join("\r\n\r\n"));
    let text = "";
    for (;;) {
      const line = body.indexOf("\r\n");
      const size = Number.parseInt(body.subarray(0, line).toString(), 16);
      if (size === 0) break;
      text += body.subarray(line + 2, line + 2 + size).toString("utf8");
      expect(body.subarray(line + 2 + size, line + 4 + size).toString()).toBe(
        "\r\n",
      );
      body = body.subarray(line + 4 + size);
    }
    expect(textOf(text)).toBe("añ€😀b");
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  it("of two requests sent at once over one connection come one after the other", async () => {
    const { app } = await serve(
      new ScriptedEngine((request) => [
        ...bytes(request.promptTokenIds.length > 2 ? "second" : "first"),
        257,
      ]),
    );
    const url = await app.listen({ port: 0 });
    const answer = await exchange(
      url,
      post({ prompt: "a", max_tokens: 50 }, "1.1", "keep-alive") +
        post({ prompt: "abcd", max_tokens: 50 }, "1.1", "close"),
    );
    const [one, two] = answer.split("data: [DONE]");
    expect(answer.match(/HTTP\/1\.1 200/g)).toHaveLength(2);
    expect(textOf(one ?? "")).toBe("first");
    expect(textOf(two ?? "")).toBe("second");
  });

  it("to a client of HTTP/1.0 are not chunked", async () => {
    const { app } = await serve(new ScriptedEngine(says("plain")));
    const url = await app.listen({ port: 0 });
    const answer = await exchange(
      url,
      post({ max_tokens: 50 }, "1.0", "close"),
    );
    const [head, body] = answer.split(/\r\n\r\n(.*)/s);
    expect(head?.toLowerCase()).not.toContain("chunked");
    expect(body?.startsWith("data: {")).toBe(true);
    expect(textOf(body ?? "")).toBe("plain");
  });

  it.each([
    [1, ["a", "b", "c", "d", "e", "f", ""]],
    [3, ["a", "bcd", "ef"]],
    [100, ["a", "bcdef"]],
  ])(
    "have %d tokens to an event where that is asked for",
    async (interval, texts) => {
      const { app } = await serve(new ScriptedEngine(says("abcdef")), {
        streamInterval: interval,
      });
      const url = await app.listen({ port: 0 });
      for (const route of ["completions", "chat/completions"]) {
        const response = await fetch(`${url}/v1/${route}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({
            ...(route === "completions"
              ? { prompt: "a" }
              : { messages: [{ role: "user", content: "a" }] }),
            max_tokens: 50,
            stream: true,
          }),
        });
        const chunks = [
          ...(await response.text()).matchAll(/^data: (\{.*)$/gm),
        ].map(
          ([, json]) =>
            JSON.parse(json ?? "") as {
              choices: { text?: string; delta?: { content?: string } }[];
            },
        );
        const said = chunks.map(
          ({ choices }) => choices[0]?.text ?? choices[0]?.delta?.content ?? "",
        );
        // A chat's first chunk is its role.
        expect(route === "completions" ? said : said.slice(1)).toEqual(texts);
      }
    },
  );

  it("arrive while a keep-alive agent asks again and again", async () => {
    const { app } = await serve(new ScriptedEngine(says("again")));
    const url = await app.listen({ port: 0 });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 5; i++) {
      const text = await new Promise<string>((resolve, reject) => {
        const request = http.request(
          `${url}/v1/completions`,
          {
            agent,
            method: "POST",
            headers: { "content-type": "application/json" },
          },
          (response) => {
            let all = "";
            response.on("data", (part: Buffer) => (all += part.toString()));
            response.on("end", () => resolve(all));
          },
        );
        request.on("error", reject);
        request.end(
          JSON.stringify({ prompt: "a", stream: true, max_tokens: 50 }),
        );
      });
      expect(textOf(text)).toBe("again");
    }
    agent.destroy();
  });
});
