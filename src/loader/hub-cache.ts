/**
 * The hub's cache on disk, laid out as the hub's own tools lay it out, so that all of them share it:
 *
 *   models--OWNER--NAME/
 *     blobs/ETAG                       contents, once each
 *     refs/REVISION                    the commit that a branch or tag meant when it was last asked for
 *     snapshots/COMMIT/config.json     a link to ../../blobs/ETAG
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { readJsonFile } from "./fields.js";
import { INDEX, parseWeightMap, SINGLE } from "./checkpoint.js";

/** Which files of a repository are needed. */
export interface NeededFiles {
  /** False: configuration and tokenizer only. */
  readonly weights: boolean;
  /** An encoder's: where its graph, ONNX instead of safetensors, may be (the first that is there); null: a text model. */
  readonly graphs: readonly string[] | null;
}

const COMMIT = /^[0-9a-f]{40}$/;

/** A revision that can only ever mean one state of the repository. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** One repository in the cache. Nothing is made on disk before something is written. */
export class CachedRepo {
  readonly folder: string;

  constructor(
    readonly cacheDir: string,
    readonly repo: string,
  ) {
    this.folder = path.join(cacheDir, this.folderName);
  }

  private get folderName(): string {
    return ["models", ...this.repo.split("/")].join("--");
  }

  /** Where the hub's tools keep their locks of this repository. */
  get lockFolder(): string {
    return path.join(this.cacheDir, ".locks", this.folderName);
  }

  blob(name: string): string {
    return path.join(this.folder, "blobs", name);
  }

  snapshot(commit: string): string {
    return path.join(this.folder, "snapshots", commit);
  }

  /** The commit that `revision` meant when it was last downloaded; null: it never was. */
  commitOf(revision: string): string | null {
    if (isCommit(revision)) return revision;
    try {
      const text = readFileSync(this.ref(revision), "utf8").trim();
      return isCommit(text) ? text : null;
    } catch {
      return null;
    }
  }

  /** Remembers what a branch or tag means. */
  async remember(revision: string, commit: string): Promise<void> {
    if (this.commitOf(revision) === commit) return;
    const file = this.ref(revision);
    await mkdir(path.dirname(file), { recursive: true });
    await replaceBy(file, (temporary) => writeFile(temporary, commit));
  }

  private ref(revision: string): string {
    return path.join(this.folder, "refs", revision);
  }

  /** True where the snapshot has the file and its contents. */
  has(commit: string, file: string): boolean {
    return existsSync(path.join(this.snapshot(commit), file));
  }

  /** Puts a blob into a snapshot under the file's name. */
  async link(commit: string, file: string, blob: string): Promise<void> {
    const place = path.join(this.snapshot(commit), file);
    await mkdir(path.dirname(place), { recursive: true });
    const target = path.relative(path.dirname(place), this.blob(blob));
    await replaceBy(place, (temporary) => symlink(target, temporary));
  }

  /** What keeps a snapshot from being served; empty: nothing. */
  missing(commit: string, { weights, graphs }: NeededFiles): string[] {
    const directory = this.snapshot(commit);
    const wanted = ["config.json", "tokenizer.json"];
    if (weights && graphs !== null)
      wanted.push(
        graphs.find((file) => this.has(commit, file)) ?? graphs.join(" or "),
      );
    else if (weights) wanted.push(...weightFiles(directory));
    return wanted.filter((file) => !this.has(commit, file));
  }
}

function weightFiles(directory: string): string[] {
  if (existsSync(path.join(directory, SINGLE))) return [];
  const index = readJsonFile(path.join(directory, INDEX), INDEX);
  return index ? shardNames(index) : [SINGLE];
}

/** The shards that an index names, each once. Errors: `invalid_model`. */
export function shardNames(index: Readonly<Record<string, unknown>>): string[] {
  return [...new Set(parseWeightMap(index).values())].sort();
}

/** Others may read while we write: they see the old entry or the new one. */
async function replaceBy(
  file: string,
  make: (temporary: string) => Promise<void>,
): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  await rm(temporary, { force: true });
  await make(temporary);
  await rename(temporary, file);
}
