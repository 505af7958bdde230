import http from "node:http";
import https from "node:https";
import { OctavoError } from "../../src/core/errors.js";

/** The server under load: one keep-alive agent, no limit on sockets (an open loop must not wait for one). */
export class HttpClient {
  private readonly agent: http.Agent;
  private readonly secure: boolean;
  readonly base: URL;

  /** @param baseUrl http(s)://host:port, with a path where the server is behind one */
  constructor(
    baseUrl: string,
    private readonly apiKey: string | null,
  ) {
    this.base = parseBase(baseUrl);
    this.secure = this.base.protocol === "https:";
    const options = { keepAlive: true, maxFreeSockets: 4096 };
    this.agent = this.secure
      ? new https.Agent(options)
      : new http.Agent(options);
  }

  /** A request that is not sent yet; the caller ends it with the body. */
  open(method: "GET" | "POST", path: string, body?: Buffer) {
    const request = this.secure ? https.request : http.request;
    return request({
      agent: this.agent,
      method,
      hostname: this.base.hostname.replace(/^\[(.*)\]$/, "$1"),
      port: this.base.port || (this.secure ? 443 : 80),
      path: this.base.pathname.replace(/\/+$/, "") + path,
      headers: {
        ...(body && {
          "content-type": "application/json",
          "content-length": body.length,
        }),
        ...(this.apiKey !== null && {
          authorization: `Bearer ${this.apiKey}`,
        }),
      },
    });
  }

  get(path: string): Promise<{ status: number; text: string }> {
    return whole(this.open("GET", path), null);
  }

  /** POST of a small JSON object; the parsed answer. Errors: `invalid_config` with the server's own words. */
  async post(path: string, content: object): Promise<unknown> {
    const body = Buffer.from(JSON.stringify(content));
    const { status, text } = await whole(this.open("POST", path, body), body);
    if (status !== 200)
      throw new OctavoError(
        "invalid_config",
        `POST ${path}: expected 200, got ${describeFailure(status, text)}`,
      );
    return JSON.parse(text) as unknown;
  }

  close(): void {
    this.agent.destroy();
  }
}

function parseBase(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  throw new OctavoError(
    "invalid_config",
    `--base-url: expected http://HOST:PORT or https://HOST:PORT, got "${text}"`,
    "base-url",
  );
}

function whole(
  request: http.ClientRequest,
  body: Buffer | null,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    request.on("error", reject);
    request.on("response", (response) => {
      const parts: Buffer[] = [];
      response.on("error", reject);
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(parts).toString("utf8"),
        }),
      );
    });
    request.end(body ?? undefined);
  });
}

/** `HTTP 400 (invalid_request_error): message` from OpenAI's error shape, or the beginning of whatever came. */
export function describeFailure(status: number, text: string): string {
  return `HTTP ${status}${describeError(text)}`;
}

/** ` (type): message`, or `: text`. */
export function describeError(text: string): string {
  try {
    const { error } = JSON.parse(text) as {
      error?: { message?: unknown; type?: unknown };
    };
    if (typeof error?.message === "string")
      return `${typeof error.type === "string" ? ` (${error.type})` : ""}: ${error.message}`;
  } catch {
    // Not JSON: a proxy's page, say.
  }
  const line = text.trim().replace(/\s+/g, " ");
  return line === "" ? "" : `: ${line.slice(0, 200)}`;
}
