import { OctavoError } from "../../src/core/errors.js";
import {
  countOf,
  requirePath,
  type DatasetSettings,
  type PromptContext,
} from "./dataset-settings.js";
import { badDataset, parseJsonLines, readDatasetFile } from "./files.js";
import type { Sample } from "./outcome.js";
import { Random } from "../random.js";
import { promptBuilder } from "./synthetic.js";

/** Tokens behind one hash id of a Mooncake trace. */
export const HASH_BLOCK = 512;
/** Stream of the seed for prompts without hash ids; hash id h has stream OWN_TOKENS + 1 + h. */
const OWN_TOKENS = 1 << 16;

/** One request of a trace, before scaling. */
export interface TraceRow {
  /** Seconds after the first row. */
  arrival: number;
  inputLen: number;
  outputLen: number;
  /** Mooncake: one id per block of 512 prompt tokens, the same id for the same beginning. Empty: nothing is shared. */
  hashIds: readonly number[];
}

/**
 * A recorded load: Mooncake's JSON lines or Azure's CSV (told by the first line). Arrivals are multiplied by
 * timeScale, lengths by lengthScale. A hash id stands for the same tokens wherever it comes, so equal beginnings
 * really are equal and the server's prefix cache has what it had in production.
 */
export async function tracePrompts(
  settings: DatasetSettings,
  context: PromptContext,
): Promise<Sample[]> {
  const { numPrompts, seed, timeScale, lengthScale } = settings;
  const path = requirePath(settings);
  const rows = parseTrace(path, await readDatasetFile(settings));
  if (numPrompts !== null && numPrompts > rows.length)
    throw new OctavoError(
      "invalid_config",
      `--num-prompts: ${path} has ${rows.length} requests, got ${numPrompts}`,
      "num-prompts",
    );
  const ids = await context.vocabulary.plainIds();
  const build = await promptBuilder(context, seed);
  const samples: Sample[] = [];
  for (const [i, row] of rows.slice(0, countOf(settings)).entries()) {
    const tokens = promptTokens(row, i, lengthScale, seed, ids);
    const outputLen = Math.max(1, Math.round(row.outputLen * lengthScale));
    const sample = await build(tokens, outputLen);
    samples.push({ ...sample, arrival: row.arrival * timeScale });
  }
  return samples;
}

/**
 * Block k of a scaled prompt is what lies between round(k * 512 * scale) and round((k + 1) * 512 * scale): lengths are
 * exact and, since an id always stands at the same k, shared blocks stay aligned.
 */
function promptTokens(
  { inputLen, hashIds }: TraceRow,
  index: number,
  scale: number,
  seed: number,
  ids: Int32Array,
): number[] {
  const length = Math.max(1, Math.round(inputLen * scale));
  const tokens: number[] = [];
  const fill = (end: number, stream: number): void => {
    const random = new Random(seed, stream);
    while (tokens.length < end)
      tokens.push(ids[random.integer(0, ids.length - 1)] ?? 0);
  };
  hashIds.forEach((hash, k) => {
    const end = Math.round((k + 1) * HASH_BLOCK * scale);
    fill(Math.min(length, end), OWN_TOKENS + 1 + hash);
  });
  // Without hash ids the whole prompt is its own: a negative stream, which no hash id has.
  fill(length, -1 - index);
  return tokens;
}

/** Errors: `invalid_config` that names file, line and field. */
export function parseTrace(path: string, text: string): TraceRow[] {
  const rows = text.startsWith("{")
    ? parseMooncake(path, text)
    : parseAzure(path, text);
  const first = rows[0]?.arrival ?? 0;
  let last = 0;
  return rows.map((row, i) => {
    const arrival = row.arrival - first;
    if (arrival < last)
      throw badDataset(
        path,
        null,
        `request ${i + 1} is earlier than the one before it`,
      );
    last = arrival;
    return { ...row, arrival };
  });
}

function parseMooncake(path: string, text: string): TraceRow[] {
  return parseJsonLines(path, text).map(({ row, line }) => {
    const field = (name: string): number => {
      const value = row[name];
      if (typeof value === "number" && value >= 0) return value;
      throw badDataset(
        path,
        line,
        `${name}: expected a number of at least 0, got ${JSON.stringify(value)}`,
      );
    };
    const hashIds = row["hash_ids"] ?? [];
    if (!Array.isArray(hashIds) || !hashIds.every(Number.isInteger))
      throw badDataset(
        path,
        line,
        "hash_ids: expected a list of whole numbers",
      );
    return {
      arrival: field("timestamp") / 1000,
      inputLen: field("input_length"),
      outputLen: field("output_length"),
      hashIds: hashIds as number[],
    };
  });
}

const AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens";

function parseAzure(path: string, text: string): TraceRow[] {
  const [header, ...lines] = text.split("\n").map((line) => line.trim());
  if (header !== AZURE_HEADER)
    throw badDataset(
      path,
      1,
      `expected Mooncake's JSON lines or Azure's "${AZURE_HEADER}", got "${header ?? ""}"`,
    );
  const rows: TraceRow[] = [];
  lines.forEach((content, i) => {
    if (content === "") return;
    const match =
      /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?,(\d+),(\d+)$/.exec(content);
    const whole = match ? Date.parse(`${match[1]}T${match[2]}Z`) : NaN;
    if (!match || Number.isNaN(whole))
      throw badDataset(
        path,
        i + 2,
        `expected "YYYY-MM-DD HH:MM:SS.fraction,prompt tokens,output tokens", got "${content}"`,
      );
    rows.push({
      // Date knows milliseconds only; the trace has 100 ns.
      arrival: whole / 1000 + Number(match[3] ?? 0),
      inputLen: Number(match[4]),
      outputLen: Number(match[5]),
      hashIds: [],
    });
  });
  if (rows.length > 0) return rows;
  throw badDataset(path, null, "expected at least one request");
}
