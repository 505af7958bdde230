import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import type { DeviceCeilings } from "./floors.js";

/** A part's results in the output folder, or null where it has none. Throws SyntaxError for what is no JSON. */
export function readResult(
  outputDir: string | undefined,
  name: string,
): unknown {
  if (outputDir === undefined) return null;
  const file = path.join(outputDir, `${name}.json`);
  return existsSync(file)
    ? (JSON.parse(readFileSync(file, "utf8")) as unknown)
    : null;
}

/** What device_peer.py measured; null where it was not run, or not on a device. */
export function readCeilings(
  outputDir: string | undefined,
): DeviceCeilings | null {
  const found = readResult(outputDir, "ceilings") as
    (Partial<DeviceCeilings> & { absent?: string }) | null;
  const { copyBytesPerSecond = 0, matrixFlopPerSecond = 0 } = found ?? {};
  return copyBytesPerSecond > 0 && matrixFlopPerSecond > 0
    ? { copyBytesPerSecond, matrixFlopPerSecond }
    : null;
}
