import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { addonFile, loadAddon } from "../../runner/addon.js";
import { VERSION } from "../version.js";
import { cubinArchitectures } from "./fatbin.js";

export interface BuildFacts {
  octavo: string;
  /** Path and version of the native addon, or why there is none. */
  addon: { file: string; version: string } | { reason: string };
  /** The CUDA library beside it and what it has machine code for ("sm_90"), or why there is none. */
  cuda: { file: string; architectures: string[] } | { reason: string };
  /** Versions of the packages that parts of Octavo can do without; null: not installed. */
  optionalPackages: Record<string, string | null>;
}

export function buildFacts(): BuildFacts {
  return {
    octavo: VERSION,
    addon: addonFacts(),
    cuda: cudaFacts(),
    optionalPackages: optionalPackages(),
  };
}

function addonFacts(): BuildFacts["addon"] {
  try {
    return { file: addonFile(), version: loadAddon().version };
  } catch (error) {
    return { reason: messageOf(error) };
  }
}

function cudaFacts(): BuildFacts["cuda"] {
  try {
    const file = path.join(path.dirname(addonFile()), "liboctavo_cuda.so");
    if (!existsSync(file))
      return { reason: `not built: there is no ${file} (npm run build:cuda)` };
    const architectures = cubinArchitectures(readFileSync(file));
    return { file, architectures: architectures.map((n) => `sm_${n}`) };
  } catch (error) {
    return { reason: messageOf(error) };
  }
}

function optionalPackages(): Record<string, string | null> {
  const root = packageRoot();
  const manifest =
    root === null ? null : readManifest(path.join(root, "package.json"));
  const names = Object.keys(manifest?.optionalDependencies ?? {});
  return Object.fromEntries(names.map((name) => [name, installed(name)]));
}

/** Octavo's own folder: the nearest one above this file with a package.json. */
function packageRoot(): string | null {
  return (
    foldersAbove().find((folder) =>
      existsSync(path.join(folder, "package.json")),
    ) ?? null
  );
}

function installed(name: string): string | null {
  for (const folder of foldersAbove()) {
    const manifest = readManifest(
      path.join(folder, "node_modules", name, "package.json"),
    );
    if (manifest) return manifest.version ?? "unknown";
  }
  return null;
}

function foldersAbove(): string[] {
  const folders = [path.dirname(fileURLToPath(import.meta.url))];
  for (;;) {
    const last = folders.at(-1) ?? "/";
    const parent = path.dirname(last);
    if (parent === last) return folders;
    folders.push(parent);
  }
}

interface Manifest {
  version?: string;
  optionalDependencies?: Record<string, string>;
}

function readManifest(file: string): Manifest | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Manifest;
  } catch {
    return null;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
