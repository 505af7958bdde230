import { createHash } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";

/** One request that the hub or its storage got. */
export interface HubRequestLog {
  server: "hub" | "storage";
  path: string;
  /** Of the file that is asked for; null: of the API. */
  file: string | null;
  range: string | undefined;
  authorization: string | undefined;
}

/** What goes wrong with a request; the first rule that returns something counts. */
export interface Fault {
  status?: number;
  headers?: Record<string, string>;
  /** The connection ends after so many bytes of the body. */
  cutAfter?: number;
  /** Nothing more comes after so many bytes; the connection stays. */
  holdAfter?: number;
  /** Sends the file's bytes with the first one changed. */
  corrupt?: boolean;
  /** Answers 200 with the whole file whatever range is asked for. */
  ignoreRange?: boolean;
}

export type FaultRule = (request: HubRequestLog) => Fault | undefined;

export interface HubServer {
  url: string;
  /** What main means. */
  commit: string;
  requests: HubRequestLog[];
  /** Requests for files, in order. */
  files(): HubRequestLog[];
  setFault(rule: FaultRule | null): void;
  /** Changes the repository: main moves to a new commit. */
  publish(files: Record<string, Buffer>): void;
  close(): void;
}

export interface HubOptions {
  repo?: string;
  /** Requests without this token get what the hub gives to strangers. */
  token?: string;
  gated?: boolean;
  tags?: Record<string, string>;
}

interface Version {
  files: Record<string, Buffer>;
  commit: string;
}

/** Entries of a page of the tree: small, so that tests turn pages. */
const PAGE = 4;

export function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export function gitHash(bytes: Buffer): string {
  return createHash("sha1")
    .update(`blob ${bytes.length}\0`)
    .update(bytes)
    .digest("hex");
}

/** Weights are stored apart, as the hub stores large files. */
export function isLarge(file: string): boolean {
  return /\.(safetensors|bin|onnx)$/.test(file);
}

/**
 * A hub with one model repository, as far as a download sees it: model info, the tree in pages, and files, where large
 * ones are redirected to storage on another origin, which refuses a token and knows ranges. A client that asks for the
 * xet protocol gets it and can go no further.
 */
