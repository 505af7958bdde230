/**
 * The directory that a quantized model is written to: DIR.partial while it grows, renamed to DIR when it is whole, so
 * that nothing half-made is ever found under the name that was asked for.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { OctavoError } from "../core/errors.js";

/** Says that a directory is ours to delete, and that it is not whole. */
const MARKER = "INCOMPLETE";

/** What a model directory has besides weights and config.json. */
const COPIED = [
  /^generation_config\.json$/,
  /^(tokenizer|special_tokens_map|added_tokens|vocab|merges).*\.(json|txt|model)$/,
  /^chat_template\.(json|jinja)$/,
  /^additional_chat_templates$/,
  /\.tiktoken$/,
  /^(LICENSE|LICENCE|NOTICE|USE_POLICY)(\.(md|txt))?$/,
];

export interface OutputDirectory {
  /** Where to write: absolute. */
  partial: string;
  /** Gives the directory its name. */
  commit(): void;
  /** Deletes what was written. */
  abandon(): void;
}

/**
 * Makes DIR.partial. Errors: `invalid_config` naming --out where DIR is not empty (without `overwrite`), is the model
 * itself, or cannot be written.
 */
export function openOutput(
  out: string,
  model: string,
  overwrite: boolean,
): OutputDirectory {
  const directory = path.resolve(out);
  const source = path.resolve(model);
  if (contains(directory, source))
    throw outError(
      `expected a directory that does not hold the model itself, got ${directory}`,
    );
  checkFree(directory, overwrite);
  const partial = `${directory}.partial`;
  if (existsSync(partial) && !isOurs(partial))
    throw outError(
      `${partial} is in the way and was not made by octavo quantize: move it, or take another name`,
    );
  guarded(() => {
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    writeFileSync(
      path.join(partial, MARKER),
      "octavo quantize is writing here\n",
    );
  });
  return {
    partial,
    commit: () =>
      guarded(() => {
        rmSync(directory, { recursive: true, force: true });
        rmSync(path.join(partial, MARKER));
        renameSync(partial, directory);
      }),
    abandon: () => rmSync(partial, { recursive: true, force: true }),
  };
}

/** Errors: `invalid_config` where fewer than `bytes` bytes are free. */
export function requireRoom(directory: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(directory);
  if (bavail * bsize < bytes)
    throw outError(
      `expected ${bytes} free bytes for the weights, got ${bavail * bsize}`,
    );
}

/** Copies tokenizer, chat template, generation config and licence. */
export function copySideFiles(model: string, to: string): void {
  for (const name of readdirSync(model))
    if (COPIED.some((pattern) => pattern.test(name)))
      guarded(() =>
        cpSync(path.join(model, name), path.join(to, name), {
          recursive: true,
          dereference: true,
        }),
      );
}

function checkFree(directory: string, overwrite: boolean): void {
  const status = statSync(directory, { throwIfNoEntry: false });
  if (!status) return;
  if (!status.isDirectory())
    throw outError(`expected a directory, got the file ${directory}`);
  const names = readdirSync(directory);
  if (names.length === 0) return;
  if (!overwrite)
    throw outError(
      `${directory} is not empty. Take another name, or --overwrite it.`,
    );
  // Deleting is for models alone, whatever else the flag was meant for.
  if (!names.includes("config.json"))
    throw outError(
      `${directory} holds no config.json: --overwrite replaces models only`,
    );
}

function isOurs(partial: string): boolean {
  return (
    statSync(partial).isDirectory() &&
    (existsSync(path.join(partial, MARKER)) ||
      readdirSync(partial).length === 0)
  );
}

function contains(outer: string, inner: string): boolean {
  const relative = path.relative(outer, inner);
  return !relative.startsWith("..") && !path.isAbsolute(relative);
}

function outError(problem: string, cause?: unknown): OctavoError {
  return new OctavoError("invalid_config", `--out: ${problem}`, "out", {
    cause,
  });
}

function guarded(body: () => void): void {
  try {
    body();
  } catch (error) {
    throw outError((error as Error).message, error);
  }
}
