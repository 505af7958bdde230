import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm, stat, truncate } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { OctavoError, reasonOf } from "../core/errors.js";
import type { HubClient, RemoteFile } from "./hub-client.js";

/** Connections that end early without having brought a byte, one after the other, before giving up. */
const MAX_BARREN_TRIES = 3;
/** A connection that brings nothing for this long is given up for a new one. */
const STALL_MS = 30_000;

export interface BlobTarget {
  client: HubClient;
  commit: string;
  /** Where the whole, checked file goes. */
  place: string;
  /** Told about bytes as they come; negative where some have to be fetched again. */
  onBytes: (count: number) => void;
  signal: AbortSignal;
}

/**
 * The unfinished file. Not the name that the hub's Python tools use for theirs (.incomplete): they lock in a way that
 * Node can't, and two writers would append to one file.
 */
export function partialOf(place: string): string {
  return `${place}.octavo-incomplete`;
}

/** Bytes of an unfinished download that are there to go on from. */
export async function partialBytes(
  place: string,
  { size }: RemoteFile,
): Promise<number> {
  try {
    const found = (await stat(partialOf(place))).size;
    return found <= size ? found : 0;
  } catch {
    return 0;
  }
}

/**
 * Fetches a file to `place`, from where an earlier try ended, and checks its hash. Ending the process at any time leaves
 * a state to go on from. Errors: `download_failed`.
 */
export async function downloadBlob(
  file: RemoteFile,
  target: BlobTarget,
): Promise<void> {
  const partial = partialOf(target.place);
  await mkdir(path.dirname(partial), { recursive: true });
  for (let fresh = false; ; fresh = true) {
    const resumed = await fetchRest(file, target, partial);
    const hash = await hashOf(partial, file, target.signal);
    if (hash === file.hash) break;
    await rm(partial, { force: true });
    // What an earlier try left may be damaged (a crash of the machine); what came in one go is the server's word.
    if (fresh || !resumed)
      throw target.client.failure(
        `${file.path} came with other contents than the hub promised: expected ${file.algorithm} ${file.hash}, got ${hash}. Nothing of it was kept`,
      );
    target.onBytes(-file.size);
  }
  await rename(partial, target.place);
}

/** Appends what is missing. Resolves to whether the file was pieced together rather than brought by one connection. */
async function fetchRest(
  file: RemoteFile,
  target: BlobTarget,
  partial: string,
): Promise<boolean> {
  let barren = 0;
  await (await open(partial, "a")).close();
  for (let connections = 0; ; connections++) {
    let offset = (await stat(partial)).size;
    if (offset > file.size) {
      await truncate(partial, 0);
      offset = 0;
    }
    if (offset > 0 && connections === 0) connections++;
    if (offset === file.size) return connections > 1;
    const end = await fetchFrom(file, target, partial, offset);
    if (end.error === null) continue;
    barren = end.received > 0 ? 0 : barren + 1;
    if (barren === MAX_BARREN_TRIES)
      throw target.client.failure(
        `the connection for ${file.path} keeps breaking off: ${reasonOf(end.error)}. What has come is kept; the same command goes on from there`,
      );
    await sleep(target.client.retryWaits[barren] ?? 0, undefined, {
      signal: target.signal,
    });
  }
}

/** What one connection brought; `error`: why it ended before the end of the file. */
interface Fetched {
  received: number;
  error: unknown;
}

async function fetchFrom(
  file: RemoteFile,
  { client, commit, onBytes, signal }: BlobTarget,
  partial: string,
  offset: number,
): Promise<Fetched> {
  const stall = new AbortController();
  const response = await client.read(
    file,
    commit,
    offset,
    AbortSignal.any([signal, stall.signal]),
  );
  if (!continuesAt(response, offset)) {
    await truncate(partial, 0);
    onBytes(-offset);
    offset = 0;
    if (response.status !== 200) {
      await response.body?.cancel();
      return { received: 0, error: new Error("no such range") };
    }
  }
  const stalled = (): void =>
    stall.abort(new Error(`no bytes for ${STALL_MS} ms`));
  let timer = setTimeout(stalled, STALL_MS);
  const out = await open(partial, "a");
  let received = 0;
  try {
    for await (const chunk of response.body ?? []) {
      clearTimeout(timer);
      const bytes = chunk as Uint8Array;
      if (offset + received + bytes.length > file.size)
        throw tooMuch(client, file);
      await writeAll(out, bytes, client);
      received += bytes.length;
      onBytes(bytes.length);
      timer = setTimeout(stalled, STALL_MS);
    }
    // Before it gets its final name: a crash of the machine must not leave a hole under it.
    await out.sync();
    const whole = offset + received === file.size;
    return { received, error: whole ? null : new Error("it ended early") };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof OctavoError) throw error;
    return { received, error };
  } finally {
    clearTimeout(timer);
    await out.close();
  }
}

async function writeAll(
  out: Awaited<ReturnType<typeof open>>,
  bytes: Uint8Array,
  client: HubClient,
): Promise<void> {
  try {
    await out.appendFile(bytes);
  } catch (error) {
    throw client.failure(
      `cannot write to the cache: ${(error as Error).message}. What has come is kept`,
    );
  }
}

function tooMuch(client: HubClient, { path, size }: RemoteFile): OctavoError {
  return client.failure(`${path}: expected ${size} bytes, got more`);
}

/** False where the answer is the whole file, or another part than was asked for. */
function continuesAt(response: Response, offset: number): boolean {
  if (offset === 0) return response.status === 200;
  const range = /^bytes (\d+)-/.exec(
    response.headers.get("content-range") ?? "",
  );
  return response.status === 206 && Number(range?.[1]) === offset;
}

async function hashOf(
  place: string,
  { algorithm, size }: RemoteFile,
  signal: AbortSignal,
): Promise<string> {
  const hash = createHash(algorithm === "sha256" ? "sha256" : "sha1");
  // What git hashes: a header, then the contents.
  if (algorithm === "git-sha1") hash.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(place, { signal }))
    hash.update(chunk as Buffer);
  return hash.digest("hex");
}
