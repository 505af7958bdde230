import { afterEach, describe, expect, it } from "vitest";
import { sendRequest, type RequestSettings } from "../../bench/serve/client.js";
import { HttpClient } from "../../bench/serve/http.js";
import type { Outcome } from "../../bench/serve/outcome.js";
import { EventReader } from "../../src/page/event-reader.js";
import {
  event,
  finish,
  scriptedServer,
  sleep,
  token,
  type Script,
} from "./scripted-server.js";

const SETTINGS: RequestSettings = {
  backend: "openai",
  endpoint: "/v1/completions",
  model: "scripted",
  ignoreEos: false,
  temperature: 0,
  seed: 0,
  timeout: 5,
};

const closing: (() => void)[] = [];
afterEach(() => closing.splice(0).forEach((close) => close()));

async function exchange(
  script: Script,
  settings: Partial<RequestSettings> = {},
  count = 1,
): Promise<{ outcomes: Outcome[]; connections: number }> {
  const server = await scriptedServer(script);
  const http = new HttpClient(server.url, null);
  closing.push(
    () => server.close(),
    () => http.close(),
  );
  const outcomes: Outcome[] = [];
  for (let i = 0; i < count; i++)
    outcomes.push(
      await sendRequest(
        http,
        Buffer.from("{}"),
        7,
        { ...SETTINGS, ...settings },
        performance.now(),
      ),
    );
  return { outcomes, connections: server.connections() };
}

/** What the client measures of something that took `expected` s by the server's own clock; a busy machine adds some. */
function expectSeconds(value: number | undefined, expected: number): void {
  expect(value).toBeGreaterThan(expected - 0.03);
  expect(value).toBeLessThan(expected + 0.03);
}

describe("a stream", () => {
  it(
    "is timed chunk by chunk and counted by its usage",
    { retry: 3 },
    async () => {
      const written: number[] = [];
      const stream: Script = async (response, _index, { at }) => {
        written.push(at / 1000);
        response.flushHeaders();
        for (const [i, delay] of [80, 40, 120].entries()) {
          await sleep(delay);
          token(response, ["one", " two", " three"][i]);
          written.push(performance.now() / 1000);
        }
        // Neither usage nor the end is a chunk of output.
        await sleep(60);
        finish(response, 11, 5);
      };
      const [outcome] = (await exchange(stream)).outcomes;
      expect(outcome).toMatchObject({
        error: null,
        promptLen: 11,
        outputLen: 5,
        text: "one two three",
        usageReported: true,
      });
      const [asked = 0, one = 0, two = 0, three = 0] = written;
      const { ttft = 0, itls = [], latency } = outcome ?? {};
      expect(itls).toHaveLength(2);
      expectSeconds(ttft, one - asked);
      expectSeconds(itls[0], two - one);
      expectSeconds(itls[1], three - two);
      expect(latency).toBeCloseTo(
        itls.reduce((sum, gap) => sum + gap, ttft),
        6,
      );
    },
  );

  it("of a chat begins with its first content, not with its role", async () => {
    let waited = 0;
    const { outcomes } = await exchange(
      async (response) => {
        const delta = (content: object, finish_reason: string | null = null) =>
          event(response, { choices: [{ delta: content, finish_reason }] });
        delta({ role: "assistant", content: "" });
        const before = performance.now();
        await sleep(80);
        waited = (performance.now() - before) / 1000;
        delta({ content: "Hel" });
        delta({ content: "lo" });
        delta({}, "stop");
        finish(response, 4, 2);
      },
      { backend: "openai-chat", endpoint: "/v1/chat/completions" },
    );
    expect(outcomes[0]).toMatchObject({ error: null, text: "Hello" });
    expect(outcomes[0]?.ttft).toBeGreaterThanOrEqual(waited);
    expect(outcomes[0]?.itls).toHaveLength(2);
  });

  it("without usage counts its chunks and says so", async () => {
    const { outcomes } = await exchange((response) => {
      token(response);
      token(response);
      response.end("data: [DONE]\n\n");
    });
    expect(outcomes[0]).toMatchObject({
      error: null,
      outputLen: 2,
      promptLen: 7,
      usageReported: false,
    });
  });

  it("uses its connection again", async () => {
    const script: Script = (response) => {
      token(response);
      finish(response, 1, 1);
    };
    const { connections, outcomes } = await exchange(script, {}, 5);
    expect(outcomes.every(({ error }) => error === null)).toBe(true);
    expect(connections).toBe(1);
  });

  it("on a connection that the server closed meanwhile is sent again", async () => {
    let attempts = 0;
    const { outcomes } = await exchange(
      (response) => {
        // The second request meets a closed door before any answer; its third try is answered.
        if (++attempts === 2) return void response.socket?.resetAndDestroy();
        token(response);
        finish(response, 1, 1);
      },
      {},
      2,
    );
    expect(attempts).toBe(3);
    expect(outcomes.map(({ error }) => error)).toEqual([null, null]);
  });

  it("is not sent a third time: a server that resets has failed", async () => {
    let attempts = 0;
    const { outcomes } = await exchange(
      (response, index) => {
        attempts++;
        if (index > 0) return void response.socket?.resetAndDestroy();
        token(response);
        finish(response, 1, 1);
      },
      {},
      2,
    );
    expect(attempts).toBe(3);
    expect(outcomes[1]?.error).toMatch(/ECONNRESET|socket hang up/);
  });
});

