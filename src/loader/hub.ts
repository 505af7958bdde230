/**
 * Models by hub name. @huggingface/hub asks what there is; the files are fetched here, by plain HTTP ranges, because the
 * package (2.17) begins anew after an interruption, fetches every file of a repository and checks no contents.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, statfs } from "node:fs/promises";
import path from "node:path";
import { OctavoError } from "../core/errors.js";
import { INDEX } from "./checkpoint.js";
import { parseJsonObject } from "./fields.js";
import {
  CachedRepo,
  isCommit,
  shardNames,
  type NeededFiles,
} from "./hub-cache.js";
import { HubClient, HubUnreachable, type RemoteFile } from "./hub-client.js";
import { downloadBlob, partialBytes } from "./hub-download.js";
import { chooseFiles, type ChosenFiles } from "./hub-files.js";
import { withLock } from "./hub-lock.js";
import type { HubSettings } from "./hub-settings.js";

/** Files fetched at a time. */
const CONNECTIONS = 4;

export type DownloadPhase = "files" | "weights";

export interface HubRequest {
  /** OWNER/NAME. */
  repo: string;
  /** Branch, tag or commit. */
  revision: string;
  settings: HubSettings;
  /** False: configuration and tokenizer only. */
  weights: boolean;
  /** An encoder's files, and where its graph (ONNX) may be, the first that is there. Default null: a text model's. */
  graphs?: readonly string[] | null;
  /** Bytes that are there, of all that the phase needs. "files": configuration and tokenizer. */
  onProgress?: (phase: DownloadPhase, done: number, total: number) => void;
  /** A line for the user. */
  onNotice?: (text: string) => void;
  signal?: AbortSignal;
  /** Bytes free where the cache is. */
  freeBytes?: (directory: string) => Promise<number>;
  /** Milliseconds before each further try of a request. */
  retryWaits?: readonly number[];
}

const NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/;
const REVISION = /^[A-Za-z0-9_][\w./+-]*$/;

/** OWNER/NAME, as the hub names models. */
export function isHubName(text: string): boolean {
  return NAME.test(text) && !text.includes("--") && !text.includes("..");
}

/**
 * The directory of a model's snapshot in the cache, downloaded as far as it isn't there yet. Asking for a commit that is
 * there sends nothing. Errors: `download_failed`, `invalid_config`; `request_aborted` after `signal`.
 */
export async function downloadModel(request: HubRequest): Promise<string> {
  const { revision, settings, weights, graphs = null } = request;
  if (!REVISION.test(revision) || revision.includes(".."))
    throw new OctavoError(
      "invalid_config",
      `--revision: expected a branch, tag or commit, got "${revision}".`,
      "revision",
    );
  const cached = new CachedRepo(settings.cacheDir, request.repo);
  if (settings.offline)
    return cachedSnapshot(cached, revision, { weights, graphs });
  if (
    isCommit(revision) &&
    cached.missing(revision, { weights, graphs }).length === 0
  )
    return cached.snapshot(revision);
  const signal = request.signal ?? new AbortController().signal;
  try {
    return await new Download(
      request,
      cached,
      signal,
      await HubClient.open(settings, request.repo, signal, request.retryWaits),
    ).run();
  } catch (error) {
    if (signal.aborted)
      throw new OctavoError(
        "request_aborted",
        `${request.repo}: download stopped. What has come is kept; the same command goes on from there.`,
        "model",
      );
    if (error instanceof HubUnreachable)
      throw withHint(error, cached, revision, { weights, graphs });
    if (isFileError(error))
      throw new OctavoError(
        "download_failed",
        `${request.repo}: the cache at ${settings.cacheDir} cannot be used (HF_HUB_CACHE moves it): ${error.message}.`,
        "model",
        { cause: error },
      );
    throw error;
  }
}

/** Errors: `download_failed`, saying what the cache lacks. */
function cachedSnapshot(
  cached: CachedRepo,
  revision: string,
  needed: NeededFiles,
): string {
  const fail = (problem: string): OctavoError =>
    new OctavoError(
      "download_failed",
      `${cached.repo}: HF_HUB_OFFLINE is set, and the cache at ${cached.cacheDir} ${problem}.`,
      "model",
    );
  const commit = cached.commitOf(revision);
  if (commit === null || !existsSync(cached.snapshot(commit)))
    throw fail(`has no revision ${revision} of this model`);
  const missing = cached.missing(commit, needed);
  if (missing.length > 0)
    throw fail(`lacks ${missing.slice(0, 3).join(", ")} of it`);
  return cached.snapshot(commit);
}

function withHint(
  error: HubUnreachable,
  cached: CachedRepo,
  revision: string,
  needed: NeededFiles,
): OctavoError {
  const commit = cached.commitOf(revision);
  const there = commit !== null && cached.missing(commit, needed).length === 0;
  return new OctavoError(
    error.code,
    `${error.message} ${
      there
        ? `The cache has revision ${revision} as it was when last downloaded (${commit.slice(0, 12)}): set HF_HUB_OFFLINE=1 to use it.`
        : "The cache has no whole copy of it."
    }`,
    error.param,
    { cause: error },
  );
}

