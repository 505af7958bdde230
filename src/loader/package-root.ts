import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** Octavo's own directory, the one with its package.json: found from dist/ and from the sources alike. */
export function packageRoot(): string {
  let directory = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(directory, "package.json"))) {
    const parent = path.dirname(directory);
    if (parent === directory)
      throw new Error(`no package.json above ${import.meta.url}`);
    directory = parent;
  }
  return directory;
}
