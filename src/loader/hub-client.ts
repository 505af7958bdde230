import type * as Hub from "@huggingface/hub";
import { setTimeout as sleep } from "node:timers/promises";
import { OctavoError, reasonOf } from "../core/errors.js";
import type { HubSettings } from "./hub-settings.js";

/** A file of a repository at one commit. */
export interface RemoteFile {
  path: string;
  /** Bytes. */
  size: number;
  /** Hash of the contents; also the blob's name in the cache. Large files: SHA-256. Others: git's SHA-1 of a blob. */
  hash: string;
  algorithm: "sha256" | "git-sha1";
}

type HubPackage = typeof Hub;

/** Waits before the second, third, ... try of a request, in milliseconds; a server's Retry-After wins. */
export const RETRY_WAITS: readonly number[] = [500, 1_000, 2_000];
const MAX_RETRY_AFTER_MS = 30_000;
/** Until the first byte of an answer. */
const ANSWER_TIMEOUT_MS = 30_000;

/**
 * The hub over plain HTTP. Every refusal is an OctavoError (`download_failed`) that names what was asked; what may pass
 * (no connection, 429, 5xx) is tried again a few times first.
 */
export class HubClient {
  readonly endpoint: string;

  private constructor(
    private readonly hub: HubPackage,
    private readonly settings: HubSettings,
    private readonly repo: string,
    private readonly signal: AbortSignal,
    readonly retryWaits: readonly number[],
  ) {
    this.endpoint = settings.endpoint ?? hub.HUB_URL;
  }

  /** Errors: `invalid_config` where the optional package is not installed. */
  static async open(
    settings: HubSettings,
    repo: string,
    signal: AbortSignal,
    retryWaits = RETRY_WAITS,
  ): Promise<HubClient> {
    let hub: HubPackage;
    try {
      hub = await import("@huggingface/hub");
    } catch (error) {
      throw new OctavoError(
        "invalid_config",
        `${repo}: downloading needs the optional package @huggingface/hub, which cannot be loaded (npm install @huggingface/hub): ${(error as Error).message}`,
        "model",
        { cause: error },
      );
    }
    return new HubClient(hub, settings, repo, signal, retryWaits);
  }

  /** The commit that a branch, tag or (short) commit means now. */
  async commitOf(revision: string): Promise<string> {
    const { sha } = await this.hub.modelInfo({
      name: this.repo,
      revision,
      additionalFields: ["sha"],
      hubUrl: this.endpoint,
      fetch: this.fetchFor(`revision ${revision}`),
    });
    if (typeof sha === "string" && /^[0-9a-f]{40}$/.test(sha)) return sha;
    throw this.failure(
      `expected the commit of revision ${revision}, got ${JSON.stringify(sha)}`,
    );
  }

  /** Every file at a commit. */
  async files(commit: string): Promise<RemoteFile[]> {
    const files: RemoteFile[] = [];
    const entries = this.hub.listFiles({
      repo: { type: "model", name: this.repo },
      revision: commit,
      recursive: true,
      hubUrl: this.endpoint,
      fetch: this.fetchFor("its list of files"),
    });
    for await (const { type, path, size, oid, lfs } of entries) {
      if (type !== "file") continue;
      const hash = lfs?.oid ?? oid ?? "";
      // It becomes a file's name.
      if (!/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/.test(hash))
        throw this.failure(`expected the hash of ${path}, got "${hash}"`);
      files.push({
        path,
        size: lfs?.size ?? size,
        hash,
        algorithm: hash.length === 64 ? "sha256" : "git-sha1",
      });
    }
    return files;
  }

  /**
   * The bytes of a file from `offset` on: 206, or 200 with the whole file from a server that knows no ranges, or 416.
   * Large files are redirected to storage elsewhere; `fetch` keeps the token from other origins. The package's own
   * download speaks another protocol for them (xet), which neither resumes nor works through plain mirrors.
   */
  read(
    file: RemoteFile,
    commit: string,
    offset: number,
    signal: AbortSignal,
  ): Promise<Response> {
    const path = file.path.split("/").map(encodeURIComponent).join("/");
    const headers: Record<string, string> = { "accept-encoding": "identity" };
    if (offset > 0) headers["range"] = `bytes=${offset}-`;
    return this.fetchFor(file.path)(
      `${this.endpoint}/${this.repo}/resolve/${commit}/${path}`,
      { headers, signal },
    );
  }

