/**
 * `npm run bundle`: one archive with everything that a host without network, Node or compiler needs to serve.
 *
 * It lies in a folder of its own because it belongs to no layer: it reads the repository from outside, as a build script
 * does, and nothing imports it.
 */
import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { OctavoError } from "../core/errors.js";
import { writeArchive } from "./archive.js";
import type { Platform } from "./file-rules.js";
import { writeManifest } from "./manifest.js";
import { stage } from "./stage.js";

const USAGE = `npm run bundle -- [--out DIR] [--optional] [--no-compress]

  --out DIR       where the archive goes (default: build)
  --optional      with the optional packages: encoders, traces, the hub (300 MB of ONNX Runtime)
  --no-compress   a plain tar, in seconds
`;

function main(args: string[]): void {
  const { values } = parseArgs({
    args,
    options: {
      out: { type: "string", default: "build" },
      optional: { type: "boolean", default: false },
      "no-compress": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const root = path.resolve(
    path.dirname(fileURLToPath(import.meta.url)),
    "../../..",
  );
  const platform = thisPlatform();
  const node = process.execPath;
  requireSelfContained(node);
  const { version } = JSON.parse(
    readFileSync(path.join(root, "package.json"), "utf8"),
  ) as { version: string };
  const name = `octavo-${version}-${platform.os}-${platform.arch}`;
  const staging = path.join(path.resolve(values.out), "bundle");
  const target = path.join(staging, name);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  const withOptional = values.optional;
  const staged = stage({ root, target, platform, withOptional, node });
  const manifest = writeManifest(target, {
    octavo: version,
    node: process.versions.node,
    platform,
    ...staged,
  });
  const compress = !values["no-compress"];
  const file = `${path.resolve(values.out)}/${name}.tar${compress ? ".xz" : ""}`;
  writeArchive(staging, name, file, compress);
  rmSync(staging, { recursive: true, force: true });
  report(file, manifest);
}

function report(
  file: string,
  manifest: ReturnType<typeof writeManifest>,
): void {
  const { cuda, starter, files, packages, requires } = manifest;
  const hash = createHash("sha256").update(readFileSync(file)).digest("hex");
  const needs = Object.entries(requires).map((entry) => entry.join(" "));
  process.stdout.write(
    [
      file,
      `  ${(statSync(file).size / 1e6).toFixed(1)} MB, sha256 ${hash}`,
      `  ${Object.keys(files).length} files, ${Object.keys(packages).length} packages, Node ${manifest.node}`,
      `  CUDA library: ${cuda ? "yes" : "no (npm run build:cuda)"}; starter model: ${starter ? "yes" : "no"}`,
      `  needs of the host: ${needs.join(", ")}`,
      `  tar -xf FILE && ./${path.basename(file).replace(/\.tar.*$/, "")}/octavo serve DIR`,
      "",
    ].join("\n"),
  );
}

function thisPlatform(): Platform {
  const report = process.report.getReport() as {
    header: { glibcVersionRuntime?: string };
  };
  const { platform: os, arch } = process;
  const libc = report.header.glibcVersionRuntime ? "gnu" : "musl";
  return { os, arch, libc: os === "linux" ? libc : "" };
}

/** A distribution's Node may be a stub over libnode.so: it would not start anywhere else. */
function requireSelfContained(node: string): void {
  const libraries = execFileSync("ldd", [node], { encoding: "utf8" });
  const foreign = libraries
    .split("\n")
    .map((line) => line.trim().split(" ")[0] ?? "")
    .filter((library) => library.startsWith("lib"))
    .filter(
      (library) =>
        !/^lib(c|m|dl|rt|pthread|atomic|gcc_s|stdc\+\+)\.so/.test(library),
    );
  if (foreign.length > 0)
    throw new OctavoError(
      "internal_error",
      `${node} needs ${foreign.join(", ")}: run this with a self-contained Node (the project's own builds are).`,
    );
}

try {
  main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(
    `bundle: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
}
