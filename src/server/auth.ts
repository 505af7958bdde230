import { timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { OctavoError } from "../core/errors.js";
import { NO_LIMITS } from "./key-limits.js";
import { sha256, type ApiKey } from "./keys-file.js";
import type { AppOptions } from "./options.js";
import { NO_KEY, originOf } from "./origin.js";

/** Routes that the API keys guard. */
export const API_PATHS = /^\/(v1|v2|tokenize|detokenize|rerank|score)(\/|$)/;

/** Paths of the admin routes. */
export const ADMIN_PATHS: readonly string[] = [
  "/reset_prefix_cache",
  "/sleep",
  "/wake_up",
  "/is_sleeping",
];

/** Keys, searched in the same time whatever comes. */
class KeyRing {
  /** @param keys asked for at each request: a file of them may change */
  constructor(private readonly keys: () => readonly ApiKey[]) {}

  /** The name of a key, or null. */
  nameOf(key: string): string | null {
    const hash = sha256(key);
    let found: string | null = null;
    for (const known of this.keys())
      if (timingSafeEqual(known.hash, hash)) found = known.name;
    return found;
  }
}

/** One key. */
function single(name: string, key: string): KeyRing {
  const keys = [{ name, hash: sha256(key), limits: NO_LIMITS }];
  return new KeyRing(() => keys);
}

/** API keys by the names that logs and metrics have for them: key-1, key-2, ... in the order in which they were given. */
function namedKeys(apiKeys: readonly string[]): ApiKey[] {
  return apiKeys.map((key, index) => ({
    name: `key-${index + 1}`,
    hash: sha256(key),
    limits: NO_LIMITS,
  }));
}

/** Every name that a request's key may have now. */
export function keyNames({
  apiKeys = [],
  keysFile,
}: Pick<AppOptions, "apiKeys" | "keysFile">): readonly string[] {
  const keys = [...namedKeys(apiKeys), ...(keysFile?.keys ?? [])];
  return keys.length === 0
    ? [NO_KEY]
    : [...new Set(keys.map(({ name }) => name))];
}

/** Guards API_PATHS by the API keys, /metrics by its key, admin routes by theirs (closed without). */
export function guardRoutes(
  app: FastifyInstance,
  {
    apiKeys = [],
    keysFile,
    adminApiKey,
    metricsApiKey,
  }: Pick<AppOptions, "apiKeys" | "keysFile" | "adminApiKey" | "metricsApiKey">,
): void {
  const given = namedKeys(apiKeys);
  const api =
    keysFile !== undefined
      ? new KeyRing(() => [...given, ...keysFile.keys])
      : given.length > 0
        ? new KeyRing(() => given)
        : null;
  const admin = adminApiKey === undefined ? null : single("admin", adminApiKey);
  const metrics =
    metricsApiKey === undefined ? null : single("metrics", metricsApiKey);

  const ringOf = (path: string): KeyRing | null => {
    if (ADMIN_PATHS.includes(path)) {
      if (admin !== null) return admin;
      throw new OctavoError(
        "permission_denied",
        "Admin routes are closed: the server was started without --admin-api-key.",
      );
    }
    if (path === "/metrics") return metrics;
    return API_PATHS.test(path) ? api : null;
  };

  app.addHook("onRequest", async (request) => {
    const ring = ringOf(pathOf(request.url));
    if (ring === null) return;
    const check = (): string => checkKey(ring, keyOf(request.headers));
    originOf(request).key = check();
    checks.set(request, check);
  });
}

/** The name of a key. Errors: 401. */
function checkKey(ring: KeyRing, key: string | undefined): string {
  const name = key === undefined ? null : ring.nameOf(key.trim());
  if (name !== null) return name;
  throw new OctavoError(
    "invalid_api_key",
    key === undefined
      ? "You didn't provide an API key. Send it as a header: Authorization: Bearer KEY."
      : "Incorrect API key provided.",
  );
}

const checks = new WeakMap<FastifyRequest, () => void>();

/** For a request that goes on for long: its key may have been taken out of the file. Errors: 401. */
export function checkKeyAgain(request: FastifyRequest): void {
  checks.get(request)?.();
}

/** From Authorization, or from x-api-key, where Anthropic's clients send it. */
function keyOf(headers: IncomingHttpHeaders): string | undefined {
  const bearer = /^Bearer (.+)$/i.exec(headers.authorization ?? "")?.[1];
  const other = headers["x-api-key"];
  return bearer ?? (typeof other === "string" ? other : undefined);
}

/**
 * The path of a URL as the router reads it: without the query, percent-decoded. A path that cannot be decoded matches
 * no route.
 */
export function pathOf(url: string): string {
  const path = url.split(/[?;#]/, 1)[0] ?? "";
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
