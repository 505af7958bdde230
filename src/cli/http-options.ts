import { readFileSync } from "node:fs";
import { OctavoError } from "../core/errors.js";
import { KeysFile } from "../server/keys-file.js";
import type { HttpOptions } from "../server/options.js";
import type { ServeOptions } from "./serve-flags.js";
import { VERSION } from "./version.js";

/** Null without --api-keys-file. Errors: `invalid_config`. */
export function openKeysFile({ apiKeysFile }: ServeOptions): KeysFile | null {
  return apiKeysFile === undefined ? null : new KeysFile(apiKeysFile);
}

/** What the flags say of the server, whichever models it has. Errors: `invalid_config` for the files of TLS. */
export function httpOptions(
  options: ServeOptions,
  keysFile: KeysFile | null,
): HttpOptions {
  return {
    apiKeys: options.apiKey ?? [],
    keysFile: keysFile ?? undefined,
    adminApiKey: options.adminApiKey,
    metricsApiKey: options.metricsApiKey,
    allowedOrigins: options.allowedOrigins ?? [],
    livenessTimeoutSeconds: options.livenessTimeout,
    logLevel: options.logLevel,
    metrics: !options.disableLogStats,
    metricsCompat: options.metricsCompat,
    tls: readTls(options),
    version: VERSION,
  };
}

function readTls(
  options: ServeOptions,
): { key: Buffer; cert: Buffer } | undefined {
  const { sslKeyfile, sslCertfile } = options;
  if (sslKeyfile === undefined && sslCertfile === undefined) return undefined;
  if (sslKeyfile === undefined || sslCertfile === undefined)
    throw new OctavoError(
      "invalid_config",
      "--ssl-keyfile and --ssl-certfile go together; only one was given.",
      sslKeyfile ? "ssl-certfile" : "ssl-keyfile",
    );
  const read = (flag: string, file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (error) {
      throw new OctavoError(
        "invalid_config",
        `--${flag}: cannot read ${file}: ${(error as Error).message}`,
        flag,
      );
    }
  };
  return {
    key: read("ssl-keyfile", sslKeyfile),
    cert: read("ssl-certfile", sslCertfile),
  };
}