describe("a failure has its reason", () => {
  const cases: [string, Script, RegExp][] = [
    [
      "an error of the API",
      (response) => {
        response.statusCode = 503;
        response.end(
          JSON.stringify({
            error: { message: "The queue is full", type: "server_error" },
          }),
        );
      },
      /^HTTP 503 \(server_error\): The queue is full$/,
    ],
    [
      "a proxy's page",
      (response) => {
        response.statusCode = 502;
        response.end("<h1>Bad\n gateway</h1>");
      },
      /^HTTP 502: <h1>Bad gateway<\/h1>$/,
    ],
    [
      "an error amid the stream",
      (response) => {
        token(response);
        event(response, { error: { message: "device lost" } });
        response.end("data: [DONE]\n\n");
      },
      /^error in the stream: device lost$/,
    ],
    [
      "a stream that breaks off",
      async (response) => {
        token(response);
        await sleep(20);
        response.socket?.resetAndDestroy();
      },
      /^the stream broke off: /,
    ],
    [
      "a stream without [DONE]",
      (response) => {
        token(response);
        response.end();
      },
      /^the stream ended before \[DONE\]$/,
    ],
    [
      "a stream without output",
      (response) => finish(response, 3, 0),
      /^the stream ended without a chunk of output$/,
    ],
    [
      "something that is not JSON",
      (response) => {
        response.end("data: {oops\n\n");
      },
      /^not a chunk in the stream: \{oops$/,
    ],
  ];
  it.each(["null", "3", '{"choices":[null]}', '{"choices":[{"delta":"x"}]}'])(
    "a chunk of another shape: %s",
    async (data) => {
      const { outcomes } = await exchange((response) => {
        response.end(`data: ${data}\n\n`);
      });
      expect(outcomes[0]?.error).toMatch(/^not a chunk|^the stream ended/);
    },
  );

  it.each(cases)("%s", async (_name, script, message) => {
    const [outcome] = (await exchange(script)).outcomes;
    expect(outcome?.error).toMatch(message);
    expect(outcome?.latency).toBeGreaterThan(0);
  });

  it("an answer that never ends", async () => {
    const { outcomes } = await exchange((response) => token(response), {
      timeout: 0.2,
    });
    expect(outcomes[0]?.error).toBe("no end of the answer after 0.2 s");
    expect(outcomes[0]?.latency).toBeGreaterThan(0.19);
  });

  it("nobody listening", async () => {
    const server = await scriptedServer(() => undefined);
    server.close();
    const http = new HttpClient(server.url, null);
    const outcome = await sendRequest(
      http,
      Buffer.from("{}"),
      null,
      SETTINGS,
      0,
    );
    expect(outcome.error).toMatch(/ECONNREFUSED/);
  });
});

describe("server-sent events", () => {
  const bytes = new TextEncoder().encode(
    ': comment\r\ndata: {"a":"é😀"}\r\n\r\nevent: x\ndata:one\ndata: two\n\n\n\ndata: [DONE]\n\n',
  );

  it.each([1, 2, 3, 7, 1000])("are the same in pieces of %d bytes", (size) => {
    const events: string[] = [];
    const reader = new EventReader((data) => events.push(data));
    for (let i = 0; i < bytes.length; i += size)
      reader.push(bytes.subarray(i, i + size));
    expect(events).toEqual(['{"a":"é😀"}', "one\ntwo", "[DONE]"]);
  });
});
