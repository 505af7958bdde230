import { createHash } from "node:crypto";
import { readFileSync, unwatchFile, watchFile } from "node:fs";
import { OctavoError, reasonOf } from "../core/errors.js";
import {
  isLimit,
  joinLimits,
  readLimits,
  type KeyLimits,
} from "./key-limits.js";

/** A key that clients may send. */
export interface ApiKey {
  /** What logs and metrics call it. Keys of one name are one client: what one keeps the other may fetch. */
  readonly name: string;
  /** SHA-256 of the key, 32 bytes. */
  readonly hash: Buffer;
  /** Of the client, whichever of its keys is used. */
  readonly limits: KeyLimits;
}

/** How often the file is looked at, milliseconds. */
const INTERVAL_MS = 2000;
const NAME = /^[\w.-]{1,64}$/;
/** Names that others have: requests without a key, and the keys of --api-key. */
const TAKEN = /^(none|key-\d+)$/;

export function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/**
 * API keys in a file: one a line as KEY or NAME KEY, `#` begins a comment; sha256:HEX stands for a key that is not to be
 * read here. A key without a name is called by the beginning of its hash. Limits stand behind the key as name=value; those
 * of a client may stand behind any of its keys.
 */
export class KeysFile {
  private current: readonly ApiKey[];

  /** Throws `invalid_config` that names the line. */
  constructor(readonly path: string) {
    this.current = readKeys(path);
  }

  get keys(): readonly ApiKey[] {
    return this.current;
  }

  /** Reads it again. Throws like the constructor, and the keys stay as they were. */
  reload(): void {
    this.current = readKeys(this.path);
  }

  /** Calls back when the file may have changed, until the function that it returns is called. Keeps no process alive. */
  watch(onChange: () => void, intervalMs = INTERVAL_MS): () => void {
    watchFile(this.path, { interval: intervalMs, persistent: false }, onChange);
    return () => unwatchFile(this.path, onChange);
  }
}

function readKeys(path: string): ApiKey[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw refused(`cannot read ${path}: ${reasonOf(error)}`);
  }
  const keys: ApiKey[] = [];
  const limits = new Map<string, KeyLimits>();
  const seen = new Set<string>();
  text.split("\n").forEach((line, i) => {
    const words = line.split("#", 1)[0]?.trim().split(/\s+/) ?? [];
    if (words.length === 1 && words[0] === "") return;
    const where = `${path}, line ${i + 1}`;
    const key = readLine(words, where);
    const hex = key.hash.toString("hex");
    if (seen.has(hex)) throw refused(`${where}: a line above has the same key`);
    seen.add(hex);
    keys.push(key);
    limits.set(key.name, limitsOf(key, limits.get(key.name), where));
  });
  // Without a key the server would be open to all.
  if (keys.length === 0) throw refused(`${path}: expected at least one key`);
  return keys.map((key) => ({
    ...key,
    limits: limits.get(key.name) ?? key.limits,
  }));
}

/** Those of a key's client, as far as they have been read. */
function limitsOf(
  { name, limits }: ApiKey,
  known: KeyLimits | undefined,
  where: string,
): KeyLimits {
  if (known === undefined) return limits;
  return joinLimits(known, limits, (limit) =>
    refused(
      `${where}: ${limit}=${limits[limit]}, but a line above says ${limit}=${known[limit]} for ${name}; keys of one name share its limits`,
    ),
  );
}

/** Messages never hold what may be a key. */
function readLine(words: readonly string[], where: string): ApiKey {
  const firstLimit = words.findIndex(isLimit);
  const end = firstLimit < 0 ? words.length : firstLimit;
  const own = words.slice(0, end);
  const [name, key] = own.length === 1 ? [null, own[0]] : own;
  if (key === undefined || own.length > 2)
    throw refused(
      `${where}: expected KEY or NAME KEY, got ${own.length} words; limits behind it are name=value, as in rpm=60`,
    );
  const limits = readLimits(words.slice(end), (why) =>
    refused(`${where}: ${why}`),
  );
  const hash = key.startsWith("sha256:") ? hashOf(key, where) : sha256(key);
  if (name == null)
    return { name: `sha256-${hash.toString("hex", 0, 4)}`, hash, limits };
  if (!NAME.test(name) || TAKEN.test(name))
    throw refused(
      `${where}: expected a name of 1 to 64 letters, digits, dots, underscores or dashes, and not none or key-1, key-2, ...`,
    );
  return { name, hash, limits };
}

function hashOf(key: string, where: string): Buffer {
  const hex = key.slice("sha256:".length);
  if (!/^[0-9a-f]{64}$/i.test(hex))
    throw refused(
      `${where}: expected 64 hexadecimal digits after sha256:, got ${hex.length} characters`,
    );
  return Buffer.from(hex, "hex");
}

function refused(message: string): OctavoError {
  return new OctavoError(
    "invalid_config",
    `--api-keys-file: ${message}`,
    "api-keys-file",
  );
}
