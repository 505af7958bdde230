import { OctavoError } from "../../src/core/errors.js";
import { LATENCIES } from "./metrics.js";

export interface Comparison {
  table: string;
  /** Figures that got worse by more than the threshold. */
  regressions: string[];
}

type Result = Record<string, unknown>;

const THROUGHPUTS = [
  "request_throughput",
  "request_goodput",
  "output_throughput",
  "total_token_throughput",
];
/** Runs that differ in these measure different things. */
const SETTINGS = [
  "backend",
  "model_id",
  "num_prompts",
  "request_rate",
  "burstiness",
  "max_concurrency",
];
const NAME_WIDTH = 26;

/**
 * The figures of two results side by side, b as a ratio of a. Worse is less throughput, more latency or more failures.
 * @param threshold percent that a figure may be worse
 * Errors: `invalid_config` where a text is no result of `octavo bench serve` (or `vllm bench serve`)
 */
export function compareResults(
  a: Result,
  b: Result,
  threshold: number,
): Comparison {
  const regressions: string[] = [];
  const lines = SETTINGS.filter((key) => !Object.is(a[key], b[key])).map(
    (key) => `Note: ${key} is ${show(a[key])} in a and ${show(b[key])} in b.`,
  );
  lines.push(line("", "a", "b", "b / a"));
  const compare = (key: string, moreIsBetter: boolean): void => {
    const before = a[key];
    const after = b[key];
    if (typeof before !== "number") return;
    if (typeof after !== "number") {
      lines.push(line(key, before.toFixed(2), "missing", "-"));
      return;
    }
    const ratio = before === 0 ? null : after / before;
    const worse = moreIsBetter
      ? after < before * (1 - threshold / 100)
      : after > before * (1 + threshold / 100);
    if (worse) regressions.push(key);
    lines.push(
      line(
        key,
        before.toFixed(2),
        after.toFixed(2),
        ratio === null ? "-" : ratio.toFixed(3),
        worse,
      ),
    );
  };
  for (const key of THROUGHPUTS) compare(key, true);
  for (const key of latencyKeys(a)) compare(key, false);
  compare("failed", false);
  lines.push(
    regressions.length === 0
      ? `No figure is more than ${threshold} % worse.`
      : `${regressions.length} figures are more than ${threshold} % worse: ${regressions.join(", ")}`,
  );
  return { table: lines.join("\n") + "\n", regressions };
}

/** Means, medians and percentiles; a standard deviation is neither better nor worse. */
function latencyKeys(result: Result): string[] {
  const pattern = new RegExp(
    `^(mean|median|p[\\d.]+)_(${LATENCIES.join("|")})_ms$`,
  );
  return Object.keys(result).filter((key) => pattern.test(key));
}

function line(
  name: string,
  a: string,
  b: string,
  ratio: string,
  worse = false,
): string {
  return `${name.padEnd(NAME_WIDTH)}${a.padStart(14)}${b.padStart(14)}${ratio.padStart(9)}${worse ? "  worse" : ""}`;
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? "missing";
}

/** The JSON that --save-result wrote. */
export function parseResult(file: string, text: string): Result {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw badResult(file, (error as Error).message);
  }
  if (typeof content !== "object" || content === null)
    throw badResult(file, "expected an object");
  const result = content as Result;
  if (typeof result["request_throughput"] !== "number")
    throw badResult(file, "request_throughput: expected a number");
  return result;
}

function badResult(file: string, problem: string): OctavoError {
  return new OctavoError(
    "invalid_config",
    `--compare: ${file} is no result of --save-result: ${problem}`,
    "compare",
  );
}
