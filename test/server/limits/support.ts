import type { LightMyRequestResponse } from "fastify";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll } from "vitest";
import { KeysFile } from "../../../src/server/keys-file.js";
import { parseSeries } from "../series.js";
import { serve, type TestServer } from "../support.js";

const folder = mkdtempSync(path.join(tmpdir(), "octavo-limits-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let numFiles = 0;

export interface LimitedServer extends TestServer {
  /** The clock of the limits. */
  readonly clock: { seconds: number };
  /** Puts other keys in the place of those before. */
  readonly reload: (text: string) => void;
  /** A request with a key; it is not answered while the engine does not run. */
  readonly send: (
    key: string,
    url: string,
    body: object,
    method?: "POST" | "GET" | "DELETE",
  ) => Promise<LightMyRequestResponse>;
  /** Refusals of a client that the metrics have counted. */
  readonly refusals: (key: string) => Promise<Record<string, number>>;
}

/** A server with a keys file, whose limits have a clock that stands still until it is moved. */
export async function serveLimited(
  text: string,
  ...[engine, options]: Parameters<typeof serve>
): Promise<LimitedServer> {
  const file = path.join(folder, `keys-${numFiles++}`);
  writeFileSync(file, text);
  const keysFile = new KeysFile(file);
  const clock = { seconds: 0 };
  const server = await serve(engine, {
    keysFile,
    quotaClock: () => clock.seconds * 1000,
    ...options,
  });
  const { app } = server;
  return {
    ...server,
    clock,
    reload(changed) {
      writeFileSync(file, changed);
      keysFile.reload();
    },
    send: (key, url, body, method = "POST") =>
      app.inject({
        method,
        url,
        headers: { authorization: `Bearer ${key}` },
        ...(method === "POST" && { payload: body }),
      }),
    async refusals(key) {
      const series = parseSeries((await app.inject("/metrics")).body);
      return Object.fromEntries(
        ["requests", "tokens", "concurrency"].map((reason) => [
          reason,
          series.get(
            `octavo_key_refusals_total{key="${key}",reason="${reason}"}`,
          ) ?? NaN,
        ]),
      );
    },
  };
}
