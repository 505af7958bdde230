import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { OctavoError } from "../core/errors.js";
import type { AppOptions } from "./options.js";

/** Paths of the admin routes. */
export const ADMIN_PATHS: readonly string[] = [
  "/reset_prefix_cache",
  "/sleep",
  "/wake_up",
  "/is_sleeping",
];

const sha256 = (text: string): Buffer =>
  createHash("sha256").update(text).digest();

/** A set of keys that is searched in the same time whatever comes. */
class KeyRing {
  private readonly hashes: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.hashes = keys.map(sha256);
  }

  has(key: string): boolean {
    const hash = sha256(key);
    let found = false;
    for (const known of this.hashes)
      if (timingSafeEqual(known, hash)) found = true;
    return found;
  }
}

/** Guards /v1, /tokenize, /detokenize by the API keys, /metrics by its key, admin routes by theirs (closed without). */
export function guardRoutes(
  app: FastifyInstance,
  {
    apiKeys = [],
    adminApiKey,
    metricsApiKey,
  }: Pick<AppOptions, "apiKeys" | "adminApiKey" | "metricsApiKey">,
): void {
  const api = apiKeys.length > 0 ? new KeyRing(apiKeys) : null;
  const admin = new KeyRing(adminApiKey === undefined ? [] : [adminApiKey]);
  const metrics =
    metricsApiKey === undefined ? null : new KeyRing([metricsApiKey]);

  const ringOf = (path: string): KeyRing | null => {
    if (ADMIN_PATHS.includes(path)) {
      if (adminApiKey !== undefined) return admin;
      throw new OctavoError(
        "permission_denied",
        "Admin routes are closed: the server was started without --admin-api-key.",
      );
    }
    if (path === "/metrics") return metrics;
    return /^\/(v1|tokenize|detokenize)(\/|$)/.test(path) ? api : null;
  };

  app.addHook("onRequest", async (request) => {
    const ring = ringOf(pathOf(request.url));
    if (ring === null) return;
    const key = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
    if (key !== undefined && ring.has(key.trim())) return;
    throw new OctavoError(
      "invalid_api_key",
      key === undefined
        ? "You didn't provide an API key. Send it as a header: Authorization: Bearer KEY."
        : "Incorrect API key provided.",
    );
  });
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
