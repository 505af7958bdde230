/** What the environment says about the hub, with the names that the hub's own tools read. */
import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { OctavoError } from "../core/errors.js";

export interface HubSettings {
  /** HF_ENDPOINT without a final slash; null: the public hub. */
  endpoint: string | null;
  /** HF_TOKEN, or the token that the hub's command line keeps in a file. */
  token: string | null;
  /** Holds models--OWNER--NAME folders. */
  cacheDir: string;
  /** HF_HUB_OFFLINE: only what is in the cache. */
  offline: boolean;
}

/** Errors: `invalid_config` naming the variable. */
export function hubSettings(environment: NodeJS.ProcessEnv): HubSettings {
  const value = (name: string): string | null => {
    const text = environment[name]?.trim();
    return text === undefined || text === "" ? null : text;
  };
  const home = expandHome(
    value("HF_HOME") ??
      path.join(value("XDG_CACHE_HOME") ?? "~/.cache", "huggingface"),
  );
  const cacheDir =
    value("HF_HUB_CACHE") ??
    value("HUGGINGFACE_HUB_CACHE") ??
    path.join(home, "hub");
  return {
    endpoint: parseEndpoint(value("HF_ENDPOINT")),
    token:
      value("HF_TOKEN") ??
      readToken(expandHome(value("HF_TOKEN_PATH") ?? path.join(home, "token"))),
    cacheDir: path.resolve(expandHome(cacheDir)),
    offline: parseSwitch("HF_HUB_OFFLINE", value("HF_HUB_OFFLINE")),
  };
}

function expandHome(file: string): string {
  return file === "~" || file.startsWith("~/")
    ? path.join(os.homedir(), file.slice(1))
    : file;
}

function parseEndpoint(text: string | null): string | null {
  if (text === null) return null;
  const protocol = URL.canParse(text) ? new URL(text).protocol : "";
  if (protocol !== "http:" && protocol !== "https:")
    throw new OctavoError(
      "invalid_config",
      `HF_ENDPOINT: expected http://HOST or https://HOST, got "${text}".`,
      "HF_ENDPOINT",
    );
  return text.replace(/\/+$/, "");
}

/** True and false as the hub's Python tools read them. */
function parseSwitch(name: string, text: string | null): boolean {
  if (text === null || /^(0|false|no|off)$/i.test(text)) return false;
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  throw new OctavoError(
    "invalid_config",
    `${name}: expected 1 or 0, got "${text}".`,
    name,
  );
}

/** A public model needs no token, so a file that cannot be read is as good as none. */
function readToken(file: string): string | null {
  try {
    const token = readFileSync(file, "utf8").trim();
    return token === "" ? null : token;
  } catch {
    return null;
  }
}