  /** A `fetch` with the token, retries, and refusals in words. @param what for messages */
  private fetchFor(what: string): typeof fetch {
    return async (input, init = {}) => {
      const headers = new Headers(init.headers);
      const { token } = this.settings;
      // Not through the package, which refuses the tokens of other hubs (they don't begin with hf_).
      if (token !== null) headers.set("authorization", `Bearer ${token}`);
      for (let attempt = 0; ; attempt++) {
        const outcome = await this.attempt(input, { ...init, headers });
        if (outcome instanceof Response && isUsable(outcome)) return outcome;
        const wait = this.retryWaits[attempt];
        if (wait === undefined || !mayPass(outcome))
          throw outcome instanceof Response
            ? await this.refusal(outcome, what)
            : this.unreachable(outcome, what);
        if (outcome instanceof Response) await outcome.body?.cancel();
        await sleep(retryAfter(outcome) ?? wait, undefined, {
          signal: this.signal,
        });
      }
    };
  }

  private async attempt(
    input: Parameters<typeof fetch>[0],
    init: RequestInit,
  ): Promise<Response | Error> {
    const late = new AbortController();
    const timer = setTimeout(
      () => late.abort(new Error(`no answer in ${ANSWER_TIMEOUT_MS} ms`)),
      ANSWER_TIMEOUT_MS,
    );
    const signals = [this.signal, late.signal];
    if (init.signal) signals.push(init.signal);
    try {
      return await fetch(input, { ...init, signal: AbortSignal.any(signals) });
    } catch (error) {
      this.signal.throwIfAborted();
      init.signal?.throwIfAborted();
      return error as Error;
    } finally {
      clearTimeout(timer);
    }
  }

  private unreachable(error: Error, what: string): HubUnreachable {
    return new HubUnreachable(
      `${this.repo}: cannot reach the hub at ${this.endpoint} for ${what}: ${reasonOf(error)}.`,
      error,
    );
  }

  private async refusal(
    response: Response,
    what: string,
  ): Promise<OctavoError> {
    const { status, headers } = response;
    const text = await response.text().catch(() => "");
    const said = ` (HTTP ${status}${saidBy(response, text)})`;
    const code = headers.get("x-error-code");
    const reason = this.explain(status, code, what);
    if (reason !== null) return this.failure(reason + said);
    return new OctavoError(
      "not_found",
      `${this.repo}: no such model at ${this.endpoint}, or a private one${this.settings.token === null ? ": those need HF_TOKEN" : " that the account of HF_TOKEN may not see"}${said}.`,
      "model",
    );
  }

  /** Null: there is no such model. */
  private explain(
    status: number,
    code: string | null,
    what: string,
  ): string | null {
    const known = this.settings.token !== null;
    if (code === "GatedRepo")
      return known
        ? "this model is gated, and the account of HF_TOKEN has no access to it: ask for access on the model's page"
        : "this model is gated: ask for access on the model's page, then set HF_TOKEN to a token of that account";
    if (code === "RevisionNotFound")
      return `the hub knows the model but not ${what}: expected --revision BRANCH, TAG or COMMIT`;
    if (code === "EntryNotFound") return `the hub has no ${what} there`;
    if (status === 404 || code === "RepoNotFound") return null;
    // Without a token the hub says 401 for what does not exist as well as for what is private.
    if (status === 401)
      return known ? "the hub refuses the token in HF_TOKEN" : null;
    if (status === 403)
      return `the hub denies access to ${what}${known ? " for the account of HF_TOKEN" : ": set HF_TOKEN"}`;
    return `the hub could not answer for ${what}`;
  }

  failure(problem: string): OctavoError {
    return new OctavoError(
      "download_failed",
      `${this.repo}: ${problem}.`,
      "model",
    );
  }
}

/** No answer at all: what is in the cache may serve instead. */
export class HubUnreachable extends OctavoError {
  constructor(message: string, cause: unknown) {
    super("download_failed", message, "model", { cause });
  }
}

/** A range that lies beyond the file's end (416) is the caller's to judge. */
function isUsable({ ok, status }: Response): boolean {
  return ok || status === 416;
}

function mayPass(outcome: Response | Error): boolean {
  if (outcome instanceof Error) return true;
  return outcome.status === 429 || outcome.status >= 500;
}

/** Milliseconds, or null where the answer doesn't say. */
function retryAfter(outcome: Response | Error): number | null {
  if (outcome instanceof Error) return null;
  const seconds = Number(outcome.headers.get("retry-after") ?? NaN);
  return seconds >= 0 ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : null;
}

/** The server's own words, short. */
function saidBy(response: Response, text: string): string {
  let message: unknown = response.headers.get("x-error-message");
  try {
    message ??= (JSON.parse(text) as { error?: unknown }).error;
  } catch {
    // A proxy's page says nothing that a line could hold.
  }
  return typeof message === "string" && message !== ""
    ? `: ${message.replace(/\s+/g, " ").slice(0, 200)}`
    : "";
}