export async function hubServer(
  first: Record<string, Buffer>,
  options: HubOptions = {},
): Promise<HubServer> {
  const repo = options.repo ?? "octavo-test/tiny";
  const requests: HubRequestLog[] = [];
  const versions: Version[] = [];
  let fault: FaultRule | null = null;
  const publish = (files: Record<string, Buffer>): void => {
    const names = JSON.stringify([versions.length, Object.keys(files)]);
    const commit = createHash("sha1").update(names).digest("hex");
    versions.push({ files, commit });
  };
  publish(first);

  const main = (): Version => {
    const last = versions.at(-1);
    if (!last) throw new Error("nothing published");
    return last;
  };
  const find = (revision: string): Version | undefined =>
    revision === "main"
      ? main()
      : versions.find(
          ({ commit }) => commit === (options.tags?.[revision] ?? revision),
        );
  const log = (
    server: HubRequestLog["server"],
    request: http.IncomingMessage,
    file: string | null,
  ): Fault | undefined => {
    const { range, authorization } = request.headers;
    const path = request.url ?? "";
    const entry = { server, path, file, range, authorization };
    requests.push(entry);
    return fault?.(entry);
  };

  const storage = http.createServer((request, response) => {
    const [, commit = "", name = ""] = (request.url ?? "").split("/");
    const file = decodeURIComponent(name.split("?")[0] ?? "");
    const problem = log("storage", request, file);
    if (request.headers.authorization !== undefined)
      return refuse(response, 400, "TwoTokens");
    const bytes = find(commit)?.files[file];
    if (bytes === undefined) return refuse(response, 404, "EntryNotFound");
    send(request, response, bytes, problem);
  });
  const storageUrl = await listen(storage);

  const api = (response: http.ServerResponse, rest: string): void => {
    const url = new URL(rest, hubUrl);
    const [, kind, revision = ""] = url.pathname.split("/");
    const version = find(decodeURIComponent(revision));
    if (!version) return refuse(response, 404, "RevisionNotFound");
    if (kind === "revision")
      return json(response, {
        _id: "1",
        id: repo,
        sha: version.commit,
        lastModified: "2026-01-01T00:00:00.000Z",
      });
    const cursor = Number(url.searchParams.get("cursor") ?? 0);
    const entries = tree(version.files);
    if (cursor + PAGE < entries.length) {
      url.searchParams.set("cursor", String(cursor + PAGE));
      const next = `${hubUrl}/api/models/${repo}${url.pathname}${url.search}`;
      response.setHeader("link", `<${next}>; rel="next"`);
    }
    json(response, entries.slice(cursor, cursor + PAGE));
  };

  const hub = http.createServer((request, response) => {
    const path = request.url ?? "";
    const resolve = `/${repo}/resolve/`;
    const [, revision = "", name = ""] =
      /^([^/]+)\/(.+)$/.exec(path.slice(resolve.length)) ?? [];
    const file = path.startsWith(resolve) ? decodeURIComponent(name) : null;
    const problem = log("hub", request, file);
    if (problem?.status !== undefined) return fail(response, problem);
    const known =
      options.token !== undefined &&
      request.headers.authorization === `Bearer ${options.token}`;
    if (options.token !== undefined && !known && options.gated !== true)
      return refuse(response, 401, "RepoNotFound");
    const prefix = `/api/models/${repo}`;
    if (path.startsWith(`${prefix}/`))
      return api(response, path.slice(prefix.length));
    if (file === null) return refuse(response, 404, "RepoNotFound");
    if (options.gated === true && !known)
      return refuse(response, options.token ? 401 : 403, "GatedRepo");
    const version = find(revision);
    const bytes = version?.files[file];
    if (!version || bytes === undefined)
      return refuse(response, 404, "EntryNotFound");
    response.setHeader("x-repo-commit", version.commit);
    if (!isLarge(file)) {
      response.setHeader("etag", `"${gitHash(bytes)}"`);
      return send(request, response, bytes, problem);
    }
    response.setHeader("x-linked-etag", `"${sha256(bytes)}"`);
    response.setHeader("x-linked-size", bytes.length);
    if (request.headers.accept?.includes("xet-fileinfo") === true) {
      response.setHeader(
        "content-type",
        "application/vnd.xet-fileinfo+json; charset=utf-8",
      );
      return void response.end("{}");
    }
    response.statusCode = 302;
    response.setHeader(
      "location",
      `${storageUrl}/${version.commit}/${encodeURIComponent(file)}?signature=1`,
    );
    response.end();
  });
  const hubUrl = await listen(hub);
  return {
    url: hubUrl,
    get commit() {
      return main().commit;
    },
    requests,
    files: () =>
      requests.filter(
        ({ server, file }) =>
          file !== null && (server === "storage" || !isLarge(file)),
      ),
    setFault: (rule) => (fault = rule),
    publish,
    close: () => {
      for (const server of [hub, storage]) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
}

async function listen(server: http.Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function tree(files: Record<string, Buffer>): object[] {
  const entries: object[] = Object.entries(files).map(([path, bytes]) =>
    isLarge(path)
      ? {
          type: "file",
          path,
          size: bytes.length,
          oid: gitHash(Buffer.from(`pointer to ${path}`)),
          xetHash: sha256(Buffer.from(path)),
          lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 },
        }
      : { type: "file", path, size: bytes.length, oid: gitHash(bytes) },
  );
  const folder = gitHash(Buffer.from("folder"));
  return [
    { type: "directory", path: "onnx", size: 0, oid: folder },
    ...entries,
  ];
}

function json(response: http.ServerResponse, content: unknown): void {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(content));
}

function refuse(
  response: http.ServerResponse,
  status: number,
  code: string,
): void {
  response.statusCode = status;
  response.setHeader("x-error-code", code);
  json(response, { error: `the test hub says ${code}` });
}

function fail(response: http.ServerResponse, fault: Fault): void {
  response.writeHead(fault.status ?? 500, fault.headers ?? {});
  response.end();
}

/** A file, or the range of it that is asked for, as far as the fault lets it. */
function send(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  whole: Buffer,
  fault: Fault = {},
): void {
  if (fault.status !== undefined) return fail(response, fault);
  const range = fault.ignoreRange
    ? null
    : /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
  const from = Number(range?.[1] ?? 0);
  if (range && from >= whole.length) {
    response.statusCode = 416;
    return void response.end();
  }
  let bytes = whole.subarray(from);
  if (range) {
    response.statusCode = 206;
    response.setHeader(
      "content-range",
      `bytes ${from}-${whole.length - 1}/${whole.length}`,
    );
  }
  if (fault.corrupt === true) {
    bytes = Buffer.from(bytes);
    bytes[0] = (bytes[0] ?? 0) ^ 0xff;
  }
  response.setHeader("content-length", bytes.length);
  const part = fault.cutAfter ?? fault.holdAfter;
  if (part === undefined) return void response.end(bytes);
  response.write(bytes.subarray(0, part), () => {
    if (fault.cutAfter !== undefined) response.socket?.end();
  });
}
