import { readFile } from "node:fs/promises";
import { OctavoError } from "../../src/core/errors.js";
import { requirePath, type DatasetSettings } from "./dataset-settings.js";

/** The text of --dataset-path. */
export async function readDatasetFile(
  settings: DatasetSettings,
): Promise<string> {
  const path = requirePath(settings);
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new OctavoError(
      "invalid_config",
      `--dataset-path: cannot read ${path}: ${(error as Error).message}`,
      "dataset-path",
    );
  }
}

/** The objects of a file with one JSON object a line, each with its line number; blank lines are left out. */
export function parseJsonLines(
  path: string,
  text: string,
): { row: Record<string, unknown>; line: number }[] {
  const rows: { row: Record<string, unknown>; line: number }[] = [];
  text.split("\n").forEach((content, i) => {
    if (content.trim() === "") return;
    rows.push({ row: parseObject(path, content, i + 1), line: i + 1 });
  });
  if (rows.length > 0) return rows;
  throw badDataset(path, null, "expected a JSON object a line, got none");
}

function parseObject(
  path: string,
  content: string,
  line: number,
): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (error) {
    throw badDataset(path, line, (error as Error).message);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw badDataset(path, line, `expected a JSON object, got ${content}`);
}

/** @param line from 1; null: the file as a whole */
export function badDataset(
  path: string,
  line: number | null,
  problem: string,
): OctavoError {
  const place = line === null ? path : `${path}:${line}`;
  const text = problem.length > 300 ? `${problem.slice(0, 300)}...` : problem;
  return new OctavoError(
    "invalid_config",
    `--dataset-path: ${place}: ${text}`,
    "dataset-path",
  );
}
