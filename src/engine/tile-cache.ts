/** Tiles that were measured, on disk: a file for each device, driver and build, with every shape measured there. */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TileSet } from "../runner/addon.js";
import type { MeasuredTile, TileTable } from "./tune-tiles.js";

const FORMAT = 1;

/** What measurements hold for: anything else is measured anew. */
export interface TileCacheKey {
  octavo: string;
  gpu: string;
  isa: string;
  driver: string;
  /** Version of the matmul library that was a candidate, or null. */
  library: string | null;
  tiles: TileSet;
}

/** OCTAVO_CACHE_DIR, or octavo in the user's folder for caches. */
export function cacheDirectory(environment: NodeJS.ProcessEnv): string {
  const own = environment["OCTAVO_CACHE_DIR"]?.trim();
  if (own) return path.resolve(own);
  const shared = environment["XDG_CACHE_HOME"]?.trim();
  // A relative XDG_CACHE_HOME is to be ignored.
  return shared && path.isAbsolute(shared)
    ? path.join(shared, "octavo")
    : path.join(os.homedir(), ".cache", "octavo");
}

export class TileCache {
  readonly file: string;

  constructor(
    directory: string,
    private readonly key: TileCacheKey,
  ) {
    const hash = createHash("sha256").update(JSON.stringify(key)).digest("hex");
    const gpu = key.gpu.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    this.file = path.join(
      directory,
      "tiles",
      `${gpu.slice(0, 48)}-${hash.slice(0, 12)}.json`,
    );
  }

  /** What was measured before. A file that is broken or another's counts as empty, and `problem` says so in one line. */
  read(): { table: TileTable; problem: string | null } {
    const empty: TileTable = new Map();
    try {
      if (!existsSync(this.file)) return { table: empty, problem: null };
      const text = readFileSync(this.file, "utf8");
      return { table: this.parse(text), problem: null };
    } catch (error) {
      const problem = `Tile cache ${this.file}: ${messageOf(error)}; measuring again.`;
      return { table: empty, problem };
    }
  }

  /** Replaces the file in one step. Null, or one line that says why it was not written. */
  write(table: TileTable): string | null {
    const temporary = `${this.file}.${process.pid}.tmp`;
    const shapes = Object.fromEntries(
      [...table].map(([name, ranges]) => [name, Object.fromEntries(ranges)]),
    );
    try {
      mkdirSync(path.dirname(this.file), { recursive: true });
      const content = { format: FORMAT, key: this.key, shapes };
      writeFileSync(temporary, `${JSON.stringify(content, null, 1)}\n`);
      renameSync(temporary, this.file);
      return null;
    } catch (error) {
      if (existsSync(temporary)) rmSync(temporary);
      return `Tile cache ${this.file}: not written: ${messageOf(error)}.`;
    }
  }

  private parse(text: string): TileTable {
    const content = objectOf(JSON.parse(text), "an object");
    if (content["format"] !== FORMAT)
      throw new Error(`expected format ${FORMAT}`);
    if (JSON.stringify(content["key"]) !== JSON.stringify(this.key))
      throw new Error("expected this device, driver and build, got another's");
    const table: TileTable = new Map();
    const shapes = objectOf(content["shapes"], "shapes");
    for (const [name, value] of Object.entries(shapes)) {
      const ranges = new Map<number, MeasuredTile>();
      for (const [most, entry] of Object.entries(objectOf(value, name)))
        ranges.set(rowsOf(most), this.tileOf(entry, `${name}: ${most}`));
      table.set(name, ranges);
    }
    return table;
  }

  private tileOf(value: unknown, where: string): MeasuredTile {
    const { tile, microseconds } = objectOf(value, where);
    if (typeof tile !== "string" || !this.key.tiles.names.includes(tile))
      throw new Error(`expected the name of a tile at ${where}`);
    if (typeof microseconds !== "number" || !(microseconds >= 0))
      throw new Error(`expected microseconds at ${where}`);
    return { tile, microseconds };
  }
}

function objectOf(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`expected an object at ${where}`);
  return value as Record<string, unknown>;
}

function rowsOf(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error(`expected rows at ${text}`);
  return Number(text);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
