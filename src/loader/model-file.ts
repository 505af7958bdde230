import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { transformSync } from "amaro";
import type { ModelFamily } from "../../models/registry.js";
import { OctavoError } from "../core/errors.js";
import { isObject } from "./fields.js";

/**
 * Loads a model family from outside: a module that exports `architectures` and `build`, as models/llama.ts does. A .ts
 * file has its types stripped, so it may import types only. The file runs with all of the process's rights.
 * Errors: `invalid_config` naming the file.
 */
export async function loadModelFile(file: string): Promise<ModelFamily> {
  const exported = await importFile(file);
  const { architectures, build } = exported;
  if (
    !Array.isArray(architectures) ||
    architectures.length === 0 ||
    !architectures.every((name) => typeof name === "string")
  )
    throw modelFileError(
      file,
      "expected an export `architectures`, a list of names",
    );
  if (typeof build !== "function")
    throw modelFileError(
      file,
      "expected an export `build`, a function of (g, config)",
    );
  return { architectures, build: build as ModelFamily["build"] };
}

export function modelFileError(
  file: string,
  problem: string,
  cause?: unknown,
): OctavoError {
  return new OctavoError(
    "invalid_config",
    `model file ${file}: ${problem}`,
    "modelFile",
    { cause },
  );
}

async function importFile(file: string): Promise<Record<string, unknown>> {
  try {
    const extension = path.extname(file);
    if (extension !== ".ts" && extension !== ".js" && extension !== ".mjs")
      throw new Error("expected a .ts, .js or .mjs file");
    const url =
      extension === ".ts" ? strippedUrl(file) : pathToFileURL(file).href;
    const exported: unknown = await import(/* @vite-ignore */ url);
    return isObject(exported) ? { ...exported } : {};
  } catch (error) {
    throw modelFileError(file, (error as Error).message, error);
  }
}

/** Node 20 imports no TypeScript: the stripped text is imported from memory. */
function strippedUrl(file: string): string {
  const { code } = transformSync(readFileSync(file, "utf8"), {
    mode: "strip-only",
  });
  return `data:text/javascript;base64,${Buffer.from(code).toString("base64")}`;
}