function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "path" in error;
}

/** One download of one model. */
class Download {
  private readonly stop = new AbortController();
  private commit = "";

  constructor(
    private readonly request: HubRequest,
    private readonly cached: CachedRepo,
    private readonly signal: AbortSignal,
    private readonly client: HubClient,
  ) {}

  async run(): Promise<string> {
    const { revision, weights, graphs = null, onNotice, repo } = this.request;
    const { cached, client } = this;
    this.commit = await client.commitOf(revision);
    const files = await client.files(this.commit);
    const chosen = chooseFiles(client, files, { weights, graphs });
    if (!(await this.isComplete(chosen)))
      await withLock(
        path.join(cached.lockFolder, "octavo.lock"),
        () => this.fetch(chosen, files),
        (pid) =>
          onNotice?.(
            `Another process (${pid}) is downloading ${repo}; waiting for it.`,
          ),
        this.signal,
      );
    await cached.remember(revision, this.commit);
    return cached.snapshot(this.commit);
  }

  private async isComplete(chosen: ChosenFiles): Promise<boolean> {
    const { small, beside, single, index } = chosen;
    const sure = [...small, ...beside, ...(single ? [single] : [])];
    if (!sure.every(({ path }) => this.cached.has(this.commit, path)))
      return false;
    return (
      !index ||
      (await this.shards()).every((name) => this.cached.has(this.commit, name))
    );
  }

  private async fetch(
    { small, beside, single, index }: ChosenFiles,
    all: readonly RemoteFile[],
  ): Promise<void> {
    await this.fetchAll("files", small);
    if (single) await this.fetchAll("weights", [...beside, single]);
    if (!index) return;
    const shards = await this.shards();
    const files = shards.map((name) => {
      const file = all.find(({ path }) => path === name);
      if (file) return file;
      throw this.client.failure(
        `${INDEX} names ${name}, which the repository does not have`,
      );
    });
    await this.fetchAll("weights", files);
  }

  private async shards(): Promise<string[]> {
    const file = path.join(this.cached.snapshot(this.commit), INDEX);
    return shardNames(parseJsonObject(await readFile(file, "utf8"), INDEX));
  }

  /** Fetches what is not there yet, a few files at a time. */
  private async fetchAll(
    phase: DownloadPhase,
    files: readonly RemoteFile[],
  ): Promise<void> {
    const needed = new Map<string, RemoteFile>();
    for (const file of files)
      if (!existsSync(this.cached.blob(file.hash))) needed.set(file.hash, file);
    const queue = [...needed.values()];
    const onBytes = await this.plan(phase, queue);
    const worker = async (): Promise<void> => {
      for (let file = queue.shift(); file; file = queue.shift())
        await this.fetchOne(file, onBytes);
    };
    const workers = Array.from({ length: CONNECTIONS }, worker);
    // One that fails stops the others; all have ended before the lock is given back.
    for (const each of workers)
      each.catch((error: unknown) => this.stop.abort(error));
    const ends = await Promise.allSettled(workers);
    if (ends.some(({ status }) => status === "rejected"))
      throw this.stop.signal.reason;
    for (const { path, hash } of files)
      if (!this.cached.has(this.commit, path))
        await this.cached.link(this.commit, path, hash);
  }

  /** Checks that the disk has room. Resolves to the counter of the bytes that come. */
  private async plan(
    phase: DownloadPhase,
    files: readonly RemoteFile[],
  ): Promise<(count: number) => void> {
    let there = 0;
    let needed = 0;
    for (const file of files) {
      needed += file.size;
      there += await partialBytes(this.cached.blob(file.hash), file);
    }
    const { cacheDir, repo } = this.cached;
    await mkdir(cacheDir, { recursive: true });
    const free = await (this.request.freeBytes ?? freeBytes)(cacheDir);
    if (needed - there > free)
      throw this.client.failure(
        `the download needs ${mib(needed - there)} more, but ${cacheDir} has ${mib(free)} free (HF_HUB_CACHE moves the cache)`,
      );
    if (there > 0)
      this.request.onNotice?.(
        `Going on with ${repo}: ${mib(there)} of ${mib(needed)} are there.`,
      );
    let done = there;
    return (count) => {
      done += count;
      this.request.onProgress?.(phase, done, needed);
    };
  }

  private fetchOne(
    file: RemoteFile,
    onBytes: (count: number) => void,
  ): Promise<void> {
    return downloadBlob(file, {
      client: this.client,
      commit: this.commit,
      place: this.cached.blob(file.hash),
      onBytes,
      signal: AbortSignal.any([this.signal, this.stop.signal]),
    });
  }
}

async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
