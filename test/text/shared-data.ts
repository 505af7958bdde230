/** The test data beside the project, and model directories made for one test. */
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../../shared/", import.meta.url));

export function shared(path: string): string {
  return join(ROOT, path);
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

/** A describe that is skipped, and says why, where the data is missing. */
export function describeWithShared(
  path: string,
  title: string,
  body: () => void,
): void {
  if (existsSync(shared(path))) describe(title, body);
  else it.skip(`${title} (../shared/${path} is missing)`);
}

const folders: string[] = [];

afterAll(() => {
  for (const folder of folders)
    rmSync(folder, { recursive: true, force: true });
});

/** A folder with these files; objects are written as JSON. It goes when the test file is done. */
export function modelDir(files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(tmpdir(), "octavo-text-"));
  folders.push(folder);
  for (const [name, content] of Object.entries(files))
    writeFileSync(
      join(folder, name),
      typeof content === "string" ? content : JSON.stringify(content),
    );
  return folder;
}
