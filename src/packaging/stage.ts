import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { OctavoError } from "../core/errors.js";
import { isNeeded } from "./file-rules.js";
import type { Platform } from "./file-rules.js";
import { productionPackages } from "./production-packages.js";
import type { Lockfile } from "./production-packages.js";

export interface StageOptions {
  /** The repository, built. */
  root: string;
  /** Empty folder to fill. */
  target: string;
  platform: Platform;
  withOptional: boolean;
  /** The Node to carry. */
  node: string;
}

export interface Staged {
  /** name -> version */
  packages: Record<string, string>;
  cuda: boolean;
  starter: boolean;
}

/** What a server reads of a model directory. */
const MODEL_FILES =
  /\.(json|safetensors|jinja|model)$|^(LICENSE|NOTICE|README)/;

/** Runs from any folder, through a link too; needs nothing but a shell. */
const LAUNCHER = `#!/bin/sh
self=$0
if [ -h "$self" ]; then self=$(readlink -f "$self"); fi
case $self in */*) here=\${self%/*} ;; *) here=. ;; esac
exec "$here/bin/node" "$here/dist/src/cli/main.js" "$@"
`;

/** Fills the folder that is to be archived. Throws internal_error for a part that is not built. */
export function stage(options: StageOptions): Staged {
  const { root, target } = options;
  stageNode(options);
  write(target, "octavo", LAUNCHER, 0o755);
  for (const file of filesBelow(path.join(root, "dist")))
    if (isCurrent(root, file))
      copy(path.join(root, "dist", file), target, `dist/${file}`);
  copy(path.join(root, "package.json"), target, "package.json");
  copy(path.join(root, "LICENSE"), target, "LICENSE");
  const cuda = stageNative(root, target);
  const packages = stagePackages(options);
  return { packages, cuda, starter: stageStarter(root, target) };
}

/** Code whose source is still there: the compiler leaves what it made of deleted files. */
function isCurrent(root: string, file: string): boolean {
  return (
    file.endsWith(".js") &&
    existsSync(path.join(root, file.replace(/\.js$/, ".ts")))
  );
}

function stageNode({ node, target }: StageOptions): void {
  copy(node, target, "bin/node", 0o755);
  strip(path.join(target, "bin/node"));
  const license = [
    path.join(path.dirname(node), "../LICENSE"),
    "/usr/share/doc/nodejs/LICENSE",
    "/usr/share/doc/nodejs/copyright",
  ].find((file) => existsSync(file));
  if (license === undefined)
    throw missing(
      `Node's LICENSE, which has to go with its binary, beside ${node}`,
    );
  copy(license, target, "licenses/node/LICENSE");
}

/** The addon, and the CUDA library beside it. */
function stageNative(root: string, target: string): boolean {
  const addon = path.join(root, "build/Release/octavo.node");
  if (!existsSync(addon)) throw missing(`${addon} (npm run build:native)`);
  copy(addon, target, "build/Release/octavo.node", 0o755);
  strip(path.join(target, "build/Release/octavo.node"));
  const cuda = ["build/Release", "build/cuda"]
    .map((folder) => path.join(root, folder, "liboctavo_cuda.so"))
    .find((file) => existsSync(file));
  if (cuda === undefined) return false;
  copy(cuda, target, "build/Release/liboctavo_cuda.so", 0o755);
  return true;
}

function stagePackages(options: StageOptions): Record<string, string> {
  const { root, target, platform, withOptional } = options;
  const lockfile = readJson(path.join(root, "package-lock.json")) as Lockfile;
  const versions: Record<string, string> = {};
  for (const folder of productionPackages(lockfile, withOptional)) {
    const source = path.join(root, folder);
    // Binaries of other platforms are in the lockfile and not installed.
    if (!existsSync(source)) continue;
    for (const file of ownFiles(source))
      if (isNeeded(file, platform))
        copy(path.join(source, file), target, `${folder}/${file}`);
    versions[folder.replace(/^node_modules\//, "")] =
      lockfile.packages[folder]?.version ?? "unknown";
  }
  return versions;
}

function stageStarter(root: string, target: string): boolean {
  const folder = path.join(root, "models/starter");
  if (!existsSync(path.join(folder, "config.json"))) return false;
  for (const name of readdirSync(folder))
    if (MODEL_FILES.test(name))
      copy(path.join(folder, name), target, `models/starter/${name}`);
  return true;
}

/** Files below `folder`, as paths within it, sorted. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      path.relative(folder, path.join(entry.parentPath, entry.name)),
    )
    .sort();
}

/** Without the packages that lie in a package: they are packages of their own. */
function ownFiles(folder: string): string[] {
  return filesBelow(folder).filter(
    (file) => !file.split("/").includes("node_modules"),
  );
}

function copy(from: string, target: string, to: string, mode = 0o644): void {
  const file = path.join(target, to);
  mkdirSync(path.dirname(file), { recursive: true });
  copyFileSync(from, file);
  chmodSync(file, mode);
}

function write(target: string, to: string, text: string, mode: number): void {
  writeFileSync(path.join(target, to), text);
  chmodSync(path.join(target, to), mode);
}

/** Takes the symbols out that only debuggers read: an eighth of Node. */
function strip(file: string): void {
  execFileSync("strip", ["--strip-unneeded", file]);
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, "utf8"));
}

function missing(what: string): OctavoError {
  return new OctavoError("internal_error", `The bundle needs ${what}.`);
}
