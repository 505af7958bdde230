import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/** The machine's own files under /proc, /sys and /dev; tests give another root. */
export class SystemFiles {
  constructor(private readonly root = "/") {}

  /** The trimmed content, or null where it cannot be read. */
  text(file: string): string | null {
    try {
      return readFileSync(path.join(this.root, file), "utf8").trim();
    } catch {
      return null;
    }
  }

  /** A file that holds one number; null for "max", and where there is none. */
  number(file: string): number | null {
    const text = this.text(file);
    return text !== null && /^\d+$/.test(text) ? Number(text) : null;
  }

  /** Names in a folder, sorted; empty where there is none. */
  names(folder: string): string[] {
    try {
      return readdirSync(path.join(this.root, folder)).sort();
    } catch {
      return [];
    }
  }
}
