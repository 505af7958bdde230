import http from "node:http";
import type { AddressInfo } from "node:net";

export interface Received {
  path: string;
  body: Record<string, unknown>;
  authorization: string | undefined;
  /** performance.now() when the whole body was there. */
  at: number;
}

/** What the server does with its n-th generation request (from 0). */
export type Script = (
  response: http.ServerResponse,
  index: number,
  received: Received,
) => void | Promise<void>;

export interface ScriptedServer {
  url: string;
  received: Received[];
  /** Connections accepted so far. */
  connections(): number;
  close(): void;
}

const WORD = /[a-z0-9]+/gi;
/** Special token before each text, as many models have it. */
const BOS = 1;

/**
 * An HTTP server whose answers are known. Its tokenizer has a token per word, numbered as they come.
 */
export async function scriptedServer(
  script: Script,
  { metrics }: { metrics?: () => string } = {},
): Promise<ScriptedServer> {
  const received: Received[] = [];
  const words: string[] = ["<unk>", "<s>"];
  const encode = (text: string): number[] =>
    Array.from(text.match(WORD) ?? [], (word) => {
      const known = words.indexOf(word);
      return known >= 0 ? known : words.push(word) - 1;
    });
  const json = (response: http.ServerResponse, content: unknown): void => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(content));
  };
  const handle = async (
    request: http.IncomingMessage,
    response: http.ServerResponse,
  ): Promise<void> => {
    let text = "";
    for await (const part of request) text += String(part);
    const body = (text === "" ? {} : JSON.parse(text)) as Record<
      string,
      unknown
    >;
    const path = request.url ?? "";
    if (path === "/v1/models")
      return json(response, { data: [{ id: "scripted" }] });
    if (path === "/metrics" && metrics) return void response.end(metrics());
    if (path === "/tokenize") {
      const ids = encode(String(body["prompt"]));
      if (body["add_special_tokens"] === true) ids.unshift(BOS);
      return json(response, { count: ids.length, tokens: ids });
    }
    if (path === "/detokenize") {
      const tokens = body["tokens"] as number[];
      const prompt = tokens.map((id) => words[id] ?? "").join(" ");
      return json(response, { prompt });
    }
    if (!path.endsWith("/completions")) {
      response.statusCode = 404;
      return void response.end();
    }
    const { authorization } = request.headers;
    const at = performance.now();
    const index = received.push({ path, body, authorization, at }) - 1;
    await script(response, index, { path, body, authorization, at });
  };
  let connections = 0;
  const server = http.createServer((request, response) => {
    void handle(request, response);
  });
  server.on("connection", () => connections++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    received,
    connections: () => connections,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

export const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms));

export function event(response: http.ServerResponse, content: unknown): void {
  response.write(`data: ${JSON.stringify(content)}\n\n`);
}

/** A text token of /v1/completions. */
export function token(response: http.ServerResponse, text = "a "): void {
  event(response, { choices: [{ index: 0, text, finish_reason: null }] });
}

/** Usage, [DONE], the end. */
export function finish(
  response: http.ServerResponse,
  promptTokens: number,
  completionTokens: number,
): void {
  event(response, {
    choices: [],
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
    },
  });
  response.end("data: [DONE]\n\n");
}
