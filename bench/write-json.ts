import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";

/** Writes a bench's figures to --output-json, where it was given. */
export async function writeJson(
  file: string | undefined,
  result: unknown,
): Promise<void> {
  if (file === undefined) return;
  await mkdir(path.dirname(path.resolve(file)), { recursive: true });
  await writeFile(file, JSON.stringify(result, null, 2) + "\n");
  process.stderr.write(`Result written to ${file}\n`);
}
