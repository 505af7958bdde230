import { execFileSync, spawn } from "node:child_process";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { isNeeded } from "../../src/packaging/file-rules.js";
import type { Platform } from "../../src/packaging/file-rules.js";
import { compareVersions } from "../../src/packaging/manifest.js";
import type { Manifest } from "../../src/packaging/manifest.js";
import { productionPackages } from "../../src/packaging/production-packages.js";
import { hasShared, STORIES } from "../e2e/server-process.js";

const LINUX: Platform = { os: "linux", arch: "x64", libc: "gnu" };

describe("the packages of a bundle", () => {
  const packages = {
    "": {
      dependencies: { a: "1", "node-addon-api": "8" },
      optionalDependencies: { big: "1" },
    },
    "node_modules/a": { dependencies: { b: "2", "@s/c": "1" } },
    "node_modules/a/node_modules/b": { dependencies: { a: "1" } },
    "node_modules/b": {},
    "node_modules/@s/c": {
      dependencies: { b: "1" },
      optionalDependencies: { "c-win32": "1", "c-linux": "1" },
    },
    "node_modules/c-linux": {},
    "node_modules/big": { dependencies: { d: "1" } },
    "node_modules/d": {},
    "node_modules/vitest": {},
    "node_modules/node-addon-api": {},
  };

  it("are what running leads to, found as Node finds them", () => {
    const needed = [
      "node_modules/@s/c",
      "node_modules/a",
      "node_modules/a/node_modules/b",
      "node_modules/b",
      "node_modules/c-linux",
    ];
    expect(productionPackages({ packages }, false)).toEqual(needed);
    expect(productionPackages({ packages }, true)).toEqual(
      [...needed, "node_modules/big", "node_modules/d"].sort(),
    );
  });

  it("are all in the lockfile, or it is refused", () => {
    const torn = {
      ...packages,
      "node_modules/b": { dependencies: { x: "1" } },
    };
    expect(() => productionPackages({ packages: torn }, false)).toThrow(
      "node_modules/b needs x",
    );
  });
});

describe("the files of a package", () => {
  it.each([
    "index.js",
    "lib/test/code.js",
    "LICENSE.md",
    "dist/LICENCE",
    "lib/wasm.wasm",
    "tokenizers.linux-x64-gnu.node",
    "prebuilds/linux-x64/node.napi.node",
    "build/Release/own.node",
    "package.json",
  ])("%s is needed", (file) => {
    expect(isNeeded(file, LINUX)).toBe(true);
  });

  it.each([
    "README.md",
    "index.d.ts",
    "index.d.cts",
    "index.js.map",
    "test/a.js",
    "docs/guide.js",
    ".eslintrc",
    "lib/.cache",
    "tokenizers.linux-x64-musl.node",
    "tokenizers.linux-arm64-gnu.node",
    "tokenizers.darwin-x64.node",
    "tokenizers.win32-x64-msvc.node",
    "prebuilds/win32-x64/node.napi.node",
  ])("%s is left out", (file) => {
    expect(isNeeded(file, LINUX)).toBe(false);
  });
});

it("compares versions by their numbers", () => {
  expect(compareVersions("2.34", "2.4")).toBeGreaterThan(0);
  expect(compareVersions("2.4", "2.4.1")).toBeLessThan(0);
  expect(compareVersions("3.4.30", "3.4.30")).toBe(0);
});

const bundler = path.resolve("dist/src/packaging/bundle.js");
const scratch = mkdtempSync(path.join(tmpdir(), "octavo bundle "));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function bundle(out: string, ...flags: string[]): string {
  const folder = path.join(scratch, out);
  const args = [bundler, "--out", folder, ...flags];
  execFileSync(process.execPath, args, { stdio: "pipe" });
  const [name = ""] = readdirSync(folder);
  return path.join(folder, name);
}

const hashOf = (file: string): string =>
  createHash("sha256").update(readFileSync(file)).digest("hex");

/** The bundle's own server, with nothing in its environment; resolves to its address. */
function serveFrom(
  folder: string,
): Promise<{ url: string; stop: () => Promise<unknown> }> {
  const server = spawn(
    path.join(folder, "octavo"),
    ["serve", STORIES, "--port", "0"],
    { env: {}, cwd: "/", stdio: ["ignore", "pipe", "pipe"] },
  );
  const stop = (): Promise<unknown> => {
    server.kill();
    return new Promise((resolve) => server.on("close", resolve));
  };
  return new Promise((resolve, reject) => {
    let errors = "";
    server.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    server.stdout.on("data", (chunk: Buffer) => {
      const url = /listening on (\S+)/.exec(chunk.toString())?.[1];
      if (url !== undefined) resolve({ url, stop });
    });
    server.on("exit", () => reject(new Error(errors)));
  });
}

describe.skipIf(!hasShared || process.platform !== "linux")(
  "npm run bundle (needs ../shared/models/stories260k, Linux)",
  { timeout: 600_000 },
  () => {
    it("makes a folder that serves wherever it is unpacked, with no Node around", async () => {
      const archive = bundle("plain", "--no-compress");
      execFileSync("tar", ["-xf", archive, "-C", scratch]);
      const folder = path.join(scratch, path.basename(archive, ".tar"));
      const manifest = JSON.parse(
        readFileSync(path.join(folder, "manifest.json"), "utf8"),
      ) as Manifest;
      expect(manifest.node).toBe(process.versions.node);
      expect(manifest.packages).toHaveProperty("fastify");
      expect(manifest.packages).not.toHaveProperty("vitest");
      expect(manifest.packages).not.toHaveProperty("onnxruntime-node");
      expect(manifest.requires["GLIBC"]).toMatch(/^2\.\d+$/);
      for (const file of ["octavo", "bin/node", "licenses/node/LICENSE"])
        expect(manifest.files[file]).toBe(hashOf(path.join(folder, file)));
      const doctor = execFileSync(path.join(folder, "octavo"), ["doctor"], {
        env: {},
        cwd: "/",
        encoding: "utf8",
      });
      expect(doctor).toContain(folder);
      expect(doctor).toContain("Models can be served here.");
      const { url, stop } = await serveFrom(folder);
      for (const part of ["", "page/main.js", "page/style.css"])
        expect((await fetch(`${url}/${part}`)).status, part).toBe(200);
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: "", max_tokens: 8, temperature: 0 }),
      });
      expect(await response.text()).toContain("Once upon a time");
      await stop();
    });

    it.skipIf(!process.env["OCTAVO_LONG"])(
      "is below 60 MB, and the same bytes each time",
      () => {
        const archives = ["one", "two"].map((out) => bundle(out));
        for (const archive of archives)
          expect(statSync(archive).size).toBeLessThan(60e6);
        expect(hashOf(archives[1] ?? "")).toBe(hashOf(archives[0] ?? ""));
      },
    );
  },
);
