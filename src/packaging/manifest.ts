import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Platform } from "./file-rules.js";
import { filesBelow } from "./stage.js";
import type { Staged } from "./stage.js";

/** manifest.json of a bundle: what is in it, and what it needs of a host. */
export interface Manifest extends Staged {
  octavo: string;
  node: string;
  platform: Platform;
  /** Lowest versions of the host's libraries that have every symbol asked for: { GLIBC: "2.34", GLIBCXX: "3.4.30" }. */
  requires: Record<string, string>;
  /** path -> sha256 */
  files: Record<string, string>;
}

/** Hashes every file of the folder and writes manifest.json into it. */
export function writeManifest(
  target: string,
  facts: Omit<Manifest, "requires" | "files">,
): Manifest {
  const files: Record<string, string> = {};
  const requires: Record<string, string> = {};
  for (const file of filesBelow(target)) {
    const content = readFileSync(path.join(target, file));
    files[file] = createHash("sha256").update(content).digest("hex");
    if (/(\.node|\.so|^bin\/node)$/.test(file))
      noteRequirements(content, requires);
  }
  const manifest: Manifest = { ...facts, requires, files };
  writeFileSync(
    path.join(target, "manifest.json"),
    `${JSON.stringify(manifest, null, 1)}\n`,
  );
  return manifest;
}

/** Versions of symbols are strings in the binary: GLIBC_2.34. */
function noteRequirements(
  binary: Buffer,
  requires: Record<string, string>,
): void {
  const text = binary.toString("latin1");
  for (const [, library = "", version = ""] of text.matchAll(
    /\0(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)+)(?=\0)/g,
  ))
    if (compareVersions(version, requires[library] ?? "0") > 0)
      requires[library] = version;
}

export function compareVersions(a: string, b: string): number {
  const [left, right] = [a.split("."), b.split(".")];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = Number(left[i] ?? 0) - Number(right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
