import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The version in package.json, found from dist/ and from the sources alike. */
export const VERSION: string = readVersion(
  path.dirname(fileURLToPath(import.meta.url)),
);

function readVersion(directory: string): string {
  for (;;) {
    try {
      const content: unknown = JSON.parse(
        readFileSync(path.join(directory, "package.json"), "utf8"),
      );
      return (content as { version: string }).version;
    } catch {
      const parent = path.dirname(directory);
      if (parent === directory) return "unknown";
      directory = parent;
    }
  }
}
